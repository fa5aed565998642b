"""Polling: who waits for work in an environment, and who has asked for it lately. In memory only."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from arrowslit.clock import Clock
from arrowslit.work import WorkQueue

COUNTED_FOR = 30.0  # seconds since its last poll that a worker is counted, as officially
MAX_COUNTED = 10_000  # of one environment; a key that makes up ids of workers takes no more memory than that


class Polling:
    """Wakes those who wait when something is queued, and counts workers by the ids that they say they have."""

    def __init__(self, queue: WorkQueue, clock: Clock) -> None:
        self._clock = clock
        self._queued: dict[str, asyncio.Event] = {}
        self._seen: dict[str, OrderedDict[str, float]] = {}
        queue.on_queued(self._wake)

    def queued(self, environment_id: str) -> asyncio.Event:
        """Set when something is queued there after this call."""
        return self._queued.setdefault(environment_id, asyncio.Event())

    def note(self, environment_id: str, worker_id: str) -> None:
        """A worker of that id has polled."""
        seen = self._seen.setdefault(environment_id, OrderedDict())
        seen.pop(worker_id, None)
        seen[worker_id] = self._clock.monotonic()
        self._forget(seen)

    def count(self, environment_id: str) -> int:
        """How many have polled in the last 30 seconds."""
        seen = self._seen.get(environment_id, OrderedDict())
        self._forget(seen)
        return len(seen)

    def _wake(self, environment_id: str) -> None:
        event = self._queued.pop(environment_id, None)
        if event is not None:
            event.set()

    def _forget(self, seen: OrderedDict[str, float]) -> None:
        before = self._clock.monotonic() - COUNTED_FOR
        while seen and (len(seen) > MAX_COUNTED or next(iter(seen.values())) < before):
            seen.popitem(last=False)
