"""Reading: the answer to one request, for a coroutine that waits for it."""

from __future__ import annotations

import asyncio

from arrowslit.connector.targets.target import Lost
from arrowslit.connector.targets.upstream.connection import Connection, Head

HIGH_WATER = 64 * 1024  # bytes of a body that may wait here before reading from the socket pauses


async def ask(connection: Connection, head: bytes, body: bytes) -> tuple[Head, Reading]:
    """Write one request; the head of its answer, and what reads the rest. Raises Lost as `Reading.read` does."""
    reading = Reading(connection)
    connection.ask(head, body, reading)
    return await reading.head(), reading


class Reading:
    """A Hearer that keeps what it is told until it is read."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._head: Head | None = None
        self._held = bytearray()
        self._ended = False
        self._lost: Lost | None = None
        self._news: asyncio.Future[None] | None = None

    async def head(self) -> Head:
        """The head of the answer. Raises Lost when the connection ends before it came; see `Hearer.lost`."""
        while self._head is None:
            await self._more()
        return self._head

    async def read(self) -> bytes:
        """What has arrived of the body since the last time, waiting for some; empty at its end.

        Raises Lost when the connection ended before the body did, after everything that did arrive was returned.
        """
        while not self._held:
            if self._ended:
                return b""
            await self._more()
        data = bytes(self._held)
        self._held.clear()
        if not self._ended and self._lost is None:
            self._connection.resume()
        return data

    def heard(self, head: Head | None, data: bytes, ended: bool) -> None:
        """See Hearer."""
        self._head = head or self._head
        self._held += data
        self._ended = ended
        if len(self._held) > HIGH_WATER and not ended:
            self._connection.pause()
        self._wake()

    def lost(self, error: Lost) -> None:
        """See Hearer."""
        self._lost = error
        self._wake()

    async def _more(self) -> None:
        if self._lost is not None:
            raise self._lost
        self._news = asyncio.get_running_loop().create_future()
        try:
            await self._news
        finally:
            self._news = None

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)
