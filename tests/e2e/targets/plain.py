"""An MCP server written by hand, of both eras, over stdio or HTTP: quick, and it writes down all that it hears.

    plain.py stdio|http [log=FILE] [delay=MS] [hold=FILE] [grown=FILE] [said=FILE]

Its tools do nothing but answer with the `canary` and `delay_ms` of their arguments and the tenant of their `_meta`:
`look` and `hidden` on the first page of the list, `change` on the second, and `late` too once there is a file `grown`.
What it says of each tool ends with the text in the file `said`, if there is one.
An answer comes after a random time of at most `delay`, so that answers overtake each other. `log` gets a line for each
message: JSON with `line` and `headers` (HTTP) and the `body` as it came. It says nothing before `hold` is gone. Over
HTTP every second call is answered with events. Only the standard library: it starts in 50 ms.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FLAGS = dict(word.partition("=")[::2] for word in sys.argv[2:])
LOG, HOLD, GROWN, SAID = (Path(FLAGS[name]) if name in FLAGS else None for name in ("log", "hold", "grown", "said"))
DELAY = float(FLAGS.get("delay", 0)) / 1000
PAGES = {"": ["look", "hidden"], "2": ["change"]}
TENANT = "dev.arrowslit/tenant"

Answer = Callable[[dict[str, Any]], None]


class Server:
    """Counts how many answers overtook an earlier question: that is what a shared server has to be allowed to do."""

    def __init__(self) -> None:
        self.chance = random.Random(5)
        self.asked = 0
        self.open: set[int] = set()
        self.overtook = 0

    def hear(self, message: dict[str, Any], answer: Answer) -> None:
        """Answer a request, now or later; nothing else gets an answer."""
        if "id" not in message or "method" not in message:
            return
        method, params = message["method"], message.get("params") or {}
        if method == "tools/call":
            self.asked += 1
            self.open.add(self.asked)
            seconds = params.get("arguments", {}).get("delay_ms", 0) / 1000 or self.chance.random() * DELAY
            asyncio.get_running_loop().call_later(seconds, self.called, self.asked, params, answer)
        else:
            answer(self.said(method, params))

    def called(self, number: int, params: dict[str, Any], answer: Answer) -> None:
        self.overtook += min(self.open) < number
        self.open.discard(number)
        meta = params.get("_meta", {})
        said = {
            "tool": params.get("name"),
            "canary": params.get("arguments", {}).get("canary"),
            "tenant": meta.get(TENANT),
            "alias": meta.get("tenant"),
            "overtook": self.overtook,
        }
        text = [{"type": "text", "text": json.dumps(said)}]
        answer({"result": {"content": text, "structuredContent": said, "isError": False, "resultType": "complete"}})

    def said(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        match method:
            case "initialize":
                about = {"serverInfo": {"name": "plain", "version": "1"}, "capabilities": {"tools": {}}}
                return {"result": {"protocolVersion": params.get("protocolVersion"), **about}}
            case "server/discover":
                return {"result": {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, **_COMPLETE}}
            case "tools/list":
                return {"result": listed(params.get("cursor") or "")}
            case "ping" | "logging/setLevel":
                return {"result": {}}
        return {"error": {"code": -32601, "message": "Method not found"}}


_COMPLETE = {"resultType": "complete", "ttlMs": 0, "cacheScope": "public"}


def listed(page: str) -> dict[str, Any]:
    """A page of the list of tools."""
    names = PAGES.get(page, []) + (["late"] if page and GROWN is not None and GROWN.exists() else [])
    more = SAID.read_text() if SAID is not None and SAID.exists() else ""
    tools = [
        {"name": name, "description": f"the tool {name}{more}", "inputSchema": {"type": "object"}} for name in names
    ]
    return {"tools": tools, **_COMPLETE, **({"nextCursor": "2"} if not page else {})}


def note(body: bytes, line: str = "", headers: list[str] | None = None) -> None:
    """Write down what was heard, in one write."""
    if LOG is not None:
        said = json.dumps({"line": line, "headers": headers or [], "body": body.decode("latin-1")})
        with LOG.open("a") as log:
            log.write(said + "\n")


# ---------------------------------------------------------------- stdio


async def over_stdio(server: Server) -> None:
    reader = asyncio.StreamReader(limit=1 << 24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        note(line.removesuffix(b"\n"))
        message = json.loads(line)

        def answer(said: dict[str, Any], ident: object = message.get("id")) -> None:
            sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": ident, **said}) + "\n")
            sys.stdout.flush()

        server.hear(message, answer)


# ---------------------------------------------------------------- HTTP


async def over_http(server: Server) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await exchange(server, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024, limit=1 << 24)
    print(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/mcp", flush=True)
    await listener.serve_forever()


async def exchange(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read one request and answer it."""
    line, *headers = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
    fields = {name.lower(): value.strip() for name, _, value in (header.partition(":") for header in headers)}
    body = await reader.readexactly(int(fields.get("content-length", 0)))
    note(body, line, headers)
    method = line.partition(" ")[0]
    if method == "GET":
        replay = {"jsonrpc": "2.0", "id": 77, "result": listed("")}
        later = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}
        writer.write(_EVENTS_HEAD + b"connection: close\r\n\r\n" + _event(replay, "r1") + _event(later, "r2"))
        await writer.drain()
        raise ConnectionResetError
    message = json.loads(body) if method == "POST" else {}
    if "id" not in message or "method" not in message:
        writer.write(b"HTTP/1.1 %s\r\ncontent-length: 0\r\n\r\n" % (b"202 Accepted" if body else b"200 OK"))
        return
    answered: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    server.hear(message, answered.set_result)
    said = {"jsonrpc": "2.0", "id": message["id"], **await answered}
    if message["method"] == "tools/call" and server.asked % 2:
        data = _event(said, "e1")
        writer.write(_EVENTS_HEAD + b"content-length: %d\r\n\r\n%b" % (len(data), data))
        return
    session = f"mcp-session-id: {server.chance.getrandbits(128):032x}\r\n" if message["method"] == "initialize" else ""
    data = json.dumps(said).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{session}content-length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data)


_EVENTS_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"


def _event(message: dict[str, Any], ident: str) -> bytes:
    return f"id: {ident}\nevent: message\ndata: {json.dumps(message)}\n\n".encode()


if __name__ == "__main__":
    while HOLD is not None and HOLD.exists():
        time.sleep(0.02)
    asyncio.run((over_http if sys.argv[1] == "http" else over_stdio)(Server()))
