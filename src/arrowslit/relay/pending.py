"""Calls whose event stream ended without the answer: it may still come on another stream of the same MCP session."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from arrowslit.outcome import Outcome
from arrowslit.relay.sessions import Session


class Key(NamedTuple):
    """One request of one MCP session."""

    tunnel_id: str
    target: str | None
    session: Session
    request_id: int | str


class Pending:
    """Waits for late answers until each call's deadline, then says that nobody knows."""

    def __init__(self) -> None:
        self._waiting: dict[Key, tuple[asyncio.TimerHandle, Callable[[Outcome], None]]] = {}

    def leave_open(self, key: Key, until: float, conclude: Callable[[Outcome], None]) -> None:
        """Call `conclude` once: with `result` when the answer is seen, with `outcome_unknown` at `until` (loop
        time).
        """
        self.seen(key, Outcome.OUTCOME_UNKNOWN)  # the same id again: the earlier call will never be told apart
        timer = asyncio.get_running_loop().call_at(until, self.seen, key, Outcome.OUTCOME_UNKNOWN)
        self._waiting[key] = (timer, conclude)

    def seen(self, key: Key, outcome: Outcome = Outcome.RESULT) -> None:
        """The answer passed by (or its time is over)."""
        waiting = self._waiting.pop(key, None)
        if waiting is not None:
            timer, conclude = waiting
            timer.cancel()
            conclude(outcome)

    def close(self) -> None:
        """Conclude everything that is open: the relay is stopping."""
        for key in list(self._waiting):
            self.seen(key, Outcome.OUTCOME_UNKNOWN)
