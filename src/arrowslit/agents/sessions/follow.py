"""Follow: readers of a session's events as they come. All share one short tail; who falls behind it reads the store.

So a stream that nobody reads costs a number, and an event for two hundred streams is encoded once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Self

from arrowslit.agents.sessions.frames import Preview, frame
from arrowslit.agents.sessions.state import DELETED, TERMINATED
from arrowslit.errors import Error
from arrowslit.session import Event

MAX_ITEMS = 256  # of a tail; the deltas of a few seconds
MAX_BYTES = 1024 * 1024  # of a tail; its newest item may be longer
PAGE = 100  # events that a reader who fell behind takes from the store at once

ReadAfter = Callable[[int], Awaitable[Sequence[Event]]]
"""seq -> the next events after it, at most PAGE."""


@dataclass(frozen=True, slots=True)
class Item:
    """An event or a preview, and its frame, which all readers share."""

    content: Event | Preview
    frame: bytes


class Tail:
    """The newest events and previews of one session, and who follows it. Positions count them from 0."""

    def __init__(self) -> None:
        self.first = 0
        self.newest_seq = 0
        self.followers: set[Follower] = set()
        self._items: deque[Item] = deque()
        self._bytes = 0

    @property
    def end(self) -> int:
        """The position of the next item."""
        return self.first + len(self._items)

    def add(self, content: Event | Preview) -> None:
        """Show it to everybody."""
        item = Item(content, frame(content))
        self._items.append(item)
        self._bytes += len(item.frame)
        while len(self._items) > MAX_ITEMS or (self._bytes > MAX_BYTES and len(self._items) > 1):
            self._bytes -= len(self._items.popleft().frame)
            self.first += 1
        if isinstance(content, Event):
            self.newest_seq = content.seq
        for follower in self.followers:
            follower.published(content)

    def since(self, position: int) -> Iterator[Item]:
        """The items from that position on, which is not before `first`."""
        return islice(self._items, position - self.first, None)

    def position_after(self, seq: int) -> int | None:
        """Where the events after `seq` begin, None if some of them are no longer here."""
        position = self.first
        expected = self.newest_seq + 1
        for offset, item in enumerate(self._items):
            if isinstance(item.content, Event):
                expected = min(expected, item.content.seq)
                if item.content.seq <= seq:
                    position = self.first + offset + 1
        return position if seq >= expected - 1 else None


class Follower:
    """A reader of one session, from now on. Made by `Log.follow`; a context manager that ends with its reader.

    `deltas` are the types of events whose previews are wanted, `reader` is the id of whoever reads. `ended` says that
    nothing more will come.
    """

    def __init__(
        self,
        tail: Tail,
        read: ReadAfter,
        seen: Callable[[int], None],
        leave: Callable[[Follower], None],
        deltas: frozenset[str],
        reader: str | None = None,
    ) -> None:
        self.ended = False
        self.reader = reader
        self._cut = False
        self._tail = tail
        self._read = read
        self._seen = seen
        self._leave = leave
        self._deltas = deltas
        self._position = tail.end
        self._seq: int | None = None  # of the last event that was taken; unknown before the first one is published
        self._previewed: set[str] = set()
        self._woken = asyncio.Event()
        tail.followers.add(self)

    def published(self, content: Event | Preview) -> None:
        """There is something to take."""
        if self._seq is None and isinstance(content, Event):
            self._seq = content.seq - 1
        self._woken.set()

    def nudge(self) -> None:
        """Let `take` return, with nothing if there is nothing."""
        self._woken.set()

    def end(self) -> None:
        """Let the reader go after what it has taken."""
        self.ended = True
        self._woken.set()

    def cut(self) -> None:
        """The reader may read no further: what it has not taken by now it does not get."""
        self._cut = True
        self.end()

    async def take(self) -> Sequence[Item]:
        """What came since the last time, in order: waits for something, or for a nudge."""
        if self._position == self._tail.end:
            await self._woken.wait()
        self._woken.clear()
        items = await self._next()
        if self._cut:
            return []
        for item in items:
            if isinstance(item.content, Event):
                self._seq = item.content.seq
                self._seen(item.content.seq)
                self.ended = self.ended or item.content.type in (TERMINATED, DELETED)
        return items

    async def _next(self) -> Sequence[Item]:
        if self._position < self._tail.first and self._seq is None:
            self._previewed.clear()
            self._position = self._tail.first  # previews, and no event yet
        if self._position >= self._tail.first:
            items = self._unbroken()
            if items or self._position == self._tail.end:
                return [item for item in items if self._wanted(item.content)]
        self._previewed.clear()  # of these, pieces are missing
        seq = self._seq or 0
        events = await self._stored(seq)
        if not events:  # only previews were missed, or the session was deleted: the tail has all there is
            self._position, self._seq = self._tail.first, None
            return []
        position = self._tail.position_after(events[-1].seq)
        if position is not None:
            self._position = position
        return [Item(event, frame(event)) for event in events]

    def _unbroken(self) -> list[Item]:
        """The items of the tail up to a gap: an event that was stored and never told, for its writer was cut off."""
        items, seq = list[Item](), self._seq
        for item in self._tail.since(self._position):
            if isinstance(item.content, Event):
                if seq is not None and item.content.seq > seq + 1:
                    break
                seq = item.content.seq
            items.append(item)
        self._position += len(items)
        return items

    async def _stored(self, seq: int) -> Sequence[Event]:
        try:
            return await self._read(seq)
        except Error as error:
            if error.code != "session_not_found":
                raise
            return ()

    def _wanted(self, content: Event | Preview) -> bool:
        if isinstance(content, Event):
            self._previewed.discard(content.id)
            return True
        if content.text is None and content.event_type in self._deltas:
            self._previewed.add(content.event_id)
        return content.event_id in self._previewed

    def close(self) -> None:
        """Follow no longer."""
        self._tail.followers.discard(self)
        self._leave(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    async def __aiter__(self) -> AsyncIterator[Event | Preview]:
        while not self.ended:
            for item in await self.take():
                yield item.content
