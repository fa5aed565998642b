"""Requests and answers of HTTP/1.1, as much of it as the proxy of these tests needs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qs


@dataclass(frozen=True, slots=True)
class Message:
    """A request or an answer. `start` is its first line; names of headers are in lower case."""

    start: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def line(self) -> str:
        """Of a request: `METHOD /path`, without the query."""
        return self.start.rpartition(" ")[0].partition("?")[0]

    @property
    def query(self) -> Mapping[str, list[str]]:
        """Of a request."""
        return parse_qs(self.start.split(" ")[1].partition("?")[2])

    @property
    def bearer(self) -> str:
        """The credential of a request."""
        return self.headers.get("authorization", "").removeprefix("Bearer ")

    @property
    def status(self) -> int:
        """Of an answer."""
        return int(self.start.split(" ")[1])

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)

    @property
    def is_stream(self) -> bool:
        """Whether events follow instead of a body."""
        return self.headers.get("content-type", "").startswith("text/event-stream")


def said(status: int, body: object = None, kind: str = "application/json", **headers: str) -> Message:
    """An answer; `body` as JSON unless it is bytes. A name in `headers` has `_` for `-`."""
    data = body if isinstance(body, bytes) else json.dumps(body if body is not None else _error(status)).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Message(f"HTTP/1.1 {status} Said", {**({"content-type": kind} if kind else {}), **named}, data)


def _error(status: int) -> object:
    return {"type": "error", "error": {"type": "api_error", "message": f"the proxy says {status}"}}


async def read_head(reader: asyncio.StreamReader) -> Message:
    start, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
    fields = (line.partition(":") for line in lines)
    return Message(start, {name.lower(): value.strip() for name, _, value in fields})


async def read_body(reader: asyncio.StreamReader, head: Message, *, to_end: bool) -> bytes:
    """Of a request (`to_end` is false) or an answer, which may last until the connection ends."""
    if head.headers.get("transfer-encoding") == "chunked":
        return b"".join([piece async for piece in chunks(reader)])
    if "content-length" in head.headers:
        return await reader.readexactly(int(head.headers["content-length"]))
    return await reader.read() if to_end else b""


async def read_request(reader: asyncio.StreamReader) -> Message:
    head = await read_head(reader)
    return replace(head, body=await read_body(reader, head, to_end=False))


async def chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size := int(await reader.readuntil(b"\r\n"), 16):
        yield (await reader.readexactly(size + 2))[:-2]


async def write(writer: asyncio.StreamWriter, message: Message) -> None:
    dropped = ("connection", "transfer-encoding", "content-length")
    fields = {name: value for name, value in message.headers.items() if name not in dropped}
    fields["connection"] = "close"
    if not message.is_stream:
        fields["content-length"] = str(len(message.body))
    lines = [message.start, *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    writer.write("\r\n".join(lines).encode("latin-1") + message.body)
    await writer.drain()
