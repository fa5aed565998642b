"""Health: what a connector knows of an upstream server from the exchanges it had with it."""

from __future__ import annotations

import math

from arrowslit.clock import Clock
from arrowslit.connector.targets.target import Lost, NotStarted

FRESH = 5.0  # seconds for which the knowledge whether the target can be reached is good enough


class Health:
    """Whether a connection could be had, and the last thing that went wrong."""

    def __init__(self, clock: Clock) -> None:
        self.ready = False
        self.detail: str | None = "not tried yet"
        self.last_error: str | None = None
        self._clock = clock
        self._known_at = -math.inf

    @property
    def fresh(self) -> bool:
        """Whether it is still good enough to be told."""
        return self._clock.monotonic() - self._known_at <= FRESH

    def connected(self, now: float) -> None:
        """A connection could be had, `now` in monotonic seconds."""
        self._known_at = now
        self.ready = True
        self.detail = None

    def refused(self, error: NotStarted) -> None:
        """None could be had."""
        self._known_at = self._clock.monotonic()
        self.ready = False
        self.detail = self.last_error = str(error)

    def lost(self, error: Lost) -> None:
        """An exchange broke: whether another connection can be had is not known."""
        self.last_error = str(error)
        self._known_at = -math.inf
