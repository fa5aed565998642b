"""`arrowslit agent`: make agents, and say which tools they may use."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from arrowslit.cli import options, speak
from arrowslit.cli.help import Group
from arrowslit.client.reach import reach
from arrowslit.errors import Error

if TYPE_CHECKING:
    from arrowslit.client.api import Api

JSON = dict[str, Any]

RESOURCE = "A resource that it may read: a URI, or a template of the server's list. May be repeated."


@click.group(cls=Group)
def command() -> None:
    """Make agents, and say which tools they may use.

    An agent may use the tools that somebody listed for it, and nothing else: a tool that its server grows later stays
    invisible to it. Every change makes a new version.

    Examples:
      arrowslit agent create stock --tunnel internal-inventory --allow check_stock
      arrowslit agent allow stock internal-inventory adjust_stock
      arrowslit agent allow stock internal-inventory --resource stock://catalogue

    Environment: ARROWSLIT_RELAY, ARROWSLIT_API_KEY or ARROWSLIT_API_KEY_FILE; with none of them the relay of this
    machine.
    """


@command.command()
@click.argument("name", required=False)
@click.option("--tunnel", metavar="TUNNEL", help="The tunnel, by name or id, behind which its server is.")
@click.option("--server", metavar="NAME", help="Which server, where the connector of that tunnel offers several.")
@click.option("--allow", multiple=True, metavar="TOOL", help="A tool that it may use. May be repeated.")
@click.option("--confirm", multiple=True, metavar="TOOL", help="One that it may use once somebody has confirmed it.")
@click.option("--resource", multiple=True, metavar="URI", help=RESOURCE)
@click.option("--prompt", multiple=True, metavar="PROMPT", help="A prompt that it may use. May be repeated.")
@click.option(
    "--allow-everything",
    metavar="SERVER",
    help="Grant this server whole, also what it grows later. For trying it out: every listing warns of it.",
)
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
    server: str | None,
    allow: tuple[str, ...],
    confirm: tuple[str, ...],
    resource: tuple[str, ...],
    prompt: tuple[str, ...],
    allow_everything: str | None,
    path: Path | None,
    as_json: bool,
    **said: str | None,
) -> None:
    """Make an agent that may use some tools of a server.

    The server is the one behind the tunnel, and gets its name. Its resources and prompts are for MCP clients, and
    granted one by one like its tools. With --file everything comes from there; NAME and the other options replace what
    the file says.

    Examples:
      arrowslit agent create stock --tunnel internal-inventory --allow check_stock
      arrowslit agent create clerk --tunnel internal-inventory --allow check_stock --model claude-opus-5-5
      arrowslit agent create try --tunnel internal-inventory --allow-everything internal-inventory
      arrowslit agent create --file agent.json

    Environment: ARROWSLIT_RELAY, ARROWSLIT_API_KEY or ARROWSLIT_API_KEY_FILE.
    """
    body: JSON = {"model": "none"} if path is None else _read(path)
    body |= {} if name is None else {"name": name}
    body |= {field: said[field] for field in ("model", "instructions", "on_unknown") if said[field] is not None}
    if said["environment"] is not None:
        body["sandbox"] = {"type": "self_hosted", "id": said["environment"]}
    if allow_everything is not None and path is None:
        tunnel = tunnel or allow_everything
    if tunnel is not None:
        listed = [*allow, *({"name": each, "confirm": True} for each in confirm)]
        behind: JSON = {"type": "tunnel", "tunnel_id": options.tunnel(tunnel), "tool_allowlist": listed}
        behind |= {} if server is None else {"server": server}
        body["mcp_servers"] = [behind | _named(resource, prompt)]
    elif allow or confirm or resource or prompt or server is not None:
        what = "--server, --allow, --confirm, --resource and --prompt"
        raise Error("usage", f"{what} speak of what is behind --tunnel")
    if allow_everything is not None:
        _grant_whole(body, allow_everything)
    if "name" not in body:
        raise Error("usage", "an agent has a name", hint="arrowslit agent create NAME …, or say it in the file")
    with reach().client() as client:
        try:
            made = client.post("agents", body=body)
        except Error as error:
            if error.code == "server_ambiguous" and path is None:
                raise Error(error.code, error.message, hint="say which one it may use: --server NAME") from error
            raise
        offered = None if server is None or tunnel is None else _offered(client, tunnel)
    speak.answer(made, _shown(made), as_json=as_json)
    if offered is not None and server not in offered:
        there = f"it has {', '.join(map(speak.plain, offered))}" if offered else "none is connected"
        speak.note(f"no connector of this tunnel offers the server {speak.plain(str(server))} at the moment: {there}")
    if tunnel is not None and not (allow or confirm or resource or prompt or allow_everything) and not as_json:
        server = made["mcp_servers"][0]["name"]
        speak.note(f"it may use no tool so far; see: arrowslit agent allow {made['name']} {server} TOOL")


def _offered(client: Api, tunnel: str) -> Sequence[str]:
    """The names of the servers that the connectors of a tunnel offer now."""
    found = client.get("tunnels", options.tunnel(tunnel), "status")
    return sorted({each["name"] for connector in found["connectors"] for each in connector["targets"]})


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
    warnings = (
        f"warning: {speak.plain(each['name'])}: {speak.plain(text)}" for each in found for text in each["warnings"]
    )
    lines = (*speak.table(["NAME", "ID", "VERSION", "TOOLS"], rows), *warnings)
    speak.answer({"data": found}, lines, as_json=as_json)


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
@click.argument("tools", nargs=-1, metavar="[TOOL]...")
@click.option("--resource", multiple=True, metavar="URI", help=RESOURCE)
@click.option("--prompt", multiple=True, metavar="PROMPT", help="A prompt. May be repeated.")
@speak.json_option
def allow(
    agent: str, server: str, tools: tuple[str, ...], resource: tuple[str, ...], prompt: tuple[str, ...], as_json: bool
) -> None:
    """Let an agent use further tools of a server. Makes a new version, unless it might already.

    Examples:
      arrowslit agent allow stock internal-inventory adjust_stock
      arrowslit agent allow stock internal-inventory --resource stock://catalogue --prompt report

    Environment: ARROWSLIT_RELAY, ARROWSLIT_API_KEY or ARROWSLIT_API_KEY_FILE.
    """
    _need_one(tools, resource, prompt)

    def allowed(toolset: JSON) -> JSON:
        return {
            "configs": _ruled(toolset["configs"], tools, enabled=True),
            "resources": list(dict.fromkeys([*toolset.get("resources", ()), *resource])),
            "prompts": list(dict.fromkeys([*toolset.get("prompts", ()), *prompt])),
        }

    _revise(agent, server, allowed, as_json=as_json)


@command.command()
@click.argument("agent")
@click.argument("server")
@click.argument("tools", nargs=-1, metavar="[TOOL]...")
@click.option("--resource", multiple=True, metavar="URI", help=RESOURCE)
@click.option("--prompt", multiple=True, metavar="PROMPT", help="A prompt. May be repeated.")
@speak.json_option
def deny(
    agent: str, server: str, tools: tuple[str, ...], resource: tuple[str, ...], prompt: tuple[str, ...], as_json: bool
) -> None:
    """Take tools of a server from an agent. Makes a new version; calls that run are not stopped.

    Example:
      arrowslit agent deny stock internal-inventory adjust_stock

    Environment: ARROWSLIT_RELAY, ARROWSLIT_API_KEY or ARROWSLIT_API_KEY_FILE.
    """
    _need_one(tools, resource, prompt)

    def denied(toolset: JSON) -> JSON:
        known = {rule["name"] for rule in toolset["configs"] if rule["enabled"]}
        resources, prompts = toolset.get("resources", []), toolset.get("prompts", [])
        unknown = [] if toolset.get("allow_everything") else [name for name in tools if name not in known]
        unknown += [name for name in resource if name not in resources]
        unknown += [name for name in prompt if name not in prompts]
        if unknown:
            speak.note(f"not among the allowed tools anyway: {', '.join(map(speak.plain, unknown))}")
        return {
            "configs": _ruled(toolset["configs"], [name for name in tools if name not in unknown], enabled=False),
            "resources": [name for name in resources if name not in resource],
            "prompts": [name for name in prompts if name not in prompt],
        }

    _revise(agent, server, denied, as_json=as_json)


@command.command()
@click.argument("agent")
@click.argument("server")
@click.argument("tool")
@click.option("--yes", is_flag=True, help="Do not ask.")
@speak.json_option
def approve(agent: str, server: str, tool: str, yes: bool, as_json: bool) -> int:
    """Let an agent use a tool as its server defines it now.

    A tool is pinned as it was when the agent first saw it. When its server changes the description, the schema or
    anything else of it, the tool is off until somebody has looked at the change: this shows it, - for what was pinned
    and + for what the server shows now, and then what else it has shown in between. It asks before it approves; without
    a terminal, and with --json, it wants --yes. It holds for this agent alone.

    Examples:
      arrowslit agent approve stock internal-inventory check_stock
      arrowslit agent approve stock internal-inventory check_stock --yes --json

    Environment: ARROWSLIT_RELAY, ARROWSLIT_API_KEY or ARROWSLIT_API_KEY_FILE.
    """
    with reach().client() as client:
        found = _definition(client, options.agent(client, agent), server, tool)
        offered = found["offered"]
        if offered is None:
            said = f"{speak.plain(tool)} is pinned as its server last showed it: there is nothing to approve"
            speak.answer(found, [said], as_json=as_json)
            return 0
        if not as_json:
            speak.answer({}, _shown_change(found), as_json=False)
        if offered["refused"] is None and not yes:
            if as_json or not sys.stdin.isatty():
                again = shlex.join(["arrowslit", "agent", "approve", agent, server, tool, "--yes"])
                raise Error(
                    "usage",
                    "nobody can be asked whether to approve it: nothing was approved",
                    hint=f"once you have seen the change: {again}",
                )
            if not click.confirm("approve it?", default=False, err=True):
                speak.note("nothing was approved")
                return 1
        meanwhile = [each["digest"] for each in found["meanwhile"]]
        body = {"server": server, "tool": tool, "digest": offered["digest"], "meanwhile": meanwhile}
        after = client.post("agents", found["agent_id"], "definitions", "approve", body=body)
    said = f"{speak.plain(tool)} of {speak.plain(server)} may be used as it is defined now"
    shown = {"before": found["approved"], "diff": found["diff"], "meanwhile": found["meanwhile"]}
    speak.answer({**after, **shown}, [said], as_json=as_json)
    return 0


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


def _shown_change(found: JSON) -> Iterator[str]:
    """What the server shows now, and what it has shown in between, beside what is pinned."""
    yield from map(speak.plain, found["diff"])
    before, meanwhile = found["approved"], found["meanwhile"]
    if before is not None and before["digest"] == found["offered"]["digest"]:
        yield "the server shows again what was pinned"
    if meanwhile:
        yield f"in between it has shown {speak.several(len(meanwhile), 'other definition')}:"
    for each in meanwhile:
        yield f"first seen {each['at']}, sha256:{each['digest']}"
        if each["refused"] is not None:
            yield f"  refused: {speak.plain(each['refused'])}"
        elif not each["diff"]:
            yield "  too long to be kept"
        yield from map(speak.plain, each["diff"])


def _definition(client: Api, agent_id: str, server: str, tool: str) -> JSON:
    """What was seen of one tool. Raises Error `definition_not_found`."""
    query = {"server": server, "tool": tool}
    for found in client.every("agents", agent_id, "definitions", query=query):
        return found
    raise Error(
        "definition_not_found",
        f"no definition of {tool!r} on {server!r} was seen for this agent",
        hint=f"one is pinned when the tool is first listed or called: arrowslit tools {agent_id} {server}",
    )


def _need_one(*named: Sequence[str]) -> None:
    if not any(named):
        raise Error("usage", "nothing is named", hint="name a tool, or --resource URI, or --prompt PROMPT")


def _named(resources: Sequence[str], prompts: Sequence[str]) -> JSON:
    """The fields of a server for its resources and prompts, if any are granted."""
    return {name: list(names) for name, names in (("resources", resources), ("prompts", prompts)) if names}


def _grant_whole(body: JSON, server: str) -> None:
    """Grant one of the body's servers whole. Raises Error `usage`."""
    short = [each for each in body.get("mcp_servers") or () if each.get("type") == "tunnel"]
    found = [each for each in short if each.get("name", server) == server and _leads_to(each, server)]
    found += [each for each in body.get("tools") or () if each.get("mcp_server_name") == server]
    if not found:
        raise Error("usage", f"the agent has no server {server!r}", hint="--allow-everything names one of its servers")
    found[0]["allow_everything"] = True


def _leads_to(entry: JSON, server: str) -> bool:
    """Whether an entry that has no other name is the server of that name at its connector, or the one behind the tunnel
    of that name, or id.
    """
    if "server" in entry:
        return "name" in entry or entry["server"] == server
    return "name" in entry or entry["tunnel_id"] in (server, options.tunnel(server))


def _revise(agent: str, server: str, revise: Callable[[JSON], JSON], *, as_json: bool) -> None:
    """Make a version in which what is granted of one server is what `revise` makes of it."""
    with reach().client() as client:
        before = client.get("agents", options.agent(client, agent))
        toolset = next((each for each in before["tools"] if each.get("mcp_server_name") == server), None)
        if toolset is None:
            names = ", ".join(each["name"] for each in before["mcp_servers"]) or "none"
            raise Error("server_not_found", f"the agent has no server {server!r}", hint=f"its servers: {names}")
        toolset |= revise(toolset)
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
    yield from (f"    resource {speak.plain(each)}" for each in toolset.get("resources", ()))
    yield from (f"    prompt {speak.plain(each)}" for each in toolset.get("prompts", ()))


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
        names += [*tools.get("resources", ()), *tools.get("prompts", ())]
        allowed = "everything" if tools.get("allow_everything") else ", ".join(names) or "nothing"
        parts.append(f"{tools.get('mcp_server_name', 'sandbox')}: {allowed}")
    return "; ".join(parts)
