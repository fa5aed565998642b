"""A client that says exactly the bytes it is given, over TCP, and reads HTTP/1.1 answers strictly."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

WAIT = 60.0  # seconds that a test waits for anything; a busy machine may take ten times as long as an idle one


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. `headers` have lower-case names; a header that came twice is a failure of the test."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of the registry, from whichever form the door used."""
        return str(self._said[0])

    @property
    def sentence(self) -> str:
        """What is said to a person."""
        return str(self._said[1])

    @property
    def hint(self) -> str | None:
        """The next step."""
        return cast("str | None", self._said[2])

    @property
    def _said(self) -> tuple[object, object, object]:
        error = self.json["error"]
        if "data" in error:
            return error["data"]["code"], error["message"], error["data"]["hint"]
        return error["details"]["error_code"], error["message"], error["details"]["hint"]


class Wire:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *parts: bytes) -> None:
        """Say this, each part in a packet of its own."""
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()
            await asyncio.sleep(0)

    async def answer(self, *, to_head: bool = False) -> Answer:
        """The next answer; `to_head`: of a HEAD request, so without a body. An interim one (1xx) is an answer too."""
        async with asyncio.timeout(WAIT):
            status, headers = await self.head()
            return Answer(status, headers, b"" if to_head or status < 200 else await self._body(status, headers))

    async def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers of the next answer."""
        async with asyncio.timeout(WAIT):
            line, *fields = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
        version, status, _ = line.split(" ", 2)
        assert version == "HTTP/1.1", line
        headers: dict[str, str] = {}
        for field in fields:
            name, _, value = field.partition(":")
            assert name.lower() not in headers, f"{name} came twice"
            headers[name.lower()] = value.strip()
        return int(status), headers

    async def _body(self, status: int, headers: Mapping[str, str]) -> bytes:
        if status in (204, 304):
            return b""
        if headers.get("transfer-encoding") == "chunked":
            pieces = []
            while piece := await self.chunk():
                pieces.append(piece)
            return b"".join(pieces)
        if "content-length" in headers:
            return await self.reader.readexactly(int(headers["content-length"]))
        return await self.reader.read()

    async def chunk(self) -> bytes:
        """The next chunk of a body; empty at its proper end. Raises IncompleteReadError if it is broken off."""
        async with asyncio.timeout(WAIT):
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            data = await self.reader.readexactly(size + 2)
        assert data.endswith(b"\r\n")
        return data[:-2]

    async def rest(self) -> bytes:
        """Everything until the relay closes. Raises ConnectionResetError if it does so with a reset."""
        async with asyncio.timeout(WAIT):
            return await self.reader.read()

    async def is_open(self, seconds: float = 0.05) -> bool:
        """Whether the relay has neither said anything nor closed within that time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.reader.read(1)
                return False
        return True

    def half_close(self) -> None:
        """Say that nothing more will come."""
        self.writer.write_eof()

    def reset(self) -> None:
        """Leave without a word: the relay gets a TCP reset."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@asynccontextmanager
async def dial(
    port: int, *, tls: ssl.SSLContext | None = None, receive_buffer: int | None = None
) -> AsyncIterator[Wire]:
    """Connect to that port of the loopback interface. A small `receive_buffer` makes for a slow reader."""
    raw = socket.socket()
    if receive_buffer is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    raw.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", port))
    except OSError:
        raw.close()
        raise
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    name = "localhost" if tls else None
    reader, writer = await asyncio.open_connection(
        sock=raw, ssl=tls, server_hostname=name, limit=receive_buffer or 2**20
    )
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


def request(
    method: str, path: str, body: bytes = b"", *, host: str | None = "localhost", headers: tuple[str, ...] = ()
) -> bytes:
    """A request as it should be: `headers` are whole lines."""
    lines = [f"{method} {path} HTTP/1.1", *([f"Host: {host}"] if host is not None else []), *headers]
    if body or method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunked(*pieces: bytes) -> bytes:
    """A body in these chunks, and its end."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


async def until(condition: Callable[[], object]) -> None:
    """Return once `condition()` is true: for what happens in the same process and has no event of its own."""
    async with asyncio.timeout(WAIT):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)
