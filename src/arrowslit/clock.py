"""Clock: the only source of time."""

from __future__ import annotations

import asyncio
import time
from functools import lru_cache
from typing import Protocol


class Clock(Protocol):
    """What relay and connector know of time; a test or a simulation hands in its own."""

    def now(self) -> float:
        """Seconds since the Unix epoch, UTC. May step."""
        ...

    def monotonic(self) -> float:
        """Seconds of a clock that never goes back; only differences mean something."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after at least that many seconds of `monotonic`."""
        ...


class SystemClock:
    """The clock of this machine."""

    def now(self) -> float:
        """Unix time in seconds."""
        return time.time()

    def monotonic(self) -> float:
        """The clock that event loops set their timers by. Not asked of the loop: a call asks for it many times, and
        finding the running loop costs a system call on Python 3.11.
        """
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Sleep on the running loop."""
        await asyncio.sleep(seconds)


def rfc3339(seconds: float) -> str:
    """Unix seconds as RFC 3339 in UTC with milliseconds, e.g. `2026-11-22T10:00:00.123Z`."""
    whole, millis = divmod(round(seconds * 1000), 1000)
    return _second(whole) + _MILLIS[millis]


_MILLIS = [f".{millis:03d}Z" for millis in range(1000)]


@lru_cache(maxsize=16)
def _second(whole: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
