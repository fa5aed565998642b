"""Deadline: an end to the waiting of one call, among thousands that wait at once and hardly ever have to be ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

FINENESS = 64  # a moment may be so small a part of the time up to it late, or twice as much
FINEST = 1 / 256  # seconds; timers of the loop are whole milliseconds
COARSEST = 0.5  # seconds that an end may be late, however long the call had: P2 leaves five, two go to its last word


class Deadlines:
    """Everybody whose time ends in the same moment shares a timer, and moments are the longer the further away they
    are, up to half a second: an end that is put off, or not needed, costs a set and no timer.
    """

    def __init__(self) -> None:
        self._due: dict[float, set[Callable[[], None]]] = {}

    def add(self, when: float, now: float, late: Callable[[], None]) -> set[Callable[[], None]]:
        """Call `late` at `when` (loop time) or a little after it. Take it out of the returned set to prevent that."""
        grain = FINEST
        while grain < COARSEST and grain * FINENESS < when - now:
            grain *= 2  # powers of two: the moments of a coarse grain are moments of the finer ones
        moment = (when // grain + 1) * grain
        waiting = self._due.get(moment)
        if waiting is None:
            waiting = self._due[moment] = set()
            asyncio.get_running_loop().call_at(moment, self._over, moment)
        waiting.add(late)
        return waiting

    def _over(self, moment: float) -> None:
        for late in self._due.pop(moment):
            late()


class Deadline:
    """`with Deadline(deadlines, when):` as `asyncio.timeout_at`: cancels the task, and raises TimeoutError.

    `when` is loop time, None for never; it may be changed while the block runs.
    """

    __slots__ = ("_among", "_cancels", "_deadlines", "_expired", "_task", "when")

    def __init__(self, deadlines: Deadlines, when: float | None) -> None:
        self.when = when
        self._deadlines = deadlines
        self._among: set[Callable[[], None]] | None = None
        self._expired = False

    def move(self, when: float) -> None:
        """Let it end then."""
        self.when = when
        self._drop()
        self._among = self._deadlines.add(when, asyncio.get_running_loop().time(), self._late)

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancels = task.cancelling()
        if self.when is not None:
            self._among = self._deadlines.add(self.when, asyncio.get_running_loop().time(), self._late)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._among is not None:
            self._among.discard(self._late)
        if self._expired and self._task.uncancel() <= self._cancels and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _drop(self) -> None:
        if self._among is not None:
            self._among.discard(self._late)

    def _late(self) -> None:
        self._expired = True
        self._task.cancel()
