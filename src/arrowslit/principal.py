"""Who is calling, and what was granted: Tenant, Principal, Grant, and the port that looks grants up."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType, Protocol

from arrowslit.errors import Error
from arrowslit.outcome import Effect
from arrowslit.tunnel import Server

Tenant = NewType("Tenant", str)
"""Whose data a call may touch: 1 to 128 characters of A-Z a-z 0-9 . _ : @ -, so that it is safe in every log and
GUC."""

_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}")
_TOOL = re.compile(r"[A-Za-z0-9_./-]{1,128}")


class Scope(StrEnum):
    """What a key is for. A key carries exactly the scopes it was created with."""

    ADMIN = "admin"  # everything under /v1, and any agent
    INVOKE = "invoke"  # the agents that the key names


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller. Made by `edge/auth.py` alone; there is no anonymous one.

    `id` is the key's id, `tenant` comes from the key and from nowhere else, `agents` are ids of the agents it may
    invoke.
    """

    id: str
    tenant: Tenant | None
    scopes: frozenset[Scope]
    agents: frozenset[str] = frozenset()

    def may_invoke(self, agent_id: str) -> bool:
        """Stage one of authorization: may this caller invoke that agent?"""
        return Scope.ADMIN in self.scopes or (Scope.INVOKE in self.scopes and agent_id in self.agents)


@dataclass(frozen=True, slots=True)
class Grant:
    """What one agent may do with one server: the tools that somebody added by name, and nothing else.

    `effects` holds what the operator declared about tools; a tool that is absent there writes. `deadline` is in
    seconds, None for the relay's default.
    """

    agent_id: str
    agent_name: str
    agent_version: int
    server: Server
    tools: frozenset[str] = frozenset()
    effects: Mapping[str, Effect] = field(default_factory=dict)
    deadline: float | None = None

    def effect(self, tool: str) -> Effect:
        """The declared effect of a tool, `write` when nobody declared one."""
        return self.effects.get(tool, Effect.WRITE)


class Grants(Protocol):
    """Where grants are looked up on the way of a call: in memory, without waiting."""

    def find(self, principal: Principal, agent: str, server: str) -> Grant:
        """The grant of `agent` (id or name) for the server of that name.

        Raises Error `agent_not_found` for an agent that does not exist, is archived, or is not the principal's to
        invoke (the three are told apart by nobody), `server_not_found` for a server that the agent does not have.
        """
        ...

    def principal(self, credential: str) -> Principal | None:
        """Who holds this API key now: None for a key that is unknown, revoked, expired, or no API key at all."""
        ...


def check_tenant(text: str) -> Tenant:
    """`text` as a Tenant, or Error `validation_error`."""
    if not _TENANT.fullmatch(text):
        raise Error(
            "validation_error",
            f"{text!r} is not a valid tenant",
            hint="a tenant has 1 to 128 characters of A-Z a-z 0-9 . _ : @ - and starts with a letter or a digit",
        )
    return Tenant(text)


def check_tool(text: str) -> str:
    """`text` as the name of one tool, or an Error: `wildcard_not_allowed` for a pattern, else `validation_error`."""
    if "*" in text or "?" in text:
        raise Error("wildcard_not_allowed", f"{text!r} is a pattern", hint="list the tools by name, one by one")
    if not _TOOL.fullmatch(text):
        raise Error(
            "validation_error",
            f"{text!r} is not a valid tool name",
            hint="a tool name has 1 to 128 characters of A-Z a-z 0-9 _ . / -",
        )
    return text
