"""Heartbeat: lets every open stream say something now and then, for the proxies that close a silent connection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from arrowslit.clock import Clock
from arrowslit.connector.targets.conversations.outbox import Reader

EVERY = 7.5
"""Seconds. A reader for whom nothing happened twice in a row gets a beat: silence lasts 15 s, as with the servers of
the SDKs."""


class Heartbeat:
    """Beats for all who read an outbox."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._readers: set[Reader] = set()

    @contextmanager
    def over(self, reader: Reader) -> Iterator[None]:
        """Beat for this one while it reads."""
        self._readers.add(reader)
        try:
            yield
        finally:
            self._readers.discard(reader)

    async def run(self) -> None:
        """For as long as the target lives."""
        while True:
            await self._clock.sleep(EVERY)
            for reader in list(self._readers):
                reader.beat()
