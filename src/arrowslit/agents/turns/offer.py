"""PURE: what a model is offered of a session's tools, under which names, and what a name that it says stands for."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from arrowslit.agent import Definition, Permission, ToolRule, Toolset
from arrowslit.agents.models.model import JSON
from arrowslit.agents.servers.tool import ToolDefinition
from arrowslit.agents.sessions.state import CallKind
from arrowslit.agents.turns.sandbox_tools import SANDBOX

LONGEST_NAME = 64  # of a tool, Messages API: [a-zA-Z0-9_-]{1,64}

_UNSAFE = re.compile(r"[^a-zA-Z0-9_-]")


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool that the model may use. `shown` is its name toward the model, `name` the one of its server or worker."""

    shown: str
    kind: CallKind
    name: str
    server: str | None
    permission: Permission
    description: str
    input_schema: JSON

    def definition(self) -> JSON:
        """As the Messages API has it."""
        return {"name": self.shown, "description": self.description, "input_schema": self.input_schema}


@dataclass(frozen=True, slots=True)
class Offer:
    """The tools of one model request, no name twice. `missing` names servers of which nobody knows the tools now."""

    tools: tuple[Tool, ...] = ()
    missing: tuple[str, ...] = ()

    def find(self, shown: str) -> Tool | None:
        """The tool of that name; None for one that was not offered, however much it looks like one."""
        return next((tool for tool in self.tools if tool.shown == shown), None)


def offer(definition: Definition, listed: Mapping[str, Sequence[ToolDefinition]], *, sandbox: bool) -> Offer:
    """What a session's own definition enables, of what there is.

    `listed` has the tools of each server that could be asked, by its name, as the gate lets them through; `sandbox` is
    whether the session has an environment. A tool that a server grew later, or that the session's definition does not
    enable, is not offered, whatever the list says.
    """
    taken: dict[str, Tool] = {}
    for tool in (*_sandbox(definition, sandbox), *_custom(definition), *_listed(definition, listed)):
        shown = tool.shown if tool.shown not in taken else _hashed(tool.kind, tool.server, tool.name)
        if shown not in taken:
            taken[shown] = replace(tool, shown=shown)
    missing = (name for name in servers(definition) if name not in listed)
    return Offer(tuple(taken.values()), tuple(missing))


def servers(definition: Definition) -> Mapping[str, Toolset]:
    """The servers of which at least one tool is enabled, by name."""
    usable = (each for each in definition.toolsets if each.everything or any(rule.enabled for rule in each.rules))
    return {each.server.name: each for each in usable}


def shown_name(kind: CallKind, server: str | None, name: str) -> str:
    """The name of a tool toward the model, [a-zA-Z0-9_-]{1,64}: `{server}__{tool}` for one of an MCP server.

    Two tools get one name only if they are one tool: where cutting, replacing or joining could make two alike, a hash
    stands at the end.
    """
    if kind is not CallKind.MCP or server is None:
        plain = name
    else:
        plain = f"{server}__{name}"
        if plain.find("__") != len(server) or plain.count("__") > 1 or name.startswith("_"):
            return _hashed(kind, server, name)
    return plain if plain and plain == _safe(plain) else _hashed(kind, server, name)


def meant(definition: Definition, shown: str) -> tuple[CallKind, str | None, str]:
    """What a name that was not offered stands for, as well as one can tell: kind, server and name of a refused call."""
    for name in (toolset.server.name for toolset in definition.toolsets):
        if shown.startswith(f"{name}__"):
            return CallKind.MCP, name, shown.removeprefix(f"{name}__")
    return CallKind.SANDBOX, None, shown


def rule(toolset: Toolset, name: str) -> ToolRule:
    """What a session's definition says about one tool of a server. Without a word of its own it is not usable, unless
    the whole server was granted.
    """
    said = next((rule for rule in toolset.rules if rule.name == name), None)
    return said or ToolRule(name, toolset.everything, toolset.permission)


def _sandbox(definition: Definition, there: bool) -> Iterator[Tool]:
    enabled = definition.builtin.tools() if definition.builtin and there else {}
    for name, permission in enabled.items():
        described = SANDBOX[name]
        yield Tool(name, CallKind.SANDBOX, name, None, permission, described.description, described.input_schema)


def _custom(definition: Definition) -> Iterator[Tool]:
    for tool in definition.custom:
        shown = shown_name(CallKind.CUSTOM, None, tool.name)
        schema = tool.input_schema
        yield Tool(shown, CallKind.CUSTOM, tool.name, None, Permission.ALWAYS_ALLOW, tool.description, schema)


def _listed(definition: Definition, listed: Mapping[str, Sequence[ToolDefinition]]) -> Iterator[Tool]:
    for server, toolset in servers(definition).items():
        for tool in listed.get(server, ()):
            said = rule(toolset, tool.name)
            if said.enabled:
                shown = shown_name(CallKind.MCP, server, tool.name)
                schema = {**tool.input_schema, "type": "object"}
                yield Tool(shown, CallKind.MCP, tool.name, server, said.permission, tool.description, schema)


def _safe(name: str) -> str:
    return _UNSAFE.sub("_", name)[:LONGEST_NAME]


def _hashed(kind: CallKind, server: str | None, name: str) -> str:
    digest = hashlib.sha256("\0".join((kind.value, server or "", name)).encode()).hexdigest()[:8]
    return f"{_UNSAFE.sub('_', f'{server}__{name}' if server else name)[: LONGEST_NAME - 9]}_{digest}"
