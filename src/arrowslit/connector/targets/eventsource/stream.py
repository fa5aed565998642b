"""EventStream: one connection to a server of the 2024 transport, which is one MCP session there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from arrowslit.connector.targets.eventsource.doors import Doors, posted
from arrowslit.connector.targets.processes.channel import Listener
from arrowslit.connector.targets.target import Lost, NotStarted
from arrowslit.connector.targets.upstream.connection import Head
from arrowslit.connector.targets.upstream.forwarding import RequestHeads
from arrowslit.connector.targets.upstream.pool import Pool
from arrowslit.connector.targets.upstream.reading import Reading, ask
from arrowslit.protocol import jsonrpc, media, sse

logger = logging.getLogger(__name__)

OPEN_LIMIT = 10.0  # seconds until the server has said where to post
IN_ORDER = 1.0
"""Seconds for which a message waits until the one before it was taken. Longer would be for ever with a server that
answers a request first and takes it afterwards, if it asks its client something in between."""

MOST_UNTAKEN = 64  # messages on their way at once
ANSWER_LIMIT = 64 * 1024  # bytes of what a server says to a message that it takes, which nobody reads


class EventStream:
    """A Channel. `run` is its whole life, and `started` tells of its beginning: None, or why it cannot be opened."""

    def __init__(self, doors: Doors, pool: Pool, listener: Listener) -> None:
        self.started: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self._doors = doors
        self._pool = pool
        self._listener = listener
        self._heads: RequestHeads | None = None
        self._why = "was closed"
        self._over = asyncio.Event()
        self._gone = asyncio.Event()
        self._outgoing: asyncio.Queue[bytes] = asyncio.Queue()
        self._untaken: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()

    @property
    def usable(self) -> bool:
        """Channel: whether it is open, as far as is known."""
        return self._heads is not None and not self._over.is_set()

    def send(self, line: bytes) -> None:
        """Channel: post one message, after those before it."""
        if self.usable:
            self._outgoing.put_nowait(line)
            if self._outgoing.qsize() >= MOST_UNTAKEN:
                self._flowing.clear()

    async def drain(self) -> None:
        """Channel: wait while many messages are on their way."""
        await self._flowing.wait()

    async def close(self) -> None:
        """Channel: hang up."""
        self._stop()
        await self._gone.wait()

    def last_words(self) -> str:
        """Channel: such a server says nothing beside the protocol that we could hear."""
        return ""

    async def run(self) -> None:
        """Open it, listen and post until either ends, and tell the listener."""
        try:
            async with self._opened() as (reading, events):
                self.started.set_result(None)
                await self._live(reading, events)
        except (NotStarted, Lost, TimeoutError) as error:
            self._fail(error)
        finally:
            self._stop()
            self._gone.set()
        if self.started.result() is None:
            self._listener.closed(self._why)

    def _fail(self, error: NotStarted | Lost | TimeoutError) -> None:
        """Say why it could not be opened, or remember why it ended; no address of ours in it, which our log has."""
        told = f"said nothing within {OPEN_LIMIT:.0f} s" if isinstance(error, TimeoutError) else error.told
        if self.started.done():
            self._why = told
        else:
            logger.warning("%s: %s", self._doors.endpoint, error)
            self.started.set_result(NotStarted(told))

    async def _live(self, reading: Reading, events: sse.Events) -> None:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(self._listen(reading, events)), tasks.create_task(self._post(tasks))]
            await self._over.wait()
            for task in (*running, *self._untaken):
                task.cancel()

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[tuple[Reading, sse.Events]]:
        """A connection on which the server has said where to post. Raises NotStarted, Lost, TimeoutError."""
        connection = await self._pool.take()
        try:
            events = sse.Events()
            async with asyncio.timeout(OPEN_LIMIT):
                head, reading = await ask(connection, self._doors.listen(), b"")
                _check(head)
                while self._heads is None:
                    self._hear(events, await self._read(reading))
            yield reading, events
        finally:
            self._pool.give_back(connection)

    async def _read(self, reading: Reading) -> bytes:
        data = await reading.read()
        if not data:
            raise Lost("ended its event stream")
        return data

    def _hear(self, events: sse.Events, data: bytes) -> None:
        """Pass messages on; the first event names the address for ours. Raises Lost and NotStarted."""
        try:
            heard = events.feed(data)
        except sse.TooLong as error:
            raise Lost(f"sent too much at once: {error}") from error
        for event in heard:
            if event.event == "endpoint" and self._heads is None:
                self._heads = self._doors.post_to(event.data.decode(errors="replace"))
            elif event.data and event.event in (None, "", "message") and self._heads is not None:
                self._listener.message(event.data)

    async def _listen(self, reading: Reading, events: sse.Events) -> None:
        try:
            while True:
                self._hear(events, await self._read(reading))
        except Lost as error:
            self._end(str(error))

    async def _post(self, tasks: asyncio.TaskGroup) -> None:
        """Post what is to be sent, one after the other, but no message waits for ever for the one before it."""
        while True:
            line = await self._outgoing.get()
            while len(self._untaken) >= MOST_UNTAKEN:
                await asyncio.wait(self._untaken, return_when=asyncio.FIRST_COMPLETED)
            self._flowing.set()
            posting = tasks.create_task(self._post_one(line))
            self._untaken.add(posting)
            posting.add_done_callback(self._untaken.discard)
            await asyncio.wait([posting], timeout=IN_ORDER)

    async def _post_one(self, line: bytes) -> None:
        assert self._heads is not None
        try:
            connection = await self._pool.take()
            try:
                head, reading = await ask(connection, posted(self._heads, line), line)
                if not 200 <= head.status <= 299:
                    self._end(f"refused a message with status {head.status}")
                size = 0
                while (piece := await reading.read()) and (size := size + len(piece)) <= ANSWER_LIMIT:
                    pass
            finally:
                self._pool.give_back(connection)
        except (NotStarted, Lost) as error:
            self._end(f"could not be sent a message: {error.told}")

    def _end(self, why: str) -> None:
        if not self._over.is_set():
            self._why = why
            logger.warning("%s %s", self._doors.endpoint, why)
            self._stop()

    def _stop(self) -> None:
        self._over.set()
        self._flowing.set()  # nobody need wait for it any more


def _check(head: Head) -> None:
    """Raises NotStarted for an answer that is no event stream, or one that cannot be read."""
    try:
        streams = media.streams_events(head.status, head.headers)
    except jsonrpc.Refused as refused:
        raise NotStarted(refused.message) from refused
    if head.status != 200 or not streams:
        kind = dict(head.headers).get("content-type", "")
        raise NotStarted(
            f"answered with status {head.status} and {kind or 'no content type'}, not with an event stream"
        )
