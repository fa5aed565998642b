"""Runner: finds sessions that the relay can take further and does it, many at once, one holder each.

What it does not hear of it finds within a second, and at its start: sessions that were left in the middle by a process
that died, and those whose pause is over. A lease says who works on a session; whoever loses it stops at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Protocol, Self

from arrowslit.agents.sessions.ending import end_calls
from arrowslit.agents.sessions.log import Log
from arrowslit.agents.sessions.state import runnable
from arrowslit.agents.turns.turn import given_up, session_error
from arrowslit.agents.turns.waiting import Waiting
from arrowslit.clock import Clock
from arrowslit.errors import Error
from arrowslit.session import Lease, LeaseLost

AT_ONCE, EACH = 64, 48  # sessions at once, of them of one tenant: the rest is for the others
LEASE, EXTEND = 30.0, 10.0  # seconds that a lease holds, and after which it is made longer
CLAIM_AGAIN = 0.1  # seconds until a second attempt to get one
SCAN = 1.0  # seconds between two looks at the store
SCANNED = 5000  # sessions in one look; more wait for a later one
DRAIN = 5.0  # seconds that a step has to end once the relay stops
MOST_FAILURES = 5  # defects of ours in a row, each after a longer pause; then the turn ends

_log = logging.getLogger(__name__)


class TakesFurther(Protocol):
    """What the runner needs of a Loop."""

    async def take_further(self, lease: Lease, go_on: GoOn) -> None: ...


class GoOn(Protocol):
    """Asked before each step of a session: whether there shall be another."""

    def __call__(self) -> bool: ...


class Runner:
    """Enter it to start, leave it to stop: what can be finished shortly is, the rest is left to the next start."""

    def __init__(self, log: Log, loop: TakesFurther, clock: Clock) -> None:
        self._sessions = log.sessions
        self._log = log
        self._loop = loop
        self._clock = clock
        self._waiting = Waiting(AT_ONCE, EACH)
        self._woken: dict[str, None] = {}  # and not looked at yet; a set would forget who came first
        self._bell = asyncio.Event()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._principals: dict[str, str] = {}  # whose sessions those are that wait or run
        self._failures: dict[str, int] = {}  # in a row, by session
        self._not_before: dict[str, float] = {}  # monotonic, of those that failed
        self._stopping = False
        self._tasks = asyncio.TaskGroup()
        self._chores: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._chores = [self._tasks.create_task(self._dispatch()), self._tasks.create_task(self._scan())]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        await self._tasks.__aexit__(kind, error, trace)

    def wake(self, session_id: str) -> None:
        """There may be something to do for that session."""
        self._woken[session_id] = None
        self._bell.set()

    def interrupt(self, session_id: str) -> None:
        """Whoever works on that session here stops now. Its lease was taken away before, so nothing more counts.

        Not so who asks for it: that is a task which ends the turn of the session it could not take further.
        """
        task = self._running.get(session_id)
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    def revoked(self, principal_id: str) -> None:
        """What is done for that principal stops now; its turns end, and say why."""
        for session_id in [each for each in self._running if self._principals[each] == principal_id]:
            self.interrupt(session_id)
            self.wake(session_id)

    async def stop(self) -> None:
        """Begin nothing more; wait for the steps under way, but not long, then leave them. Again: the same."""
        self._stopping = True
        for chore in self._chores:
            chore.cancel()
        if self._running:
            _, late = await asyncio.wait(list(self._running.values()), timeout=DRAIN)
            for task in late:
                task.cancel()

    # ------------------------------------------------------------ which session

    async def _scan(self) -> None:
        """What nobody told us of."""
        while True:
            try:
                for session_id in await self._sessions.runnable(self._clock.now(), SCANNED):
                    if session_id not in self._running:
                        self.wake(session_id)
            except Exception:  # the store may be busy, or away for a while
                _log.exception("cannot look for sessions that can go on")
            await self._clock.sleep(SCAN)

    async def _dispatch(self) -> None:
        """Give places to those that wait, whenever somebody came or left."""
        while True:
            await self._bell.wait()
            self._bell.clear()
            await self._queue_woken()
            while not self._stopping and (session_id := self._waiting.take()) is not None:
                task = self._tasks.create_task(self._hold(session_id))
                self._running[session_id] = task
                task.add_done_callback(partial(self._leave, session_id))

    def _leave(self, session_id: str, _: asyncio.Task[None]) -> None:
        """Also called for a task that was cancelled before it began."""
        del self._running[session_id], self._principals[session_id]
        self._waiting.leave(session_id)
        self._bell.set()

    async def _queue_woken(self) -> None:
        for session_id in [each for each in self._woken if each not in self._running]:
            self._woken.pop(session_id, None)
            if self._waiting.knows(session_id) or self._clock.monotonic() < self._not_before.get(session_id, 0.0):
                continue
            try:
                session = await self._sessions.read(session_id)
            except Error:
                continue  # deleted
            except Exception:  # the next look at the store finds it
                _log.exception("cannot read session %s", session_id)
                continue
            self._principals[session_id] = session.principal_id
            self._waiting.add(session_id, session.tenant)

    # ------------------------------------------------------------ one session

    async def _hold(self, session_id: str) -> None:
        """Take one session as far as it goes. Its end is the end of nothing else."""
        try:
            await self._take_further(session_id)
            self._failures.pop(session_id, None)
            self._not_before.pop(session_id, None)
        except asyncio.CancelledError:
            if self._stopping:
                raise
        except LeaseLost:
            _log.info("session %s was taken over or interrupted", session_id)
        except Exception as error:  # a defect of ours, or the store is away: nobody else may suffer from it
            await self._failed(session_id, error)

    async def _take_further(self, session_id: str) -> None:
        claiming = asyncio.ensure_future(self._claim(session_id))
        try:
            lease = await asyncio.shield(claiming)
        except asyncio.CancelledError:  # the store goes on: what it grants would be nobody's for as long as it holds
            lease = await claiming
            if lease is not None:
                await self._sessions.release(lease)
            raise
        if lease is None:
            return
        try:
            async with self._extended(lease):
                await self._loop.take_further(lease, lambda: self._goes_on(session_id))
        finally:
            await self._sessions.release(lease)

    async def _claim(self, session_id: str) -> Lease | None:
        """The lease, None if there is nothing to do. Whoever interrupts a session has it for a moment."""
        lease = await self._sessions.claim(session_id, self._clock.now() + LEASE)
        if lease is None and (await self._sessions.read(session_id)).runnable:
            await self._clock.sleep(CLAIM_AGAIN)
            lease = await self._sessions.claim(session_id, self._clock.now() + LEASE)
        return lease

    def _goes_on(self, session_id: str) -> bool:
        """Asked before each step, which sees all that happened until now: no need to be woken for that."""
        self._woken.pop(session_id, None)
        return not self._stopping

    @asynccontextmanager
    async def _extended(self, lease: Lease) -> AsyncIterator[None]:
        """Keep the lease while the block runs. If it is lost the block is cancelled and LeaseLost raised."""
        lost = False
        block = asyncio.current_task()
        assert block is not None

        async def extend() -> None:
            nonlocal lost
            while True:
                await self._clock.sleep(EXTEND)
                try:
                    await self._sessions.extend(lease, self._clock.now() + LEASE)
                except LeaseLost:
                    lost = True
                    block.cancel()
                    return
                except Exception:  # there is time for two more attempts
                    _log.exception("cannot extend the lease of session %s", lease.session_id)

        keeper = asyncio.create_task(extend())
        try:
            yield
        except asyncio.CancelledError:
            if lost:
                block.uncancel()
                raise LeaseLost from None
            raise
        finally:
            keeper.cancel()

    async def _failed(self, session_id: str, error: Exception) -> None:
        """Try again after a pause; at last end the turn, so that it does not fail for ever."""
        if isinstance(error, Error) and error.code == "session_not_found":
            return  # deleted meanwhile
        count = self._failures.get(session_id, 0) + 1
        _log.error("session %s cannot be taken further (failure %d)", session_id, count, exc_info=error)
        self._failures[session_id] = count
        self._not_before[session_id] = self._clock.monotonic() + 2.0 ** (count - 1)
        if count < MOST_FAILURES:
            return
        del self._failures[session_id], self._not_before[session_id]
        words = "the relay failed again and again to take this session further; see its log"
        end = session_error("unknown_error", words, code="internal_error")
        try:
            await end_calls(
                self._log,
                session_id,
                lambda _, now, left: given_up(now, end, dispatched=left) if runnable(now) else None,
            )
        except Exception:
            _log.exception("session %s cannot be ended either", session_id)
