"""What a session may change of its agent: rephrase it, and use less of what it was granted. Never more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from msgspec import UnsetType

from arrowslit.agent import Builtin, CustomTool, Definition, Permission, ToolRule, Toolset
from arrowslit.agents.api.definitions import read_model
from arrowslit.agents.api.schema import NarrowerBody, ToolsetBody, UrlServer
from arrowslit.agents.api.tools import AskedTools, read_tools
from arrowslit.agents.api.toolsets import filled
from arrowslit.errors import Error
from arrowslit.outcome import Effect

_STRICTNESS = {Permission.ALWAYS_ALLOW: 0, Permission.AUTO: 1, Permission.ALWAYS_ASK: 2}


def narrowed(granted: Definition, body: NarrowerBody, before: Definition | None = None) -> Definition:
    """`before` (by default `granted` itself) as `body` changes it, for a session of its own.

    Model and instructions may be other ones. Servers, tools and permissions are given as officially, whole and with the
    same defaults, and are checked against `granted`, what the agent may do in the version of the session; servers that
    `tools` no longer mentions are gone. What the operator declared of a tool stays.

    Raises Error `not_granted` for anything that the agent was not granted or that asks less than the agent does,
    `not_supported`, `unknown_field`, `wildcard_not_allowed` or `validation_error`.
    """
    before = before or granted
    if body.skills:
        raise Error("not_supported", "skills are not supported", hint="leave them out")
    changed = before
    if not isinstance(body.model, UnsetType):
        changed = replace(changed, model=read_model(body.model))
    if not isinstance(body.system, UnsetType):
        changed = replace(changed, system=body.system or None)
    if not isinstance(body.mcp_servers, UnsetType):
        wanted = _servers(granted.toolsets, body.mcp_servers or [])
        given = {each.server.name: each for each in before.toolsets}
        changed = replace(changed, toolsets=tuple(given.get(each.server.name, each) for each in wanted))
    if not isinstance(body.tools, UnsetType):
        changed = _with_tools(granted, changed, read_tools(body.tools or []))
    return changed


def _servers(granted: Sequence[Toolset], bodies: Sequence[UrlServer]) -> Sequence[Toolset]:
    """The toolsets of the servers that are named, as they were granted."""
    known = {each.server.name: each for each in granted}
    for body in bodies:
        if body.name not in known or body.url.rstrip("/") != known[body.name].url:
            raise _not_granted(f"the server {body.name!r}")
    if len({body.name for body in bodies}) != len(bodies):
        raise Error("validation_error", "two servers have the same name", hint="name each server once")
    return [known[body.name] for body in bodies]


def _with_tools(granted: Definition, before: Definition, asked: AskedTools) -> Definition:
    bodies = {body.mcp_server_name: body for body in asked.servers}
    if len(bodies) != len(asked.servers):
        raise Error("validation_error", "two toolsets have the same name", hint="give each server one mcp_toolset")
    for name in bodies.keys() - {each.server.name for each in before.toolsets}:
        raise _not_granted(f"the server {name!r}")
    whole = {each.server.name: each for each in granted.toolsets}
    return replace(
        before,
        toolsets=tuple(
            _toolset(whole[each.server.name], bodies[each.server.name])
            for each in before.toolsets
            if each.server.name in bodies
        ),
        builtin=None if asked.builtin is None else _builtin(granted.builtin, asked.builtin),
        custom=_custom(granted.custom, asked.custom),
    )


def _toolset(granted: Toolset, body: ToolsetBody) -> Toolset:
    """The toolset that `body` asks for, if it is within what was granted."""
    said = {rule.name: rule for rule in granted.rules}
    if body.allow_everything and not granted.everything:
        raise _not_granted(f"every tool of {granted.server.name}")
    asked = filled(replace(granted, rules=(), everything=False, deadline=None, resources=(), prompts=()), body)
    _check_names(granted, asked)
    fallback = ToolRule("", granted.everything, granted.permission)
    rules = tuple(_rule(said.get(rule.name, fallback), rule, granted.server.name) for rule in asked.rules)
    if asked.everything:
        _check_permission(granted.permission, asked.permission, f"other tools of {granted.server.name}")
        named = {rule.name for rule in rules}
        rules += tuple(_asking(rule, asked.permission) for rule in granted.rules if rule.name not in named)
    deadline = granted.deadline if asked.deadline is None else asked.deadline
    if granted.deadline is not None and deadline is not None and deadline > granted.deadline:
        raise _not_granted(f"a longer deadline for {granted.server.name}")
    return replace(asked, rules=rules, deadline=deadline)


def _check_names(granted: Toolset, asked: Toolset) -> None:
    """Resources and prompts are for MCP clients: a session may repeat what was granted of them, or leave it out."""
    if granted.everything:
        return
    for names, those in ((asked.resources, granted.resources), (asked.prompts, granted.prompts)):
        for name in names:
            if name not in those:
                raise _not_granted(f"{name} on {granted.server.name}")


def _rule(granted: ToolRule, asked: ToolRule, server: str) -> ToolRule:
    if asked.effect not in (Effect.WRITE, granted.effect):
        raise _not_granted(f"another effect of {asked.name} on {server}")
    if asked.enabled:
        if not granted.enabled:
            raise _not_granted(f"{asked.name} on {server}")
        _check_permission(granted.permission, asked.permission, f"{asked.name} on {server}")
    return replace(asked, effect=granted.effect)


def _asking(granted: ToolRule, default: Permission) -> ToolRule:
    """A granted tool of which the session says nothing, with the stricter one of both policies."""
    return replace(granted, permission=max(granted.permission, default, key=_STRICTNESS.__getitem__))


def _builtin(granted: Builtin | None, asked: Builtin) -> Builtin:
    allowed: Mapping[str, Permission] = {} if granted is None else granted.tools()
    for name, permission in asked.tools().items():
        if name not in allowed:
            raise _not_granted(f"the sandbox's {name}")
        _check_permission(allowed[name], permission, f"the sandbox's {name}")
    return asked


def _custom(granted: Sequence[CustomTool], asked: Sequence[CustomTool]) -> tuple[CustomTool, ...]:
    """A description may be another one; what the tool takes may not."""
    schemas = {tool.name: tool.input_schema for tool in granted}
    for tool in asked:
        if schemas.get(tool.name) != tool.input_schema:
            raise _not_granted(f"the custom tool {tool.name} with this input_schema")
    return tuple(asked)


def _check_permission(granted: Permission, asked: Permission, what: str) -> None:
    if _STRICTNESS[asked] < _STRICTNESS[granted]:
        raise _not_granted(f"{what} without asking")


def _not_granted(what: str) -> Error:
    return Error(
        "not_granted",
        f"the agent was not granted {what}",
        hint="a session may use less than its agent was granted, not more; an administrator can grant it to the agent",
    )
