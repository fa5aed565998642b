"""Who is calling, and what was granted: Tenant, Principal, Grant, ApiKey, and the ports to look up and change them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType, Protocol

from arrowslit.errors import Error
from arrowslit.outcome import Effect
from arrowslit.tunnel import Registration, Server, TokenRevoked, TunnelArchived, TunnelChanged
from arrowslit.uri import covers

Tenant = NewType("Tenant", str)
"""Whose data a call may touch: 1 to 128 characters of A-Z a-z 0-9 . _ : @ -, so that it is safe in every log and
GUC."""

_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}")
_TOOL = re.compile(r"[A-Za-z0-9_./-]{1,128}")
_LONGEST_PROMPT = 256


class Scope(StrEnum):
    """What a key is for. A key carries exactly the scopes it was created with."""

    ADMIN = "admin"  # everything under /v1, and any agent
    INVOKE = "invoke"  # the agents that the key names
    CONFIRM = "confirm"  # answers for a person whether a tool may run, in sessions of the key's tenant
    MINT = "mint"  # makes short-lived keys that may do no more than this one


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller. Made by `edge/auth.py` alone; there is no anonymous one.

    `id` is the key's id (`key_…`), or stands for one subject of one issuer in one tenant (`jwt_…`). `tenant` comes from
    the key or the token's claim and from nowhere else, `agents` are ids of the agents it may invoke. At `expires_at`
    (Unix seconds, None for never) it ends, with whatever it has open.
    """

    id: str
    tenant: Tenant | None
    scopes: frozenset[Scope]
    agents: frozenset[str] = frozenset()
    expires_at: float | None = None

    def may(self, scope: Scope) -> bool:
        """Whether it carries that scope. `admin` stands for every one."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def may_invoke(self, agent_id: str) -> bool:
        """Stage one of authorization: may this caller invoke that agent?"""
        return Scope.ADMIN in self.scopes or (Scope.INVOKE in self.scopes and agent_id in self.agents)

    def expired(self, now: float) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and now >= self.expires_at


@dataclass(frozen=True, slots=True)
class Grant:
    """What one agent may do with one server: the tools, resources and prompts that somebody added by name, and nothing
    else. `everything` is the whole server, for trying it out.

    `resources` are URIs, or templates of them. `effects` holds what the operator declared about tools; a tool that is
    absent there writes. `deadline` is in seconds, None for the relay's default.
    """

    agent_id: str
    agent_name: str
    agent_version: int
    server: Server
    tools: frozenset[str] = frozenset()
    effects: Mapping[str, Effect] = field(default_factory=dict)
    deadline: float | None = None
    everything: bool = False
    resources: frozenset[str] = frozenset()
    prompts: frozenset[str] = frozenset()

    @property
    def any_resource(self) -> bool:
        """Whether any resource was granted."""
        return self.everything or bool(self.resources)

    @property
    def any_prompt(self) -> bool:
        """Whether any prompt was granted."""
        return self.everything or bool(self.prompts)

    def allows(self, tool: str) -> bool:
        """Whether that tool, spelled exactly so, was granted."""
        return self.everything or tool in self.tools

    def allows_resource(self, uri: str) -> bool:
        """Whether the resource of that URI was granted."""
        return self.everything or covers(self.resources, uri)

    def allows_template(self, template: str) -> bool:
        """Whether that template, spelled exactly so, was granted."""
        return self.everything or template in self.resources

    def allows_prompt(self, prompt: str) -> bool:
        """Whether that prompt, spelled exactly so, was granted."""
        return self.everything or prompt in self.prompts

    def effect(self, tool: str) -> Effect:
        """The declared effect of a tool, `write` when nobody declared one."""
        return self.effects.get(tool, Effect.WRITE)


class Credentials(Protocol):
    """Where a credential becomes somebody: in memory, without waiting."""

    def principal(self, credential: str) -> Principal | None:
        """Who holds this credential now, None for one that stands for nobody.

        Raises Error `idp_unavailable` where that cannot be known at the moment.
        """
        ...


class Hosts(Protocol):
    """Where a server is found by its host name: in memory, without waiting."""

    def at(self, principal: Principal, name: str) -> Grant:
        """The grant for the server at `name`, in lower case and without the tunnel domain: its own name, else the place
        of its URL. The principal says which agent: one that it may invoke.

        Raises Error `server_not_found` for a name that leads to none of those, whatever else there is, and
        `agent_ambiguous` or `server_ambiguous` where it leads to several.
        """
        ...


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


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is known of an API key, without the key. Times are Unix seconds; `last_four` are its last characters.

    `minted_by` is the id of the key that made it, None where an administrator did.
    """

    id: str
    scopes: frozenset[Scope]
    agents: frozenset[str]
    tenant: Tenant | None
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    name: str | None = None
    last_four: str = ""
    minted_by: str | None = None

    def live(self, now: float) -> bool:
        """Whether it still opens a door."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


def no_such_key() -> Error:
    """What is said of a key that does not exist, and of one that is not the caller's to see."""
    return Error("key_not_found", "there is no such key", hint="see: arrowslit key list")


class KeyAdmin(Protocol):
    """What an administrator does with API keys and registration tokens. Raises Error `key_not_found`."""

    async def create(
        self,
        *,
        scopes: AbstractSet[Scope],
        agents: AbstractSet[str] = frozenset(),
        tenant: Tenant | None = None,
        expires_at: float | None = None,
        name: str | None = None,
        minted_by: str | None = None,
    ) -> tuple[ApiKey, str]:
        """A new API key and its text, which is shown this once. `agents` are ids, `minted_by` is that of an API key.

        A minted key is forgotten a week after its end. Raises Error `unauthenticated` if the key that mints was revoked
        meanwhile, `rate_limited` if ten thousand of its keys are good at this moment.
        """
        ...

    async def create_registration(
        self, pattern: str, *, expires_at: float | None = None, name: str | None = None
    ) -> tuple[Registration, str]:
        """A new registration token and its text, which is shown this once. Raises Error `validation_error`."""
        ...

    def read(self, key_id: str) -> ApiKey | Registration:
        """The key of that id, revoked or not."""
        ...

    def every(self) -> Sequence[ApiKey | Registration]:
        """All of them, revoked and expired ones too, newest first."""
        ...

    def live(self, key_id: str) -> bool:
        """Whether the API key of that id opens a door now: what a long stream may ask now and then."""
        ...

    async def revoke(self, key_id: str) -> ApiKey | Registration:
        """End it now, and with it every key that it minted. Again: the same answer."""
        ...


@dataclass(frozen=True, slots=True)
class KeyRevoked:
    """The key opens nothing any more: end what its principal (`Principal.id`) has open."""

    key_id: str


@dataclass(frozen=True, slots=True)
class AgentChanged:
    """An agent has a new version, or was archived: look its grants up anew."""

    agent_id: str


Change = KeyRevoked | AgentChanged | TunnelArchived | TunnelChanged | TokenRevoked
"""Something that was granted has been altered or taken back."""


class Changes(Protocol):
    """Where those who hold something open hear that it was taken back."""

    def on_change(self, listener: Callable[[Change], None]) -> None:
        """Call `listener` after each change, once it is on disk and every look-up sees it. It returns at once."""
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


def check_prompt(text: str) -> str:
    """`text` as the name of one prompt, or an Error: `wildcard_not_allowed` for a pattern, else `validation_error`."""
    if "*" in text:
        raise Error("wildcard_not_allowed", f"{text!r} is a pattern", hint="list the prompts by name, one by one")
    if not 1 <= len(text) <= _LONGEST_PROMPT or not text.isprintable() or text != text.strip():
        raise Error(
            "validation_error",
            f"{text[:_LONGEST_PROMPT]!r} is not a valid name of a prompt",
            hint=f"a prompt's name has 1 to {_LONGEST_PROMPT} printable characters, without space at its ends",
        )
    return text
