"""`arrowslit agent`: make agents, and say which tools they may use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click

from arrowslit.cli import options, speak
from arrowslit.cli.help import Group
from arrowslit.client.reach import reach
from arrowslit.errors import Error

JSON = dict[str, Any]


@click.group(cls=Group)
def command() -> None:
    """Make agents, and say which tools they may use.

    An agent may use the tools that somebody listed for it, and nothing else: a tool that its server grows later stays
    invisible to it. Every change makes a new version.

    Examples:
      arrowslit agent create stock --tunnel internal-inventory --allow check_stock
      arrowslit agent allow stock internal-inventory adjust_stock

    Environment: ARROWSLIT_RELAY, ARROWSLIT_API_KEY or ARROWSLIT_API_KEY_FILE; with none of them the relay of this
    machine.
    """


@command.command()
@click.argument("name")
@click.option(
    "--tunnel", metavar="TUNNEL", required=True, help="The tunnel, by name or id, behind which its server is."
)
@click.option("--allow", multiple=True, metavar="TOOL", help="A tool that it may use. May be repeated.")
@speak.json_option
def create(name: str, tunnel: str, allow: tuple[str, ...], as_json: bool) -> None:
    """Make an agent that may use some tools of a server.

    The server is the one behind the tunnel, and gets its name.

    Example:
      arrowslit agent create stock --tunnel internal-inventory --allow check_stock

    Environment: ARROWSLIT_RELAY, ARROWSLIT_API_KEY or ARROWSLIT_API_KEY_FILE.
    """
    server = {"type": "tunnel", "tunnel_id": options.tunnel(tunnel), "tool_allowlist": list(allow)}
    with reach().client() as client:
        made = client.post("agents", body={"name": name, "model": "none", "mcp_servers": [server]})
    speak.answer(made, _shown(made), as_json=as_json)
    if not allow and not as_json:
        speak.note(
            f"it may use no tool so far; see: arrowslit agent allow {name} {made['mcp_servers'][0]['name']} TOOL"
        )


@command.command("list")
@click.option("--archived", is_flag=True, help="Show archived agents too.")
@speak.json_option
def list_(archived: bool, as_json: bool) -> None:
    """List the agents, newest first.

    Example:
      arrowslit agent list

    Environment: ARROWSLIT_RELAY, ARROWSLIT_API_KEY or ARROWSLIT_API_KEY_FILE.
    """
    with reach().client() as client:
        found = list(client.every("agents", query={"include_archived": "true"} if archived else None))
    rows = [[each["name"], each["id"], f"v{each['version']}", _summary(each)] for each in found]
    speak.answer({"data": found}, speak.table(["NAME", "ID", "VERSION", "TOOLS"], rows), as_json=as_json)


@command.command()
@click.argument("agent")
@click.option("--version", type=click.IntRange(min=1), metavar="N", help="As it was in that version.")
@speak.json_option
def show(agent: str, version: int | None, as_json: bool) -> None:
    """Show an agent: its servers, and the tools that it may use.

    Example:
      arrowslit agent show stock

    Environment: ARROWSLIT_RELAY, ARROWSLIT_API_KEY or ARROWSLIT_API_KEY_FILE.
    """
    with reach().client() as client:
        query = None if version is None else {"version": version}
        found = client.get("agents", options.agent(client, agent), query=query)
    speak.answer(found, _shown(found), as_json=as_json)


@command.command()
@click.argument("agent")
@click.argument("server")
@click.argument("tools", nargs=-1, required=True, metavar="TOOL...")
@speak.json_option
def allow(agent: str, server: str, tools: tuple[str, ...], as_json: bool) -> None:
    """Let an agent use further tools of a server. Makes a new version, unless it might already.

    Example:
      arrowslit agent allow stock internal-inventory adjust_stock

    Environment: ARROWSLIT_RELAY, ARROWSLIT_API_KEY or ARROWSLIT_API_KEY_FILE.
    """
    _revise(agent, server, lambda toolset: _ruled(toolset["configs"], tools, enabled=True), as_json=as_json)


@command.command()
@click.argument("agent")
@click.argument("server")
@click.argument("tools", nargs=-1, required=True, metavar="TOOL...")
@speak.json_option
def deny(agent: str, server: str, tools: tuple[str, ...], as_json: bool) -> None:
    """Take tools of a server from an agent. Makes a new version; calls that run are not stopped.

    Example:
      arrowslit agent deny stock internal-inventory adjust_stock

    Environment: ARROWSLIT_RELAY, ARROWSLIT_API_KEY or ARROWSLIT_API_KEY_FILE.
    """

    def denied(toolset: JSON) -> list[JSON]:
        known = {rule["name"] for rule in toolset["configs"] if rule["enabled"]}
        unknown = [] if toolset.get("allow_everything") else [name for name in tools if name not in known]
        if unknown:
            speak.note(f"not among the allowed tools anyway: {', '.join(map(speak.plain, unknown))}")
        return _ruled(toolset["configs"], [name for name in tools if name not in unknown], enabled=False)

    _revise(agent, server, denied, as_json=as_json)


@command.command()
@click.argument("agent")
@speak.json_option
def archive(agent: str, as_json: bool) -> None:
    """End an agent for good. Keys that name it no longer reach anything through it.

    Example:
      arrowslit agent archive stock

    Environment: ARROWSLIT_RELAY, ARROWSLIT_API_KEY or ARROWSLIT_API_KEY_FILE.
    """
    with reach().client() as client:
        found = client.post("agents", options.agent(client, agent), "archive")
    speak.answer(found, [f"{speak.plain(found['name'])} ({found['id']}) is archived"], as_json=as_json)


def _revise(agent: str, server: str, revise: Callable[[JSON], list[JSON]], *, as_json: bool) -> None:
    """Make a version in which the rules of one server are what `revise` makes of them."""
    with reach().client() as client:
        before = client.get("agents", options.agent(client, agent))
        toolset = next((each for each in before["tools"] if each.get("mcp_server_name") == server), None)
        if toolset is None:
            names = ", ".join(each["name"] for each in before["mcp_servers"]) or "none"
            raise Error("server_not_found", f"the agent has no server {server!r}", hint=f"its servers: {names}")
        toolset["configs"] = revise(toolset)
        body = {"version": before["version"], "tools": before["tools"]}
        after = client.post("agents", before["id"], body=body)
    speak.answer(after, _shown(after), as_json=as_json)
    if after["version"] == before["version"] and not as_json:
        speak.note("nothing changed")


def _ruled(rules: Sequence[JSON], names: Sequence[str], *, enabled: bool) -> list[JSON]:
    """The rules with those for `names` enabled or disabled; what they say of a tool beside that is kept."""
    known = {rule["name"] for rule in rules}
    policy = {"type": "always_allow"}  # what the short form of an agent's servers means as well
    new = [name for name in dict.fromkeys(names) if name not in known]
    return [
        *({**rule, "enabled": enabled} if rule["name"] in names else rule for rule in rules),
        *({"name": name, "enabled": enabled, "permission_policy": policy} for name in new),
    ]


def _shown(agent: JSON) -> Iterator[str]:
    archived = ", archived" if agent["archived_at"] else ""
    yield f"{speak.plain(agent['name'])} ({agent['id']}), version {agent['version']}{archived}"
    for toolset in agent["tools"]:
        name = toolset["mcp_server_name"]
        yield f"  server {speak.plain(name)}  at /mcp/{agent['id']}/{speak.plain(name)}"
        rules = [rule for rule in toolset["configs"] if rule["enabled"]]
        yield from (f"    {speak.plain(rule['name'])}{_effect(rule)}" for rule in rules)
        if not rules and not toolset.get("allow_everything"):
            yield "    no tool"
    yield from (f"warning: {speak.plain(text)}" for text in agent["warnings"])


def _effect(rule: JSON) -> str:
    return f"  ({rule['effect']})" if "effect" in rule else ""


def _summary(agent: JSON) -> str:
    parts = []
    for toolset in agent["tools"]:
        names = [rule["name"] for rule in toolset["configs"] if rule["enabled"]]
        allowed = "everything" if toolset.get("allow_everything") else ", ".join(names) or "nothing"
        parts.append(f"{toolset['mcp_server_name']}: {allowed}")
    return "; ".join(parts)
