"""Outbox: messages that wait for one reader, so that a slow one stalls nobody else; and it may leave and come back."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from arrowslit.connector.targets.target import TooLarge

LIMIT = 64 * 1024 * 1024
"""Bytes that may wait for one reader: as much as a streamed result may have (tunnel.md, "Limits")."""

UNREAD_LIMIT = 4 * 1024 * 1024
"""Bytes that may wait for a reader who left and may come back; past it the oldest are dropped, never the last item."""


@dataclass(frozen=True, slots=True)
class Item:
    """One message for the reader. `last`: nothing follows; `code` is that of a last message which is an error.

    Without a message it is a beat: there is nothing new, and the connection should show that it lives.
    """

    message: bytes
    last: bool = False
    code: int | None = None


_BEAT = Item(b"")


class Outbox:
    """Filled without waiting, emptied by one reader at a time. It ends with a last item, plainly, or with an exception.

    Before its first reader it counts as read: that one is on its way.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._items: deque[Item] = deque()
        self._size = 0
        self._ended = False
        self._error: Exception | None = None
        self._reader: Reader | None = None
        self._left = False
        self._quiet = False
        self._waiter: asyncio.Future[None] | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will be put in."""
        return self._ended

    @property
    def left(self) -> bool:
        """Whether its reader is gone, and may come back."""
        return self._left

    @property
    def attended(self) -> bool:
        """Whether somebody reads what is put in now."""
        return not self._ended and not self._left

    def reader(self) -> Reader:
        """Read from here on. Another who still reads is told that it has ended, and what waits stays."""
        self._left = False
        self._reader = Reader(self)
        self._wake()
        return self._reader

    def leave(self, reader: Reader) -> None:
        """The reader is gone and may come back. That it is here already, as another, may be known before."""
        if self._reader is reader:
            self._reader, self._left = None, True
            self._drop_oldest()

    def put(self, item: Item) -> None:
        """Let the reader have one more message; past the limit everything is thrown away and the reader told so."""
        if self._ended:
            return
        self._quiet = False
        self._size += len(item.message)
        self._items.append(item)
        self._ended = item.last
        if self._left:
            self._drop_oldest()
        elif self._size > self._limit:
            self._ended = False
            self.fail(TooLarge(f"more than {self._limit} bytes wait for a reader that does not read"))
        self._wake()

    def beat(self, reader: Reader) -> None:
        """Called again and again: the reader gets a beat if nothing has happened since the last time."""
        if self._reader is not reader:
            return
        if self._quiet and self.attended and not self._items:
            self.put(_BEAT)
        else:
            self._quiet = True

    def end(self) -> None:
        """Nothing more comes, and no last message either."""
        self._ended = True
        self._wake()

    def fail(self, error: Exception) -> None:
        """End with `error`; what still waits is thrown away."""
        if self._ended:
            return
        self._ended, self._error = True, error
        self._items.clear()
        self._wake()

    async def peek(self, reader: Reader) -> Item | None:
        """What `Reader.peek` returns."""
        while self._reader is reader:
            if self._items:
                return self._items[0]
            if self._error is not None:
                raise self._error
            if self._ended:
                return None
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return None

    def take(self) -> None:
        """Remove what was peeked at."""
        self._quiet = False
        self._size -= len(self._items.popleft().message)

    def _drop_oldest(self) -> None:
        while self._size > UNREAD_LIMIT and len(self._items) > 1:
            self.take()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Reader:
    """Who reads an outbox, until another does."""

    __slots__ = ("_outbox",)

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    async def peek(self) -> Item | None:
        """The next message, which stays; None after the end. Raises what `Outbox.fail` was given."""
        return await self._outbox.peek(self)

    async def next(self) -> Item | None:
        """The next message, taken out; None after the end. Raises what `Outbox.fail` was given."""
        item = await self._outbox.peek(self)
        if item is not None:
            self._outbox.take()
        return item

    def leave(self) -> None:
        """Read no more, for now."""
        self._outbox.leave(self)

    def beat(self) -> None:
        """What `Outbox.beat` does."""
        self._outbox.beat(self)
