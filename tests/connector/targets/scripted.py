"""A server over TCP that does what a test wrote down, well-behaved or not; and a Reply that remembers."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from arrowslit.connector.targets.target import Cancel, Request, Target
from arrowslit.tunnel import Headers

WAIT = 60.0  # seconds that a test waits for anything; a busy machine may take ten times as long as an idle one


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as it reached the server."""

    line: str
    headers: Mapping[str, str]
    body: bytes


class Line:
    """One connection, as the server sees it."""

    def __init__(self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server = server
        self.reader = reader
        self.writer = writer

    async def request(self) -> Seen:
        """The next whole request. Raises IncompleteReadError when the client has left."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (text.partition(":") for text in fields)}
        seen = Seen(line, headers, await self.reader.readexactly(int(headers.get("content-length", "0"))))
        self._server.requests.append(seen)
        return seen

    async def send(self, *parts: bytes) -> None:
        for part in parts:
            self.writer.write(part)
        await self.writer.drain()

    async def closed_by_client(self) -> None:
        """Return when the client has closed; whatever it still says is dropped."""
        with suppress(ConnectionError):
            await self.reader.read()

    def reset(self) -> None:
        """Close at once; a client that had more to say gets a TCP reset."""
        self.writer.transport.abort()


Script = Callable[[Line], Awaitable[None]]


@dataclass(slots=True)
class Server:
    """What the server has seen: connections opened, and whole requests."""

    port: int = 0
    connections: int = 0
    requests: list[Seen] = field(default_factory=list)
    left: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    """Released once for every connection whose script is over."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"


@asynccontextmanager
async def serving(script: Script, tls: ssl.SSLContext | None = None, port: int = 0) -> AsyncIterator[Server]:
    """A server on the loopback interface that runs `script` for each connection, and closes it afterwards."""
    server = Server()
    running: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                await script(Line(server, reader, writer))
        finally:
            writer.close()
            server.left.release()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(connected(reader, writer))
        running.add(task)
        task.add_done_callback(running.discard)

    listener = await asyncio.start_server(accepted, "127.0.0.1", port, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def answer(body: bytes = b"", status: str = "200 OK", *fields: str) -> bytes:
    """A whole response with Content-Length."""
    return "\r\n".join((f"HTTP/1.1 {status}", f"content-length: {len(body)}", *fields, "", "")).encode() + body


def always(*parts: bytes) -> Script:
    """Answer every request on a connection with these bytes."""

    async def script(line: Line) -> None:
        while True:
            await line.request()
            await line.send(*parts)

    return script


async def echo(line: Line) -> None:
    """Answer every request with its own body."""
    while True:
        await line.send(answer((await line.request()).body))


class Remembered:
    """An Asker. `news` is set whenever something arrived; `open` can be cleared to be a slow reader."""

    def __init__(self) -> None:
        self.cancel: Cancel | None = None
        """Why `ask` gives up when it is cancelled."""
        self.times_dispatched = 0
        self.ended = False
        self.error: BaseException | None = None
        self.status: int | None = None
        self.headers: Headers = ()
        self.pieces: list[bytes] = []
        self.news = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def dispatched(self) -> None:
        self.times_dispatched += 1
        self.news.set()

    def head(self, status: int, headers: Headers) -> None:
        assert self.status is None
        assert self.times_dispatched == 1
        self.status, self.headers = status, headers
        self.news.set()

    def piece(self, data: bytes) -> None:
        assert self.status is not None
        assert data
        self.pieces.append(data)
        self.news.set()

    @property
    def full(self) -> bool:
        return not self.open.is_set()

    def over(self, error: BaseException | None = None) -> None:
        assert not self.ended, "over twice"
        self.ended, self.error = True, error
        self.news.set()

    async def until(self, ready: Callable[[Remembered], bool]) -> None:
        """Return once `ready` is true of what arrived."""
        async with asyncio.timeout(WAIT):
            while not ready(self):
                self.news.clear()
                await self.news.wait()


async def ask(target: Target, request: Request, reply: Remembered) -> None:
    """One exchange, to its end: raises what it ended with. Who cancels this gives it up because of `reply.cancel`."""
    async with asyncio.TaskGroup() as tasks:
        exchange = target.begin(request, reply, tasks)
        try:
            while not reply.ended:
                reply.news.clear()
                await reply.open.wait() if reply.full else await reply.news.wait()
                exchange.resume()
        except asyncio.CancelledError:
            exchange.cancel(reply.cancel or Cancel.CALLER_LEFT)
            await reply.until(lambda reply: reply.ended)
    if reply.error is not None:
        raise reply.error


def post(body: bytes = b"{}", *headers: tuple[str, str]) -> Request:
    """A POST as the relay would pass it on."""
    return Request("POST", (("content-type", "application/json"), *headers), body, "call_1")


def get(method: str = "GET", *headers: tuple[str, str]) -> Request:
    return Request(method, (("accept", "text/event-stream"), *headers), b"", "call_1")
