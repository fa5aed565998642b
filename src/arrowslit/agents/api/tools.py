"""The tools of an agent that are no server's: those of the sandbox and those that the application runs itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from arrowslit.agent import SANDBOX_TOOLS, Builtin, CustomTool, Permission, ToolRule
from arrowslit.agents.api.reading import to_shape
from arrowslit.agents.api.schema import (
    BuiltinBody,
    BuiltinToolBody,
    CustomBody,
    ObjectSchema,
    PolicyBody,
    ToolsetBody,
)
from arrowslit.errors import Error

BUILTIN = "agent_toolset_20260401"
WEB_TOOLS = ("web_fetch", "web_search")
"""Tools of the official toolset that run on Anthropic's side, and nowhere here."""


@dataclass(frozen=True, slots=True)
class AskedTools:
    """What the `tools` of a body ask for."""

    servers: tuple[ToolsetBody, ...] = ()
    builtin: Builtin | None = None
    custom: tuple[CustomTool, ...] = ()


def read_tools(bodies: Sequence[Mapping[str, object]]) -> AskedTools:
    """The `tools` of a body, sorted by their kind.

    Raises Error `not_supported` for a kind or a tool that does not exist here, `unknown_field` or `validation_error`.
    """
    servers, builtins, custom = [], [], []
    for body in bodies:
        match body.get("type"):
            case "mcp_toolset":
                servers.append(to_shape(body, ToolsetBody))
            case "agent_toolset_20260401":
                builtins.append(_builtin(to_shape(body, BuiltinBody)))
            case "custom":
                custom.append(_custom(to_shape(body, CustomBody)))
            case str(other):
                raise Error(
                    "not_supported",
                    f"there are no tools of the type {other[:64]!r} here",
                    hint=f"the types of tools are mcp_toolset, {BUILTIN} and custom",
                )
            case _:
                raise Error("validation_error", "a tool has no type", hint=f"mcp_toolset, {BUILTIN} or custom")
    if len(builtins) > 1:
        raise Error("validation_error", f"{BUILTIN} is given twice", hint="give it once")
    builtin = builtins[0] if builtins else None
    taken = [tool.name for tool in custom] + ([*SANDBOX_TOOLS, *WEB_TOOLS] if builtin else [])
    if len(set(taken)) != len(taken):
        raise Error("validation_error", "two tools have the same name", hint="rename the custom one")
    return AskedTools(tuple(servers), builtin, tuple(custom))


def show_builtin(builtin: Builtin) -> Mapping[str, object]:
    """The toolset with every default filled in. Where tools are enabled by default, it says that those of the web are
    not.
    """
    default = {"enabled": builtin.enabled, "permission_policy": {"type": builtin.permission.value}}
    web = tuple(ToolRule(name, False, builtin.permission) for name in WEB_TOOLS) if builtin.enabled else ()
    return {
        "type": BUILTIN,
        "default_config": default,
        "configs": [
            {
                "type": rule.name,
                "name": rule.name,
                "enabled": rule.enabled,
                "permission_policy": {"type": rule.permission.value},
            }
            for rule in builtin.rules + web
        ],
    }


def show_custom(tool: CustomTool) -> Mapping[str, object]:
    """The official object."""
    return {
        "type": "custom",
        "name": tool.name,
        "description": tool.description,
        "input_schema": tool.input_schema,
    }


def policy(body: PolicyBody | None, default: Permission) -> Permission:
    """What a policy says, or `default` where there is none."""
    return default if body is None else body.type


def _builtin(body: BuiltinBody) -> Builtin:
    default = body.default_config
    enabled = True if default is None or default.enabled is None else default.enabled
    permission = policy(None if default is None else default.permission_policy, Permission.ALWAYS_ALLOW)
    if len({tool.name for tool in body.configs}) != len(body.configs):
        raise Error("validation_error", "a tool is named twice", hint="name each tool once")
    rules = tuple(_rule(tool, enabled, permission) for tool in body.configs)
    return Builtin(enabled, permission, tuple(rule for rule in rules if rule.name in SANDBOX_TOOLS))


def _rule(body: BuiltinToolBody, enabled: bool, permission: Permission) -> ToolRule:
    if body.type not in (None, body.name):
        raise Error("validation_error", "a tool has a type other than its name", hint="leave the type out")
    of_the_web = (
        body.allowed_domains,
        body.blocked_domains,
        body.max_content_tokens,
        body.url_sources,
        body.user_location,
    )
    if (body.enabled and body.name in WEB_TOOLS) or any(each is not None for each in of_the_web):
        raise Error(
            "not_supported",
            "web_fetch and web_search do not run here",
            hint='leave them out, or set "enabled": false; a sandbox reaches the hosts that its worker allows',
        )
    return ToolRule(
        body.name, enabled if body.enabled is None else body.enabled, policy(body.permission_policy, permission)
    )


def _custom(body: CustomBody) -> CustomTool:
    to_shape(body.input_schema, ObjectSchema)
    return CustomTool(body.name, body.description, body.input_schema)
