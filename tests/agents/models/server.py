"""A model's server on loopback that says exactly the bytes it is told to, and remembers what it was sent."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

from arrowslit.agents.models.model import JSON, Block, Model, ModelEvent, ModelRequest, Prepared, TextDelta

Say = Callable[[asyncio.StreamWriter], Awaitable[None]]

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


class Server:
    """Answers each request with what `say` does. `lines`, `heads` and `bodies` are what arrived."""

    def __init__(self, say: Say) -> None:
        self.say = say
        self.lines: list[str] = []
        self.heads: list[Mapping[str, str]] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self.left = asyncio.Event()
        """A connection has ended."""
        self.url = ""
        self._serving: set[asyncio.Task[None]] = set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A connection."""
        self._serving.add(asyncio.create_task(self._serve(reader, writer)))

    async def close(self) -> None:
        """End all connections."""
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until it ends."""
        self.connections += 1
        asked: asyncio.Queue[None] = asyncio.Queue()
        tasks = {asyncio.create_task(self._hear(reader, asked)), asyncio.create_task(self._talk(asked, writer))}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            writer.transport.abort()
            self.left.set()

    async def _hear(self, reader: asyncio.StreamReader, asked: asyncio.Queue[None]) -> None:
        while True:
            line, *fields = (await reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in fields)}
            self.lines.append(line)
            self.heads.append(headers)
            self.bodies.append(await reader.readexactly(int(headers["content-length"])))
            asked.put_nowait(None)

    async def _talk(self, asked: asyncio.Queue[None], writer: asyncio.StreamWriter) -> None:
        while True:
            await asked.get()
            await self.say(writer)


@asynccontextmanager
async def serving(say: Say, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """A server that answers with what `say` does."""
    server = Server(say)
    listener = await asyncio.start_server(server.accept, "127.0.0.1", 0, ssl=tls)
    server.url = f"{'https' if tls else 'http'}://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listener.close()
        await server.close()
        await listener.wait_closed()


def request(
    *said: JSON, turn: int = 0, tools: tuple[str, ...] = ("inventory__check_stock",), effort: str | None = None
) -> ModelRequest:
    """A request with these messages; a question if there are none."""
    question = {"role": "user", "content": [{"type": "text", "text": "Is BOLT8 in stock? ☃"}]}
    offered = tuple({"name": name, "description": name, "input_schema": {"type": "object"}} for name in tools)
    return ModelRequest(
        session_id="sesn_1",
        turn=turn,
        model="claude-opus-5-5",
        system="Be brief.",
        messages=said or (question,),
        tools=offered,
        max_tokens=1024,
        effort=effort,
    )


async def ask(model: Model, prepared: Prepared) -> list[ModelEvent]:
    """All that the model answers."""
    async with aclosing(model.ask(prepared)) as events:
        return [event async for event in events]


def spoken(events: list[ModelEvent]) -> str:
    """The text, put together from its deltas."""
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def whole(events: list[ModelEvent]) -> list[JSON]:
    """The blocks."""
    return [event.block for event in events if isinstance(event, Block)]


# ------------------------------------------------------------ what a server says


def sse(*events: Mapping[str, Any]) -> bytes:
    """Events as the Messages API writes them."""
    return b"".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n".encode() for each in events)


START = sse(
    {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "usage": {"input_tokens": 25, "cache_read_input_tokens": 7, "output_tokens": 1},
        },
    },
    {"type": "ping"},
)


def begin(block: Mapping[str, object], index: object = 0) -> bytes:
    """A block that starts."""
    return sse({"type": "content_block_start", "index": index, "content_block": block})


def more(piece: str, index: int = 0) -> bytes:
    """More text."""
    return sse({"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": piece}})


def end(index: int = 0) -> bytes:
    """A block that ends."""
    return sse({"type": "content_block_stop", "index": index})


def text(index: int, *pieces: str) -> bytes:
    """A text block in deltas."""
    return begin({"type": "text", "text": ""}, index) + b"".join(more(piece, index) for piece in pieces) + end(index)


def tool_use(index: int, id: str, name: str, *pieces: str) -> bytes:
    """A tool_use block whose input comes in these pieces of JSON."""
    deltas = [
        {"type": "content_block_delta", "index": index, "delta": {"type": "input_json_delta", "partial_json": piece}}
        for piece in pieces
    ]
    return begin({"type": "tool_use", "id": id, "name": name, "input": {}}, index) + sse(*deltas) + end(index)


def stop(reason: str | None = "end_turn") -> bytes:
    """The end of a message."""
    delta = {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 15}}
    return sse(delta, {"type": "message_stop"})


def chunk(data: bytes) -> bytes:
    """A chunk of a body."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def stream(*events: bytes, slice: int = 1 << 20) -> Say:
    """Says events as a whole answer, in chunks of `slice` bytes."""
    body = b"".join(events)

    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD)
        for at in range(0, len(body), slice):
            writer.write(chunk(body[at : at + slice]))
            await writer.drain()
        writer.write(END)
        await writer.drain()

    return say


def answer(status: str, body: bytes = b"", **headers: str) -> Say:
    """Says a response that is no stream."""
    fields = {"content-type": "application/json", "content-length": str(len(body))}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())

    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body)
        await writer.drain()

    return say


def error(kind: str, message: str) -> bytes:
    """The body of a refusal."""
    return json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()
