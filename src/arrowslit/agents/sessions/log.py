"""Log: the one way in which a session changes. Read, decide, append if nobody was faster; then tell who follows."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from weakref import WeakValueDictionary

from arrowslit.agents.sessions.change import Appended, Change, carry_out
from arrowslit.agents.sessions.follow import PAGE, Follower, Tail
from arrowslit.agents.sessions.frames import Preview
from arrowslit.agents.sessions.state import DELETED, EMPTY, State, fold, runnable, wants_worker
from arrowslit.clock import Clock
from arrowslit.errors import Error
from arrowslit.ids import RandomBytes, new_id
from arrowslit.session import Batch, Conflict, Event, EventFilter, Lease, Session, Sessions, SessionStatus
from arrowslit.work import Work, WorkKind

HELD = 5.0  # seconds; long for one append, short for a turn that goes on after all
CACHED = 4096  # states of sessions in memory; the others are folded anew when somebody asks

Decide = Callable[[Session, State], Change | None]
"""Pure, and asked again if somebody else was faster. None: nothing happened. Raises Error to refuse."""


@dataclass(frozen=True, slots=True)
class Changed:
    """A session after a change, and the events that were added (none, if nothing happened)."""

    session: Session
    state: State
    events: tuple[Event, ...]


class Log:
    """The events of all sessions, on the port Sessions. `wake` is told which of them the relay can go on with."""

    def __init__(
        self, sessions: Sessions, clock: Clock, random: RandomBytes, wake: Callable[[str], None] = lambda _: None
    ) -> None:
        self.sessions = sessions
        self.wake = wake
        self.fenced: Callable[[str], None] = lambda _: None  # whoever works on that session here has lost its lease
        self._clock = clock
        self._random = random
        self._states: OrderedDict[str, State] = OrderedDict()
        self._tails: dict[str, Tail] = {}
        self._seen: dict[str, int] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def new_event_id(self) -> str:
        """An id for an event that is still to be made."""
        return new_id("sevt", self._random)

    async def create(self, session: Session, change: Change) -> Changed:
        """Keep a new session with what happened at its beginning."""
        appended = carry_out(EMPTY, change, self._clock.now(), self.new_event_id)
        batch = self._batch(session, change, appended)
        await self.sessions.create(batch)
        return self._done(batch, appended)

    async def read(self, session_id: str) -> tuple[Session, State]:
        """The session and its state as they are now. Raises Error `session_not_found`."""
        session = await self.sessions.read(session_id)
        state = self._states.get(session_id)
        if state is None or state.seq != session.last_seq:
            state = await self._folded(session)
        self._keep(session_id, state)
        return session, state

    async def change(self, session_id: str, decide: Decide, *, lease: Lease | None = None) -> Changed:
        """Append what `decide` says of the session as it is, and what follows from that by rule.

        The new status, usage, whether it is runnable and whether a sandbox worker is called are computed here. Raises
        Error `session_not_found`, what `decide` raises, and LeaseLost if `lease` is no longer the newest.
        """
        async with self._lock(session_id):
            while True:
                session, state = await self.read(session_id)
                change = decide(session, state)
                if change is None:
                    return Changed(session, state, ())
                appended = carry_out(state, change, self._clock.now(), self.new_event_id)
                batch = self._batch(session, change, appended, lease)
                try:
                    await self.sessions.append(batch)
                except Conflict:
                    self._states.pop(session_id, None)
                    continue
                return self._done(batch, appended)

    async def hold(self, session_id: str) -> Lease | None:
        """Take a session away from whoever works on it, and keep it: for 5 s, or until it is released.

        From then on no call leaves, and the port Sessions knows which ones may have left. None if nobody works on it.
        """
        while True:
            async with self._lock(session_id):
                session = await self.sessions.read(session_id)
                if not session.runnable:
                    return None
                try:
                    await self.sessions.append(Batch(after=session.last_seq, session=session, fence=True))
                except Conflict:
                    continue
                self.fenced(session_id)
                lease = await self.sessions.claim(session_id, self._clock.now() + HELD)
            if lease is not None:  # else somebody claimed it in between
                return lease

    async def delete(self, session_id: str) -> None:
        """Forget a session that does not run; its streams end. Raises Error `session_running`, `session_not_found`."""
        async with self._lock(session_id):
            session = await self.sessions.read(session_id)
            if session.status in (SessionStatus.RUNNING, SessionStatus.RESCHEDULING):
                raise Error("session_running", "a session that runs is not deleted", hint="interrupt it first")
            await self.sessions.delete(session_id)
            now = self._clock.now()
            gone = Event(session.last_seq + 1, self.new_event_id(), DELETED, now, now, {})
            self._publish(session_id, (gone,))
            self._states.pop(session_id, None)
            self._seen.pop(session_id, None)

    # -------------------------------------------------------- who follows

    def follow(
        self, session_id: str, *, deltas: frozenset[str] = frozenset(), worker: bool = False, reader: str | None = None
    ) -> Follower:
        """A reader of every event from now on, and of previews of events of the types `deltas`.

        What a `worker` takes counts as seen by a worker. `reader` is what `cut` knows it by.
        """
        tail = self._tails.setdefault(session_id, Tail())

        async def read(seq: int) -> Sequence[Event]:
            return await self.sessions.events(session_id, EventFilter(after=seq, limit=PAGE))

        def seen(seq: int) -> None:
            if worker:
                self.served_to_worker(session_id, seq)

        def leave(_: Follower) -> None:
            if not tail.followers and self._tails.get(session_id) is tail:
                del self._tails[session_id]

        return Follower(tail, read, seen, leave, deltas, reader)

    def preview(self, session_id: str, preview: Preview) -> None:
        """Show a piece of an event that is still being made to those who asked for it."""
        tail = self._tails.get(session_id)
        if tail is not None:
            tail.add(preview)

    def cut(self, reader: str) -> None:
        """That key was revoked, or that item of work is no longer its worker's: its streams end now."""
        for tail in self._tails.values():
            for follower in tail.followers:
                if follower.reader == reader:
                    follower.cut()

    def close(self) -> None:
        """End every stream: the process is about to."""
        for tail in self._tails.values():
            for follower in tail.followers:
                follower.end()

    # -------------------------------------------------------- what workers saw

    def seen_by_worker(self, session_id: str) -> int:
        """The highest `seq` that any worker of this session was sent, 0 for none. Nobody saw a call above it."""
        return self._seen.get(session_id, 0)

    def served_to_worker(self, session_id: str, seq: int) -> None:
        """Note that a worker is sent the events up to `seq`."""
        self._seen[session_id] = max(seq, self._seen.get(session_id, 0))

    async def assume_seen(self, session_ids: Collection[str]) -> None:
        """At the start of a process: all that these sessions have may have been sent by the process before.

        They are those with an item of work that a worker holds.
        """
        for session_id in session_ids:
            self.served_to_worker(session_id, (await self.sessions.read(session_id)).last_seq)

    # -------------------------------------------------------- inside

    def _batch(self, before: Session, change: Change, appended: Appended, lease: Lease | None = None) -> Batch:
        state, now = appended.state, self._clock.now()
        session = change.revise(before) if change.revise else before
        work = self._work(session, state)
        session = replace(
            session,
            had_work=session.had_work or work is not None,
            status=state.status,
            usage=state.usage,
            last_seq=state.seq,
            runnable=runnable(state),
            due=session.due if state.status is SessionStatus.RESCHEDULING else 0.0,
            updated_at=now,
        )
        return Batch(
            after=before.last_seq,
            session=session,
            events=appended.events,
            processed=appended.processed,
            lease=lease,
            fence=change.fence,
            work=work,
        )

    def _work(self, session: Session, state: State) -> Work | None:
        """An item of work whenever a worker is wanted; the store leaves it at the one that a session already has."""
        if session.environment_id is None or not wants_worker(state, session.definition):
            return None
        return Work(
            id=new_id("work", self._random),
            environment_id=session.environment_id,
            kind=WorkKind.SESSION,
            subject=session.id,
            created_at=self._clock.now(),
        )

    def _done(self, batch: Batch, appended: Appended) -> Changed:
        session_id = batch.session.id
        self._keep(session_id, appended.state)
        self._publish(session_id, appended.events)
        if batch.fence:
            self.fenced(session_id)
        if batch.session.runnable:
            self.wake(session_id)
        return Changed(batch.session, appended.state, appended.events)

    def _publish(self, session_id: str, events: Sequence[Event]) -> None:
        tail = self._tails.get(session_id)
        for event in events if tail is not None else ():
            assert tail is not None
            tail.add(event)

    async def _folded(self, session: Session) -> State:
        """The state, from the first event on."""
        state = EMPTY
        while state.seq < session.last_seq:
            events = await self.sessions.events(session.id, EventFilter(after=state.seq))
            state = fold(state, (event for event in events if event.seq <= session.last_seq))
            if not events:
                raise Error("session_not_found", "no such session")  # deleted meanwhile
        return state

    def _keep(self, session_id: str, state: State) -> None:
        self._states[session_id] = state
        self._states.move_to_end(session_id)
        while len(self._states) > CACHED:
            self._states.popitem(last=False)

    def _lock(self, session_id: str) -> asyncio.Lock:
        """One for all who change a session here; so they append and tell in the same order, and seldom in vain."""
        return self._locks.setdefault(session_id, asyncio.Lock())
