"""A proxy on loopback that passes HTTP requests on to a server, does some of it wrongly, and remembers everything.

    async with proxy(relay.url, Fault("POST .*/ack", Does(answer=said(500)), last=1)) as between:
        ...  # the first ack is answered 500 and never arrives; whatever else is said passes

One request for each connection, HTTP/1.1 on both sides.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from tests.official.message import Message, chunks, read_body, read_head, read_request, write

WAIT = 60.0  # seconds for what a story waits for; a worker pauses up to ten between two tries
_LIMIT = 2**22  # bytes of a head


@dataclass(frozen=True, slots=True, kw_only=True)
class Does:
    """What a fault does, in this order: `hold` the request until then, pass another one on (`ask`), `answer` without
    passing anything on, `change` the answer, `frame` each event of a stream (None: leave it out), break off after so
    many events of a stream (`cut_after`); `lose` the whole answer.
    """

    hold: asyncio.Event | None = None
    ask: Callable[[Message], Message] | None = None
    answer: Message | None = None
    change: Callable[[Message], Message] | None = None
    frame: Callable[[bytes], bytes | None] | None = None
    cut_after: int | None = None
    lose: bool = False


@dataclass(slots=True)
class Fault:
    """Happens to the requests whose `METHOD /path` is matched by `fits`: from the `first` to the `last` of them."""

    fits: str
    does: Does
    first: int = 1
    last: int | None = None
    met: int = 0

    def takes(self, asked: Message) -> bool:
        """Count this request; whether it is one of those."""
        if not re.fullmatch(self.fits, asked.line):
            return False
        self.met += 1
        return self.first <= self.met and (self.last is None or self.met <= self.last)


@dataclass(slots=True)
class Exchange:
    """A request, and what it was answered: None as long as that has not come, a stream's head once that has. `theirs`
    is what the server said, None if it was not asked, and `frames` are those that it sent.
    """

    asked: Message
    answered: Message | None = None
    theirs: Message | None = None
    frames: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class Proxy:
    """What a story holds in its hands. `exchanges` are in the order in which they were asked."""

    upstream: str
    faults: list[Fault]
    url: str = ""
    exchanges: list[Exchange] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _streams: set[asyncio.Task[None]] = field(default_factory=set)

    def of(self, fits: str) -> list[Exchange]:
        """The exchanges whose `METHOD /path` is matched."""
        return [each for each in self.exchanges if re.fullmatch(fits, each.asked.line)]

    async def until(self, fits: str, count: int = 1, *, status: int | None = None, says: bytes = b"") -> None:
        """Return once so many of them were answered, with that status if one is given, and with these words."""

        def right(answered: Message | None) -> bool:
            return answered is not None and status in (None, answered.status) and says in answered.body

        async with asyncio.timeout(WAIT):
            while True:
                news = self._news
                if sum(right(each.answered) for each in self.of(fits)) >= count:
                    return
                await news.wait()

    def cut(self) -> None:
        """Break off every stream that is open."""
        for task in self._streams:
            task.cancel()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    # ------------------------------------------------------------ one request

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a client."""
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._serve(reader, writer)
        finally:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await read_request(reader)
        exchange = Exchange(asked)
        self.exchanges.append(exchange)
        self._tell()
        does = [fault.does for fault in self.faults if fault.takes(asked)]
        answering = asyncio.create_task(self._answer(exchange, does, writer))
        leaving = asyncio.create_task(reader.read())
        try:
            await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            answering.cancel()
            leaving.cancel()
            await asyncio.wait((answering, leaving))
        if not answering.cancelled():
            answering.result()
            writer.close()
            await writer.wait_closed()  # all of the answer has left

    async def _answer(self, exchange: Exchange, does: list[Does], writer: asyncio.StreamWriter) -> None:
        for each in does:
            if each.hold is not None:
                await each.hold.wait()
        own = next((each.answer for each in does if each.answer is not None), None)
        if own is not None:
            exchange.answered = own
            await write(writer, own)
            self._tell()
            return
        asked = exchange.asked
        for each in does:
            asked = asked if each.ask is None else each.ask(asked)
        address = urlsplit(self.upstream)
        reader, upstream = await asyncio.open_connection(address.hostname, address.port, limit=_LIMIT)
        try:
            await write(upstream, replace(asked, headers={**asked.headers, "host": address.netloc}))
            await self._pass(exchange, does, reader, writer)
        finally:
            upstream.transport.abort()

    async def _pass(
        self, exchange: Exchange, does: list[Does], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        head = await read_head(reader)
        answer = head if head.is_stream else replace(head, body=await read_body(reader, head, to_end=True))
        exchange.theirs = answer
        for each in does:
            answer = answer if each.change is None else each.change(answer)
        if any(each.lose for each in does):
            raise ConnectionResetError
        exchange.answered = answer
        if not answer.is_stream:
            await write(writer, answer)
            self._tell()
            return
        task = asyncio.current_task()
        assert task is not None
        self._streams.add(task)
        self._tell()
        try:
            await _stream(exchange, does, reader, writer)
        finally:
            self._streams.discard(task)


@asynccontextmanager
async def proxy(upstream: str, *faults: Fault) -> AsyncIterator[Proxy]:
    """A proxy before the server at that URL, as long as the block runs. A defect of its own is raised at the end."""
    between, running, broken = Proxy(upstream, list(faults)), set[asyncio.Task[None]](), list[Exception]()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            await between.serve(reader, writer)
        except asyncio.CancelledError:
            pass  # the proxy ends; asyncio would call that an error
        except Exception as error:
            broken.append(error)
        finally:
            running.discard(task)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=_LIMIT)
    between.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield between
    finally:
        server.close()
        ending = set(running)
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending)
    if broken:
        raise broken[0]


async def _stream(
    exchange: Exchange, does: list[Does], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Frame by frame, until either side ends it; the end of the connection ends the answer."""
    assert exchange.answered is not None
    await write(writer, exchange.answered)
    limit = min((each.cut_after for each in does if each.cut_after is not None), default=None)
    rest, events = b"", 0
    async for piece in chunks(reader):
        *frames, rest = (rest + piece).split(b"\n\n")
        for frame in frames:
            if limit is not None and events >= limit:
                raise ConnectionResetError
            exchange.frames.append(frame)
            events += frame.startswith(b"event:")
            shown: bytes | None = frame
            for each in does:
                shown = shown if shown is None or each.frame is None else each.frame(shown)
            if shown is not None:
                writer.write(shown + b"\n\n")
        await writer.drain()
