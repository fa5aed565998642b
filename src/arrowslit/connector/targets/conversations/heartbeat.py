"""Heartbeat: lets every open stream say something now and then, for the proxies that close a silent connection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from arrowslit.clock import Clock
from arrowslit.connector.targets.conversations.outbox import Outbox

EVERY = 7.5
"""Seconds. An outbox in which nothing happened twice in a row gets a beat: silence lasts 15 s, as with the servers of
the SDKs."""


class Heartbeat:
    """Beats in all outboxes that are being read."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._outboxes: set[Outbox] = set()

    @contextmanager
    def over(self, outbox: Outbox) -> Iterator[None]:
        """Beat in this one while it is read here."""
        self._outboxes.add(outbox)
        try:
            yield
        finally:
            self._outboxes.discard(outbox)

    async def run(self) -> None:
        """For as long as the target lives."""
        while True:
            await self._clock.sleep(EVERY)
            for outbox in list(self._outboxes):
                outbox.beat()
