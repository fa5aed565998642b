"""MemorySessions: sessions, their events and leases without a database, to the letter of the port."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from arrowslit.clock import Clock
from arrowslit.errors import Error
from arrowslit.session import Batch, Conflict, Event, EventFilter, Lease, LeaseLost, Session, SessionFilter
from arrowslit.work import Work


@dataclass(slots=True)
class _Kept:
    """All that is known of one session. `until` is how long the lease `epoch` holds, None if nobody has one."""

    session: Session
    events: list[Event] = field(default_factory=list)
    epoch: int = 0
    until: float | None = None
    dispatched: dict[str, str] = field(default_factory=dict)


class MemorySessions:
    """Fulfils `session.Sessions`. `work` is what was queued, by session: one item each, until a test takes it out."""

    def __init__(self, clock: Clock) -> None:
        self.work: dict[str, Work] = {}
        self._clock = clock
        self._kept: dict[str, _Kept] = {}

    async def create(self, batch: Batch) -> Session:
        """Keep a new session with its first events."""
        self._kept[batch.session.id] = _Kept(batch.session, list(batch.events))
        self._queue(batch)
        return batch.session

    async def read(self, session_id: str) -> Session:
        """The session, or Error `session_not_found`."""
        return self._find(session_id).session

    async def list(self, which: SessionFilter) -> Sequence[Session]:
        """At most `limit` sessions that match."""
        found = [kept.session for kept in self._kept.values() if _matches(kept.session, which)]
        forwards = which.oldest_first is not which.backwards
        found.sort(key=_position, reverse=not forwards)
        if which.position is not None:
            bound = which.position
            found = [each for each in found if (_position(each) > bound if forwards else _position(each) < bound)]
        found = found[: which.limit]
        return found[::-1] if which.backwards else found

    async def events(self, session_id: str, which: EventFilter) -> Sequence[Event]:
        """At most `limit` events that match."""
        found = [event for event in self._find(session_id).events if _shows(which, event)]
        if which.newest_first:
            found = [event for event in reversed(found) if not which.after or event.seq < which.after]
        else:
            found = [event for event in found if event.seq > which.after]
        return found[: which.limit]

    async def append(self, batch: Batch) -> None:
        """Append, or raise Conflict or LeaseLost and keep nothing."""
        kept = self._find(batch.session.id)
        if batch.lease is not None:
            self._newest(batch.lease)
        if batch.after != kept.session.last_seq:
            raise Conflict
        now = batch.session.updated_at
        kept.events = [
            replace(event, processed_at=now) if event.id in batch.processed else event for event in kept.events
        ]
        kept.events += batch.events
        kept.session = batch.session
        if batch.fence:
            kept.epoch, kept.until = kept.epoch + 1, None
        self._queue(batch)

    async def delete(self, session_id: str) -> None:
        """Forget it."""
        self._find(session_id)
        del self._kept[session_id]

    async def claim(self, session_id: str, until: float) -> Lease | None:
        """A lease, if the session is runnable and nobody has a valid one."""
        kept = self._kept.get(session_id)
        if kept is None or not _free(kept, self._clock.now()):
            return None
        kept.epoch, kept.until = kept.epoch + 1, until
        return Lease(session_id, kept.epoch)

    async def extend(self, lease: Lease, until: float) -> None:
        """Keep it longer, or raise LeaseLost."""
        self._newest(lease).until = until

    async def release(self, lease: Lease) -> None:
        """Give it back, if it is still the newest."""
        kept = self._kept.get(lease.session_id)
        if kept is not None and kept.epoch == lease.epoch:
            kept.epoch, kept.until = kept.epoch + 1, None

    async def release_all(self) -> None:
        """Nobody has a lease any more."""
        for kept in self._kept.values():
            if kept.until is not None:
                kept.epoch, kept.until = kept.epoch + 1, None

    async def runnable(self, now: float, limit: int) -> Sequence[str]:
        """Those that wait longest first."""
        free = [kept.session for kept in self._kept.values() if kept.session.due <= now and _free(kept, now)]
        return [each.id for each in sorted(free, key=lambda each: each.updated_at)][:limit]

    async def mark_dispatched(self, lease: Lease, calls: Mapping[str, str]) -> None:
        """Note that calls leave, or raise LeaseLost."""
        self._newest(lease).dispatched.update(calls)

    async def dispatched(self, session_id: str, event_ids: Collection[str]) -> Mapping[str, str]:
        """Those of these calls that may have left."""
        found = self._find(session_id).dispatched
        return {event_id: found[event_id] for event_id in event_ids if event_id in found}

    def _find(self, session_id: str) -> _Kept:
        kept = self._kept.get(session_id)
        if kept is None:
            raise Error("session_not_found", "no such session")
        return kept

    def _newest(self, lease: Lease) -> _Kept:
        kept = self._find(lease.session_id)
        if kept.epoch != lease.epoch:
            raise LeaseLost
        return kept

    def _queue(self, batch: Batch) -> None:
        if batch.work is not None:
            self.work.setdefault(batch.work.subject, batch.work)


def _free(kept: _Kept, now: float) -> bool:
    return kept.session.runnable and (kept.until is None or kept.until <= now)


def _position(session: Session) -> tuple[float, str]:
    return session.created_at, session.id


def _matches(session: Session, which: SessionFilter) -> bool:
    return (
        session.tenant == which.tenant
        and (which.agents is None or session.agent_id in which.agents)
        and which.agent_id in (None, session.agent_id)
        and which.agent_version in (None, session.agent_version)
        and (not which.statuses or session.status in which.statuses)
        and (which.include_archived or session.archived_at is None)
        and (which.created_after is None or session.created_at > which.created_after)
        and (which.created_since is None or session.created_at >= which.created_since)
        and (which.created_before is None or session.created_at < which.created_before)
        and (which.created_until is None or session.created_at <= which.created_until)
    )


def _shows(which: EventFilter, event: Event) -> bool:
    """Whether type and time match; an event that is not processed yet has no time to compare."""
    if which.types and event.type not in which.types:
        return False
    bounds = (which.processed_after, which.processed_since, which.processed_before, which.processed_until)
    at = event.processed_at
    if at is None:
        return all(bound is None for bound in bounds)
    after, since, before, until = bounds
    return (
        (after is None or at > after)
        and (since is None or at >= since)
        and (before is None or at < before)
        and (until is None or at <= until)
    )
