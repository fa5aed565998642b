"""Calls whose event stream ended without the answer: it may still come on another stream of the same MCP session."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import NamedTuple

from arrowslit.outcome import Outcome
from arrowslit.relay.sessions import Session

MOST = 256  # calls of one owner that wait


class Key(NamedTuple):
    """One request of one MCP session."""

    tunnel_id: str
    target: str | None
    session: Session
    request_id: int | str


class _Waiting(NamedTuple):
    owner: Hashable
    timer: asyncio.TimerHandle
    conclude: Callable[[Outcome], None]


class Pending:
    """Waits for late answers until each call's deadline, then says that nobody knows; of one owner for so many."""

    def __init__(self) -> None:
        self._waiting: dict[Key, _Waiting] = {}
        self._of: dict[Hashable, dict[Key, None]] = {}  # by owner, the oldest first

    def leave_open(self, key: Key, until: float, conclude: Callable[[Outcome], None], owner: Hashable = None) -> None:
        """Call `conclude` once: with `result` when the answer is seen, with `outcome_unknown` at `until` (loop time),
        or when its owner has left MOST more of them open.
        """
        self.seen(key, Outcome.OUTCOME_UNKNOWN)  # the same id again: the earlier call will never be told apart
        timer = asyncio.get_running_loop().call_at(until, self.seen, key, Outcome.OUTCOME_UNKNOWN)
        self._waiting[key] = _Waiting(owner, timer, conclude)
        mine = self._of.setdefault(owner, {})
        mine[key] = None
        if len(mine) > MOST:
            self.seen(next(iter(mine)), Outcome.OUTCOME_UNKNOWN)

    def seen(self, key: Key, outcome: Outcome = Outcome.RESULT) -> None:
        """The answer passed by (or its time is over)."""
        waiting = self._waiting.pop(key, None)
        if waiting is not None:
            mine = self._of[waiting.owner]
            del mine[key]
            if not mine:
                del self._of[waiting.owner]
            waiting.timer.cancel()
            waiting.conclude(outcome)

    def close(self) -> None:
        """Conclude everything that is open: the relay is stopping."""
        for key in list(self._waiting):
            self.seen(key, Outcome.OUTCOME_UNKNOWN)
