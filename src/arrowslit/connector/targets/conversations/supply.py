"""Supply: servers of one program, one of them started ahead, so that a new session does not wait for an interpreter."""

from __future__ import annotations

import asyncio
import logging

from arrowslit.clock import Clock
from arrowslit.connector.targets.conversations.chores import Chores
from arrowslit.connector.targets.processes.channel import Channel, Listener, Program
from arrowslit.connector.targets.target import NotStarted

logger = logging.getLogger(__name__)

AFTER = 1.0  # seconds after a start: two interpreters at once would make that session wait which is beginning
HOT = 600.0
"""Seconds for which a spare is kept: who has begun a session lately is likely to begin another."""


class Supply:
    """Starts servers. A spare has been sent nothing, so that it is as good as a new one; it counts as a running one,
    and is the first to be used where there may be no more.
    """

    def __init__(self, program: Program, clock: Clock, chores: Chores, *, ahead: bool) -> None:
        self.name = program.name
        self._program = program
        self._clock = clock
        self._chores = chores
        self._ahead = ahead
        self._spare: _Spare | None = None
        self._keeping: asyncio.Task[None] | None = None

    @property
    def running(self) -> int:
        """How many servers somebody uses, or did."""
        return self._program.running - (self._spare is not None and not self._spare.over)

    async def start(self, listener: Listener) -> Channel:
        """A server: the spare, or else a new one. Raises NotStarted."""
        spare, self._spare = self._spare, None
        if spare is not None and spare.channel.usable:
            spare.listener = listener
            return spare.channel
        return await self._program.start(listener)

    def start_ahead(self) -> None:
        """Have a spare soon, for a while: a session has begun."""
        if self._ahead and self._chores.open:
            if self._keeping is not None:
                self._keeping.cancel()
            self._keeping = self._chores.start(self._keep())

    async def _keep(self) -> None:
        await self._clock.sleep(AFTER)
        if self._spare is None or not self._spare.channel.usable:
            spare = _Spare()
            try:
                spare.channel = await self._program.start(spare)
            except NotStarted as error:
                logger.debug("no spare of %s: %s", self.name, error)
                return
            self._spare = spare
        await self._clock.sleep(HOT)
        if self._spare is not None:
            cold, self._spare = self._spare, None
            await cold.channel.close()


class _Spare:
    """The Listener of a server that nobody uses yet. What it says before it was spoken to is nobody's."""

    channel: Channel

    def __init__(self) -> None:
        self.listener: Listener | None = None
        self.over = False

    def message(self, line: bytes) -> None:
        """Listener: pass it on."""
        if self.listener is not None:
            self.listener.message(line)

    def closed(self, why: str) -> None:
        """Listener: pass it on; a spare that ended is replaced when the next session begins."""
        self.over = True
        if self.listener is not None:
            self.listener.closed(why)
