"""Slot: the place of one server that is started when it is needed, and again after it died, but not ever faster."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from arrowslit.connector.targets.conversations.conversation import Conversation
from arrowslit.connector.targets.conversations.house import House
from arrowslit.connector.targets.processes.crowd import TooMany
from arrowslit.connector.targets.target import NotStarted

QUICK = 10.0
"""A server that lived for fewer seconds died quickly: started again at once it is likely to end the same way."""

LONGEST_WAIT = 30.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """When to start again: at once after one quick death, then after 1, 2, 4 … 30 s. `until` is a monotonic time."""

    quick_deaths: int = 0
    until: float = 0.0

    def after_death(self, lived: float, now: float) -> Backoff:
        """What holds after a server died that had lived so many seconds."""
        if lived >= QUICK:
            return Backoff()
        wait = min(LONGEST_WAIT, 2.0 ** (self.quick_deaths - 1)) if self.quick_deaths else 0.0
        return Backoff(self.quick_deaths + 1, now + wait)

    def wait(self, now: float) -> float:
        """Seconds until a start is allowed."""
        return max(0.0, self.until - now)


class Slot:
    """At most one conversation. `open_one` starts one, ready for requests, or raises NotStarted."""

    def __init__(self, house: House, open_one: Callable[[], Awaitable[Conversation]]) -> None:
        self._clock = house.clock
        self._chores = house.chores
        self._health = house.health
        self._open_one = open_one
        self._opening: asyncio.Task[Conversation | NotStarted] | None = None
        self._backoff = Backoff()
        self._died = False
        self._stopped = False
        self.current: Conversation | None = None

    @property
    def wait(self) -> float:
        """Seconds until a start is allowed."""
        return self._backoff.wait(self._clock.monotonic())

    async def take(self) -> Conversation:
        """The conversation, started if need be; callers share one start, and one who leaves does not end it.

        Raises NotStarted, at once while the time to start again has not come.
        """
        if self.current is not None and self.current.usable:
            return self.current
        if self._stopped or not self._chores.open:
            raise NotStarted("the server is being stopped")
        if self._opening is None:
            if self.wait > 0:
                raise NotStarted(f"{self._health.last_error}; it is started again in {self.wait:.0f} s")
            self._opening = self._chores.start(self._open())
        opened = await asyncio.shield(self._opening)
        if isinstance(opened, NotStarted):
            raise NotStarted(str(opened))
        return opened

    def adopt(self, conversation: Conversation) -> None:
        """Take a conversation that somebody else opened."""
        self.current = conversation

    def gone(self, conversation: Conversation, why: str) -> bool:
        """Hear that a server is gone; whether it was the one of this slot, and nobody had asked it to stop."""
        if conversation is not self.current:
            return False
        self.current = None
        self._note_death(f"{conversation.name} {why}", self._clock.monotonic() - conversation.started)
        return True

    def rest(self) -> None:
        """Stop the server; the next `take` starts another."""
        if self.current is not None and self._chores.open:
            self._chores.start(self.current.close())
        self.current = None

    def stop(self) -> None:
        """Stop the server for good."""
        self._stopped = True
        self.rest()

    async def _open(self) -> Conversation | NotStarted:
        self.rest()  # what cannot be used any more may still run
        try:
            conversation = await self._open_one()
        except TooMany as error:
            return error
        except NotStarted as error:
            self._note_death(str(error), lived=0.0)
            return error
        finally:
            self._opening = None
        self._health.restarts += self._died
        self._died = False
        self.current = conversation
        if self._stopped:
            self.rest()
        return conversation

    def _note_death(self, why: str, lived: float) -> None:
        self._died = True
        self._health.last_error = why
        self._backoff = self._backoff.after_death(lived, self._clock.monotonic())
