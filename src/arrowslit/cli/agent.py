"""`arrowslit agent`: make agents, and say which tools they may use."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
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
@click.argument("name", required=False)
@click.option("--tunnel", metavar="TUNNEL", help="The tunnel, by name or id, behind which its server is.")
@click.option("--allow", multiple=True, metavar="TOOL", help="A tool that it may use. May be repeated.")
@click.option("--confirm", multiple=True, metavar="TOOL", help="One that it may use once somebody has confirmed it.")
@click.option("--model", metavar="MODEL", help="The model's id, as the relay's --model knows it.")
@click.option("--instructions", metavar="TEXT", help="What it is told before every question.")
@click.option("--environment", metavar="ENV", help="Where its code runs, by name or id. Without one it runs none.")
@click.option(
    "--on-unknown",
    type=click.Choice(["stop", "tell"]),
    help="When a tool could not be asked, the relay says so and ends the turn (stop, the default), or tells the model.",
)
@click.option(
    "--file",
    "path",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="Read the whole agent from a JSON file, in the official or the short form; - for standard input.",
)
@speak.json_option
def create(
    name: str | None,
    tunnel: str | None,
    allow: tuple[str, ...],
    confirm: tuple[str, ...],
    path: Path | None,
    as_json: bool,
    **said: str | None,
) -> None:
    """Make an agent that may use some tools of a server.

    The server is the one behind the tunnel, and gets its name. With --file everything comes from there; NAME and the
    other options replace what the file says.

    Examples:
      arrowslit agent create stock --tunnel internal-inventory --allow check_stock
      arrowslit agent create clerk --tunnel internal-inventory --allow check_stock --model claude-opus-5-5
      arrowslit agent create --file agent.json

    Environment: ARROWSLIT_RELAY, ARROWSLIT_API_KEY or ARROWSLIT_API_KEY_FILE.
    """
    body: JSON = {"model": "none"} if path is None else _read(path)
    body |= {} if name is None else {"name": name}
    body |= {field: said[field] for field in ("model", "instructions", "on_unknown") if said[field] is not None}
    if said["environment"] is not None:
        body["sandbox"] = {"type": "self_hosted", "id": said["environment"]}
    if tunnel is not None:
        listed = [*allow, *({"name": each, "confirm": True} for each in confirm)]
        body["mcp_servers"] = [{"type": "tunnel", "tunnel_id": options.tunnel(tunnel), "tool_allowlist": listed}]
    elif allow or confirm:
        raise Error("usage", "--allow and --confirm name tools of the server behind --tunnel")
    if "name" not in body:
        raise Error("usage", "an agent has a name", hint="arrowslit agent create NAME …, or say it in the file")
    with reach().client() as client:
        made = client.post("agents", body=body)
    speak.answer(made, _shown(made), as_json=as_json)
    if tunnel is not None and not allow and not confirm and not as_json:
        server = made["mcp_servers"][0]["name"]
        speak.note(f"it may use no tool so far; see: arrowslit agent allow {made['name']} {server} TOOL")


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


def _read(path: Path) -> JSON:
    """The agent in a file. Raises Error `usage`."""
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text()
        said = json.loads(text)
    except (OSError, ValueError) as error:
        raise Error("usage", f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(said, dict):
        raise Error("usage", f"{path} holds no JSON object", hint='it looks like {"name": …, "mcp_servers": […]}')
    return said


def _shown(agent: JSON) -> Iterator[str]:
    archived = ", archived" if agent["archived_at"] else ""
    yield f"{speak.plain(agent['name'])} ({agent['id']}), version {agent['version']}{archived}"
    for tools in agent["tools"]:
        match tools["type"]:
            case "mcp_toolset":
                yield from _shown_server(agent, tools)
            case "custom":
                yield f"  custom tool {speak.plain(tools['name'])}, which the application runs"
            case _:
                where = agent.get("default_environment") or "the session's environment"
                yield f"  sandbox, in {where}"
                yield from (f"    {_rule(rule)}" for rule in tools["configs"] if rule["enabled"])
    yield from (f"warning: {speak.plain(text)}" for text in agent["warnings"])


def _shown_server(agent: JSON, toolset: JSON) -> Iterator[str]:
    name = toolset["mcp_server_name"]
    yield f"  server {speak.plain(name)}  at /mcp/{agent['id']}/{speak.plain(name)}"
    rules = [rule for rule in toolset["configs"] if rule["enabled"]]
    yield from (f"    {_rule(rule)}" for rule in rules)
    if not rules and not toolset.get("allow_everything"):
        yield "    no tool"


def _rule(rule: JSON) -> str:
    facts = [rule["effect"]] if "effect" in rule else []
    if rule["permission_policy"]["type"] != "always_allow":
        facts.append("asks first")
    return speak.plain(rule["name"]) + (f"  ({', '.join(facts)})" if facts else "")


def _summary(agent: JSON) -> str:
    parts = []
    for tools in agent["tools"]:
        if tools["type"] == "custom":
            parts.append(f"custom: {tools['name']}")
            continue
        names = [rule["name"] for rule in tools["configs"] if rule["enabled"]]
        allowed = "everything" if tools.get("allow_everything") else ", ".join(names) or "nothing"
        parts.append(f"{tools.get('mcp_server_name', 'sandbox')}: {allowed}")
    return "; ".join(parts)
