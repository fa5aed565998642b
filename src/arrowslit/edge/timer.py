"""Timer: one deadline of a connection that is set anew several times in every request, and hardly ever passes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Timer:
    """Calls `late` with the word that it was set with, once its time is over.

    Setting it costs two assignments: the loop's own timer runs on from before, looks when it fires whether the time
    was put off meanwhile, and waits for the rest.
    """

    __slots__ = ("_at", "_handle", "_late", "_loop", "_wakes_at", "_word")

    def __init__(self, loop: asyncio.AbstractEventLoop, late: Callable[[str], None]) -> None:
        self._loop = loop
        self._late = late
        self._word: str | None = None  # None while no time runs
        self._at = 0.0
        self._wakes_at = 0.0
        self._handle: asyncio.TimerHandle | None = None

    @property
    def runs(self) -> bool:
        """Whether it is set."""
        return self._word is not None

    def set(self, seconds: float, word: str) -> None:
        """From now on that many seconds, whatever was set before."""
        self._word = word
        self._at = self._loop.time() + seconds
        if self._handle is None or self._at < self._wakes_at:
            self._wait()

    def clear(self) -> None:
        """Nothing is late any more, until it is set again."""
        self._word = None

    def close(self) -> None:
        """Let go of the loop's timer: whatever it belonged to is somebody else's now, or gone."""
        self._word = None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _wait(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._wakes_at = self._at
        self._handle = self._loop.call_at(self._at, self._fires)

    def _fires(self) -> None:
        self._handle = None
        if self._word is None:
            return
        if self._loop.time() < self._at:
            self._wait()
            return
        word, self._word = self._word, None
        self._late(word)
