"""From `mcp_servers` and their `mcp_toolset`s to an agent's toolsets, and back to the official form."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from msgspec import UnsetType

from arrowslit import ids
from arrowslit.agent import Permission, ToolRule, Toolset
from arrowslit.agents.api.reading import to_shape
from arrowslit.agents.api.schema import ListedTool, ToolsetBody, TunnelServer, UrlServer
from arrowslit.agents.api.tools import policy
from arrowslit.errors import Error
from arrowslit.outcome import Effect
from arrowslit.principal import check_prompt, check_tool
from arrowslit.tunnel import Links, Server, Tunnel, TunnelAdmin
from arrowslit.uri import check_resource

_SERVER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")  # safe in a path and in a log


@dataclass(frozen=True, slots=True)
class _Asked:
    """One server as it was asked for. `short` if it needs no mcp_toolset, `listed` if it must not have one as well."""

    toolset: Toolset
    short: bool = False
    listed: bool = False


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads servers and tools. It knows which tunnels there are, and what is behind them now: an agent reaches nothing
    else.
    """

    tunnels: TunnelAdmin
    links: Links
    domain: str

    def toolsets(
        self,
        servers: Sequence[UrlServer | TunnelServer] | UnsetType | None,
        tools: Sequence[ToolsetBody] | UnsetType,
        before: Sequence[Toolset],
    ) -> tuple[Toolset, ...]:
        """The toolsets that a body asks for; what it does not mention (UNSET) stays as it was `before`.

        Raises Error `validation_error` (each server has exactly one toolset, and each toolset a server),
        `url_not_tunnelled`, `tunnel_not_found`, `archived`, `server_ambiguous` or `wildcard_not_allowed`.
        """
        if isinstance(servers, UnsetType):
            asked = [_Asked(Toolset(each.server, each.url)) for each in before]
        else:
            asked = [self._server(each) for each in servers or []]
        if isinstance(tools, UnsetType):
            listed = {each.toolset.server.name for each in asked if each.listed}
            kept = [show_toolset(each) for each in before if each.server.name not in listed]
            tools = [to_shape(each, ToolsetBody) for each in kept]
        return _join(asked, tools)

    def _server(self, body: UrlServer | TunnelServer) -> _Asked:
        if isinstance(body, UrlServer):
            tunnel, target = self._tunnel_of(body.url)
            return _Asked(self._toolset(body.name, tunnel, target))
        tunnel = self._usable(body.tunnel_id)
        target = None if body.server is None else ids.check_name(body.server, what="server of a connector")
        rules = tuple(_listed(each) for each in body.tool_allowlist or [])
        name = (tunnel.name if target is None else target) if body.name is None else body.name
        toolset = replace(
            self._toolset(name, tunnel, target),
            rules=_unique(rules),
            permission=Permission.ALWAYS_ALLOW if body.allow_everything else Permission.ALWAYS_ASK,
            everything=body.allow_everything,
            resources=_names(body.resources or (), check_resource),
            prompts=_names(body.prompts or (), check_prompt),
        )
        listed = (body.tool_allowlist, body.resources, body.prompts, body.allow_everything or None)
        return _Asked(toolset, short=True, listed=any(each is not None for each in listed))

    def _toolset(self, name: str, tunnel: Tunnel, target: str | None) -> Toolset:
        server = Server(_server_name(name), tunnel.id, target)
        self.links.check(server)
        return Toolset(server, f"https://{server.host}.{self.domain}/mcp")

    def _tunnel_of(self, url: str) -> tuple[Tunnel, str | None]:
        """The tunnel that a URL leads through, and the server that it names there: `NAME.domain` names none,
        `SERVER.NAME.domain` does.
        """
        refused = Error(
            "url_not_tunnelled",
            "the URL of a server leads through none of the tunnels",
            hint=f"write https://TUNNEL.{self.domain}/mcp; the tunnels: arrowslit tunnel list",
        )
        try:
            parts = urlsplit(url)
            host, plain = parts.hostname or "", parts.port is None and "@" not in parts.netloc
        except ValueError as error:
            raise refused from error
        inside = host.endswith(f".{self.domain}") and parts.scheme == "https" and plain
        if not inside or parts.path not in ("/mcp", "/mcp/") or parts.query or parts.fragment:
            raise refused
        target, _, name = host.removesuffix(f".{self.domain}").rpartition(".")
        try:
            if target:
                ids.check_name(target)
            return self._usable(ids.tunnel_id(name)), target or None
        except Error as error:
            raise refused from error

    def _usable(self, tunnel_id: str) -> Tunnel:
        tunnel = self.tunnels.read(tunnel_id)
        if tunnel.archived_at is not None:
            raise Error("archived", "the tunnel of a server is archived, which is for good", hint="name another tunnel")
        return tunnel


def show_server(toolset: Toolset) -> Mapping[str, object]:
    """One entry of `mcp_servers`."""
    return {"type": "url", "name": toolset.server.name, "url": toolset.url}


def show_toolset(toolset: Toolset) -> Mapping[str, object]:
    """One `mcp_toolset` of `tools`, every default filled in; of our fields only those that say something."""
    shown: dict[str, object] = {
        "type": "mcp_toolset",
        "mcp_server_name": toolset.server.name,
        "default_config": {
            "enabled": toolset.everything,
            "permission_policy": {"type": toolset.permission.value},
        },
        "configs": [_show_rule(rule) for rule in toolset.rules],
    }
    if toolset.everything:
        shown["allow_everything"] = True
    if toolset.deadline is not None:
        shown["deadline_ms"] = round(toolset.deadline * 1000)
    if toolset.resources:
        shown["resources"] = list(toolset.resources)
    if toolset.prompts:
        shown["prompts"] = list(toolset.prompts)
    return shown


def _show_rule(rule: ToolRule) -> Mapping[str, object]:
    shown = {"name": rule.name, "enabled": rule.enabled, "permission_policy": {"type": rule.permission.value}}
    return shown if rule.effect is Effect.WRITE else {**shown, "effect": rule.effect.value}


def _join(servers: Sequence[_Asked], tools: Sequence[ToolsetBody]) -> tuple[Toolset, ...]:
    """Each server with the toolset that speaks of it."""
    names = [asked.toolset.server.name for asked in servers]
    bodies = {body.mcp_server_name: body for body in tools}
    if len(set(names)) != len(names) or len(bodies) != len(tools):
        raise Error("validation_error", "two servers, or two toolsets, have the same name")
    if not bodies.keys() <= set(names):
        raise Error("validation_error", "an mcp_toolset names a server that is not in mcp_servers")
    return tuple(_filled(asked, bodies.get(asked.toolset.server.name)) for asked in servers)


def _filled(asked: _Asked, body: ToolsetBody | None) -> Toolset:
    if body is None:
        if not asked.short:
            raise Error(
                "validation_error",
                "a server has no mcp_toolset in tools, so none of its tools could be used",
                hint='add {"type": "mcp_toolset", "mcp_server_name": …, "configs": [{"name": …, "enabled": true}]}',
            )
        return asked.toolset
    if asked.listed:
        raise Error(
            "validation_error",
            "a server says in two places what is granted: here and in an mcp_toolset",
            hint="use one of them",
        )
    return filled(asked.toolset, body)


def filled(bare: Toolset, body: ToolsetBody) -> Toolset:
    """The toolset of the server of `bare` that `body` asks for, every default resolved.

    Raises Error `wildcard_not_allowed` or `validation_error`.
    """
    default = body.default_config
    everything = body.allow_everything
    if default is not None and default.enabled and not everything:
        raise Error(
            "wildcard_not_allowed",
            "a tunnelled server is not enabled as a whole by default",
            hint='list the tools in configs with "enabled": true, one by one',
        )
    permission = policy(None if default is None else default.permission_policy, Permission.ALWAYS_ASK)
    rules = tuple(
        ToolRule(
            check_tool(tool.name),
            everything if tool.enabled is None else tool.enabled,
            policy(tool.permission_policy, permission),
            tool.effect,
        )
        for tool in body.configs
    )
    if everything and not all(rule.enabled for rule in rules):
        raise Error("validation_error", "a tool is disabled where everything is allowed", hint="list the tools instead")
    deadline = None if body.deadline_ms is None else body.deadline_ms / 1000
    return replace(
        bare,
        rules=_unique(rules),
        permission=permission,
        everything=everything,
        deadline=deadline,
        resources=_names(body.resources, check_resource),
        prompts=_names(body.prompts, check_prompt),
    )


def _listed(tool: str | ListedTool) -> ToolRule:
    if isinstance(tool, str):
        return ToolRule(check_tool(tool), True, Permission.ALWAYS_ALLOW)
    return ToolRule(check_tool(tool.name), True, Permission.ALWAYS_ASK if tool.confirm else Permission.ALWAYS_ALLOW)


def _unique(rules: tuple[ToolRule, ...]) -> tuple[ToolRule, ...]:
    if len({rule.name for rule in rules}) != len(rules):
        raise Error("validation_error", "a tool is named twice", hint="name each tool once")
    return rules


def _names(names: Iterable[str], check: Callable[[str], str]) -> tuple[str, ...]:
    """The names, each checked, each once."""
    return tuple(dict.fromkeys(check(name) for name in names))


def _server_name(name: str) -> str:
    if not _SERVER_NAME.fullmatch(name):
        raise Error(
            "validation_error",
            f"{name!r} is not a valid server name",
            hint="a server name has 1 to 255 characters of A-Z a-z 0-9 . _ - and starts with a letter or a digit",
        )
    return name
