"""Reaper: what happens to a session when its sandbox worker is lost or stops.

When a worker is lost, nobody knows whether a call that it could have seen was carried out. Such calls are closed as
unknown before the item can reach another worker, so that no command runs twice behind the model's back. Calls that no
worker could have seen are left for the next one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from arrowslit.agent import OnUnknown
from arrowslit.agents.sessions.change import Change
from arrowslit.agents.sessions.closing import begun, close_open
from arrowslit.agents.sessions.ending import end_calls
from arrowslit.agents.sessions.log import Log
from arrowslit.agents.sessions.state import Call, State, wants_worker
from arrowslit.agents.turns.silence import worker_lost
from arrowslit.agents.turns.turn import given_up, session_error
from arrowslit.agents.work import leases
from arrowslit.clock import Clock
from arrowslit.errors import Error
from arrowslit.ids import RandomBytes, new_id
from arrowslit.session import EventFilter, Session
from arrowslit.work import Work, WorkKind, WorkQueue, WorkState

log = logging.getLogger(__name__)

PERIOD = 1.0  # seconds between two looks
UNKNOWN = "unknown: the worker was lost"
NO_WORKER = "the sandbox's workers were lost or stopped too often"


class Reaper:
    """Looks after the leases. Everything it does may be repeated: a crash in between is mended by the next look."""

    def __init__(self, queue: WorkQueue, sessions: Log, clock: Clock, random: RandomBytes) -> None:
        self._queue, self._log, self._clock, self._random = queue, sessions, clock, random

    async def begin(self) -> None:
        """At the start of a process, before workers are answered: they may have seen all that was sent before."""
        held = await self._queue.due(float("inf"))
        await self._log.assume_seen({item.subject for item in held if await self._session(item) is not None})

    async def run(self) -> None:
        """Look every second, for ever."""
        while True:
            try:
                await self.sweep()
            except Exception:
                log.exception("looking after the workers' leases failed; tried again in %g s", PERIOD)
            await self._clock.sleep(PERIOD)

    async def sweep(self) -> None:
        """Take what is due from those who lost it, and stop the items of sessions that are over."""
        for item in await self._queue.due(self._clock.now()):
            await self._expire(item)
        for item in await self._queue.of_ended_sessions():
            await self._queue.change(
                item.environment_id, item.id, lambda now_is: leases.stop(now_is, self._clock.now())
            )

    async def stop(self, item: Work, *, force: bool, by_holder: bool) -> Work:
        """Stop an item. If it is taken from a worker that did not ask for that (`by_holder` is false), that worker
        counts as lost. One that leaves by itself may leave a call that it has begun.
        """
        if item.state is WorkState.STOPPED:
            return item
        progress = await self._progress(item)
        if force and not by_holder:
            item = await self._change(item, leases.take_away)
            if leases.is_lost(item):
                await self._close(item, seen_calls)
        elif force and not await self._finished(item):
            await self._close(item, first_calls)
        item = await self._change(item, lambda now_is: leases.stop(now_is, self._clock.now(), force=force))
        if item.state is WorkState.STOPPED:
            await self._follow_up(item, progress)
        return item

    async def _expire(self, item: Work) -> None:
        now = self._clock.now()
        item = await self._change(item, lambda now_is: leases.lose(now_is, now))
        if not leases.is_lost(item):
            return  # a heartbeat came in time
        log.warning("the worker of %s (%s) was lost", item.id, item.subject)
        progress = await self._progress(item)
        await self._close(item, seen_calls)
        if item.kind is WorkKind.SESSION and not await self._wanted(item):
            await self._change(item, lambda now_is: leases.stop(now_is, now, force=True))
            return
        item = await self._change(item, lambda now_is: leases.give_back(now_is, now, progress=progress))
        if item.state is WorkState.STOPPED:
            await self._follow_up(item, progress)

    async def _follow_up(self, item: Work, progress: bool) -> None:
        """After a stop: queue another item if the session still needs a worker, or give up if that is hopeless."""
        if not await self._wanted(item):
            return
        following = leases.another(item, new_id("work", self._random), self._clock.now(), progress=progress)
        if following is not None:
            await self._queue.add(following)
        else:
            await self._give_up(item.subject)

    async def _close(self, item: Work, which: Callable[[State, int], Sequence[Call]]) -> None:
        """Close the calls that the worker may have begun: those that `which` says, of what it has seen."""
        found = await self._session(item)
        seen = self._log.seen_by_worker(item.subject)
        if found is None or not which(found[1], seen):
            return

        def decide(session: Session, state: State, left: Mapping[str, str]) -> Change | None:
            return worker_lost(state, session.definition, which(state, seen), UNKNOWN, left)

        if found[0].definition.on_unknown is OnUnknown.STOP:
            await end_calls(self._log, item.subject, decide)
        else:  # the turn goes on, and so does whoever works on it
            await self._log.change(item.subject, lambda session, state: decide(session, state, {}))

    async def _finished(self, item: Work) -> bool:
        """Whether the worker ended the call that it was at when it was told to stop: it begins no other then."""
        told = leases.told_to_stop(item)
        if told is None or await self._session(item) is None:
            return False
        results = EventFilter(types=["user.tool_result"], processed_since=told, limit=1)
        return bool(await self._log.sessions.events(item.subject, results))

    async def _give_up(self, session_id: str) -> None:
        """End the turn of a session that finds no worker, whatever else goes on in it."""
        await end_calls(self._log, session_id, lambda _, state, left: _hopeless(state, left))

    async def _progress(self, item: Work) -> bool:
        """Whether a result came from the sandbox since the item's last delivery; before we write such results."""
        if item.delivered_at is None or await self._session(item) is None:
            return False
        results = EventFilter(types=["user.tool_result"], processed_since=item.delivered_at, limit=1)
        return bool(await self._log.sessions.events(item.subject, results))

    async def _wanted(self, item: Work) -> bool:
        found = await self._session(item)
        return found is not None and wants_worker(found[1], found[0].definition)

    async def _session(self, item: Work) -> tuple[Session, State] | None:
        """The session of an item, None for a health check and for a session that was deleted."""
        if item.kind is not WorkKind.SESSION:
            return None
        try:
            return await self._log.read(item.subject)
        except Error as error:
            if error.code != "session_not_found":
                raise
            return None

    async def _change(self, item: Work, step: leases.Step) -> Work:
        return await self._queue.change(item.environment_id, item.id, step)


def seen_calls(state: State, seen: int) -> Sequence[Call]:
    """The open sandbox calls up to the event `seen` that a worker was free to begin, in order."""
    ids = begun(state, seen)
    return [call for call in state.open if call.id in ids]


def first_calls(state: State, seen: int) -> Sequence[Call]:
    """Those of `seen_calls` that a worker may be at which runs one at a time, in order.

    What asks for a confirmation comes when it is given: so it is the first that asks nobody, or the first confirmed.
    """
    calls = seen_calls(state, seen)
    order = list(state.confirmations)
    asked = sorted((call for call in calls if call.confirmed), key=lambda call: order.index(call.id))
    free = [call for call in calls if not call.confirmed]
    return sorted([*free[:1], *asked[:1]], key=lambda call: call.seq)


def _hopeless(state: State, dispatched: Mapping[str, str]) -> Change | None:
    if state.turn is None:
        return None
    error = session_error("unknown_error", NO_WORKER, "exhausted", code="no_worker")
    return given_up(state, *close_open(state, NO_WORKER, dispatched), error)
