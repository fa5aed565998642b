"""`arrowslit tools` and `arrowslit call`: look and call as an agent would."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from arrowslit.cli import arguments, options, speak
from arrowslit.cli.help import Command
from arrowslit.client.reach import reach

if TYPE_CHECKING:
    from arrowslit.cli.asking import ServerError


@click.command(cls=Command)
@click.argument("agent")
@click.argument("server")
@speak.json_option
def tools(agent: str, server: str, as_json: bool) -> int:
    """List the tools of a server that an agent may use.

    Example:
      arrowslit tools stock internal-inventory

    Environment:
      ARROWSLIT_API_KEY   whose call it is: a key made with --agent and --tenant (or ARROWSLIT_API_KEY_FILE)
      ARROWSLIT_RELAY     the relay; else the one on this machine
    """
    from arrowslit.cli.asking import Asking, ServerError  # an MCP client is slow to import

    try:
        found = Asking(reach(), agent, server).tools()
    except ServerError as error:
        return _server_failed(error, as_json=as_json)
    data = {"tools": [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in found]}
    speak.answer(data, _listed(data["tools"]), as_json=as_json)
    if not found and not as_json:
        speak.note("the agent may use no tool of this server, or all are off because their definitions changed")
        speak.note(f"see: arrowslit agent show {agent}")
    return 0


@click.command(cls=Command)
@click.argument("agent")
@click.argument("server")
@click.argument("tool")
@click.argument("pairs", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("--deadline", metavar="DURATION", help="How long it may take: 500ms, 10s, 5m. At most 1h.")
@speak.json_option
def call(agent: str, server: str, tool: str, pairs: tuple[str, ...], deadline: str | None, as_json: bool) -> int:
    """Call a tool as an agent would.

    Prints what the tool answers. Values are read by the tool's schema: a string as it stands, numbers, true and false,
    objects and lists in JSON. Exits with 1 if the call was refused, did not arrive, or the tool reports an error, and
    with 3 if nobody knows whether it was executed: look, before you ask again.

    Examples:
      arrowslit call stock internal-inventory check_stock sku=A100
      arrowslit call stock internal-inventory check_stock sku=A100 --deadline 2s --json

    Environment:
      ARROWSLIT_API_KEY   whose call it is: a key made with --agent and --tenant (or ARROWSLIT_API_KEY_FILE)
      ARROWSLIT_RELAY     the relay; else the one on this machine
    """
    from arrowslit.cli.asking import Asking, ServerError  # an MCP client is slow to import

    asking = Asking(reach(), agent, server, None if deadline is None else options.seconds(deadline))
    try:
        result = asking.call(tool, list(pairs))
    except ServerError as error:
        return _server_failed(error, as_json=as_json)
    said = result.model_dump(mode="json", by_alias=True, exclude_none=True)
    if result.is_error and not as_json:
        speak.note("the tool reports an error:")
    speak.answer({"outcome": "result", "result": said}, _content(said), as_json=as_json)
    return 1 if result.is_error else 0


def _server_failed(error: ServerError, *, as_json: bool) -> int:
    """The server's own JSON-RPC error: an answer like any other, but not the one that was asked for."""
    if as_json:
        said = {"code": error.code, "message": error.message, "data": error.data}
        speak.answer({"outcome": "result", "error": said}, (), as_json=True)
    else:
        speak.note(f"the server answers with an error: {speak.plain(error.message)}")
    return 1


def _listed(found: list[dict[str, Any]]) -> Iterator[str]:
    for tool in found:
        yield speak.plain(arguments.signature(tool["name"], tool["inputSchema"]))
        description = tool.get("description", "").strip().splitlines()
        if description:
            yield f"    {speak.plain(description[0])}"


def _content(result: dict[str, Any]) -> Iterator[str]:
    """What a person reads of a result: its texts, and of the rest what it is; the structured form if there is no text.

    A server may send any character; only line ends and tabs reach the terminal as they are.
    """
    texts = 0
    for block in result.get("content", ()):
        texts += block["type"] == "text"
        yield speak.plain(block["text"], keep="\n\t") if block["type"] == "text" else f"[{_kind(block)}]"
    if not texts and "structuredContent" in result:
        yield json.dumps(result["structuredContent"], indent=2)


def _kind(block: dict[str, Any]) -> str:
    inner = block.get("resource", block)
    words = [block["type"], inner.get("mimeType", ""), inner.get("uri", "")]
    return speak.plain(" ".join(word for word in words if word))
