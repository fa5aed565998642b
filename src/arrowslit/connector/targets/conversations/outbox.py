"""Outbox: the messages that wait for one reader, so that a slow one stalls nobody else."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from arrowslit.connector.targets.target import TooLarge

LIMIT = 64 * 1024 * 1024
"""Bytes that may wait for one reader: as much as a streamed result may have (tunnel.md, "Limits")."""


@dataclass(frozen=True, slots=True)
class Item:
    """One message for the reader. `last`: nothing follows; `code` is that of a last message which is an error."""

    message: bytes
    last: bool = False
    code: int | None = None


class Outbox:
    """Filled without waiting, emptied by one reader. It ends with a last item, plainly, or with an exception."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._items: deque[Item] = deque()
        self._size = 0
        self._ended = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will be put in."""
        return self._ended

    def put(self, item: Item) -> None:
        """Let the reader have one more message; past the limit everything is thrown away and the reader told so."""
        if self._ended:
            return
        self._size += len(item.message)
        if self._size > self._limit:
            self.fail(TooLarge(f"more than {self._limit} bytes wait for a reader that does not read"))
            return
        self._items.append(item)
        self._ended = item.last
        self._wake()

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

    async def peek(self) -> Item | None:
        """The next message, which stays; None after the end. Raises what `fail` was given."""
        while not self._items:
            if self._error is not None:
                raise self._error
            if self._ended:
                return None
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._items[0]

    async def next(self) -> Item | None:
        """The next message, taken out; None after the end. Raises what `fail` was given."""
        item = await self.peek()
        if item is not None:
            self._items.popleft()
            self._size -= len(item.message)
        return item

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
