"""Leases: every step in the life of an item of work, from one value to the next. Pure.

| state    | what it waits for              | what leads on                                                        |
|----------|--------------------------------|----------------------------------------------------------------------|
| queued   | a poll; once delivered, an ack | deliver: queued again; acknowledge: starting; stop: stopped          |
| starting | the first heartbeat, 60 s      | beat: active; stop: stopping or stopped; lose and give_back: queued  |
| active   | the next heartbeat, its TTL    | beat: active, or stopping; stop: stopping or stopped; lose: queued   |
| stopping | its worker's own stop, 180 s   | stop: stopped; lose and give_back: stopped                           |
| stopped  | nothing                        |                                                                      |

An item is lost in two steps, `lose` and then `give_back` or `stop`: in between it belongs to nobody (`is_lost`), no
heartbeat brings it back and nobody is offered it, while the calls that the lost worker may have begun are closed.

The rules are those of the reference of the Managed Agents API, 2.4 and Appendix B.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from arrowslit.agents.sessions.state import State, wants_worker
from arrowslit.errors import Error
from arrowslit.session import Session, SessionStatus
from arrowslit.work import Work, WorkKind, WorkState

NO_HEARTBEAT = "NO_HEARTBEAT"  # what a worker expects before its first beat
TTL, SHORTEST, LONGEST = 90.0, 10.0, 600.0  # seconds; the worker beats every 30
FIRST_BEAT = 60.0  # seconds from the ack
GRACE = 180.0  # seconds; a worker that winds down lets a call end, which takes it at most 150 s
RECLAIM = 5.0  # seconds until an item that nobody acknowledged is delivered again, as officially
ATTEMPTS = 5  # times in a row that an item is queued again although no worker got anything done
LONGEST_BACKOFF = 30.0  # seconds
RELEASE, RELEASE_LATEST = 10.0, 120.0  # seconds of rest after which a worker is sent home: when others wait, and anyway

Step = Callable[[Work], Work]
"""From an item to the next."""

_LOST = 0.0  # as `lease_until`: before every time there is
_HELD = (WorkState.STARTING, WorkState.ACTIVE, WorkState.STOPPING)


@dataclass(frozen=True, slots=True)
class Beat:
    """A heartbeat as it was sent. `by` is the generation of the sessions token, 0 for an environment key. `release`
    says that the worker is to be sent home with the answer.
    """

    expected: str | None = None
    ttl: float = TTL
    by: int = 0
    release: bool = False


def deliver(work: Work, now: float, reclaim_after: float = RECLAIM) -> Work | None:
    """The item as it is handed to a worker; None for one that waits for its time, or for somebody else's ack."""
    waits = work.delivered_at is not None and now - work.delivered_at < reclaim_after
    if work.state is not WorkState.QUEUED or now < work.not_before or waits:
        return None
    return replace(work, delivered_at=now, generation=work.generation + 1)


def acknowledge(work: Work, now: float) -> Work:
    """The item once a worker has taken it; the same for an ack that comes again.

    Raises Error `work_not_found` for an item that is nobody's any more.
    """
    if work.state in _HELD:
        return work
    if work.state is WorkState.STOPPED or work.delivered_at is None:
        raise Error("work_not_found", "this delivery is no longer open", hint="poll again")
    return replace(work, state=WorkState.STARTING, acknowledged_at=now, lease_until=now + FIRST_BEAT)


def beat(work: Work, now: float, sent: Beat) -> Work:
    """The item after a heartbeat.

    A beat that is repeated because its answer was lost changes nothing; one on an item that is to stop only says when
    the worker learned of it. Raises Error `heartbeat_precondition_failed`: the lease is somebody else's.
    """
    if work.state in (WorkState.STOPPING, WorkState.STOPPED) and not is_lost(work):
        told = work.state is WorkState.STOPPING and sent.by in (0, work.generation)
        return replace(work, heartbeat_at=now) if told else work
    if work.state is WorkState.QUEUED or is_lost(work) or sent.by not in (0, work.generation):
        raise _lost_lease(work)
    if sent.expected not in (None, work.heartbeat or NO_HEARTBEAT):
        if _repeated(work, sent):
            return work
        raise _lost_lease(work)
    beaten = replace(
        work,
        state=WorkState.ACTIVE,
        started_at=work.started_at or now,
        heartbeat=_stamp(now, work.heartbeat),
        previous_heartbeat=work.heartbeat,
        heartbeat_at=now,
        beat_by=sent.by,
        lease_until=now + min(max(sent.ttl, SHORTEST), LONGEST),
    )
    return stop(beaten, now) if sent.release else beaten


def stop(work: Work, now: float, *, force: bool = False) -> Work:
    """The item as it is to stop, or with `force` has stopped. One that no worker holds stops at once."""
    if work.state is WorkState.STOPPED:
        return work
    requested = work.stop_requested_at or now
    if force or work.state not in _HELD:
        return replace(work, state=WorkState.STOPPED, stop_requested_at=requested, stopped_at=now, lease_until=None)
    if work.state is WorkState.STOPPING:
        return work
    return replace(work, state=WorkState.STOPPING, stop_requested_at=requested, lease_until=now + GRACE)


def told_to_stop(work: Work) -> float | None:
    """When the worker of an item that is to stop last learned that it is; None if it does not know."""
    if work.state is not WorkState.STOPPING or work.heartbeat_at is None or work.stop_requested_at is None:
        return None
    return work.heartbeat_at if work.heartbeat_at >= work.stop_requested_at else None


def lose(work: Work, now: float) -> Work:
    """The item taken from its worker, if its lease has ended."""
    return take_away(work) if work.lease_until is not None and work.lease_until <= now else work


def take_away(work: Work) -> Work:
    """The item taken from the worker that holds it, if one does: from now on its token is an earlier generation's."""
    if work.state not in _HELD or is_lost(work):
        return work
    return replace(work, generation=work.generation + 1, lease_until=_LOST)


def is_lost(work: Work) -> bool:
    """Whether the item was taken from its worker and has not yet been given back."""
    return work.state in _HELD and work.lease_until == _LOST


def give_back(work: Work, now: float, *, progress: bool) -> Work:
    """A lost item in the queue again; stopped, if it was to stop, or was queued too often without any `progress`."""
    attempts = 0 if progress else work.attempts + 1
    if work.state is WorkState.STOPPING or attempts > ATTEMPTS:
        return stop(work, now, force=True)
    return replace(_fresh(work), attempts=attempts, not_before=now + backoff(attempts))


def another(work: Work, work_id: str, now: float, *, progress: bool) -> Work | None:
    """The item that follows a stopped one whose session still needs a worker; None if that was tried too often."""
    attempts = 0 if progress else work.attempts + 1
    if attempts > ATTEMPTS:
        return None
    return replace(
        _fresh(work),
        id=work_id,
        metadata={},
        generation=0,
        attempts=attempts,
        not_before=now + backoff(attempts),
        created_at=now,
        stop_requested_at=None,
        stopped_at=None,
    )


def backoff(attempts: int) -> float:
    """Seconds to wait before the next try: none after progress, then 1, 2, 4, …"""
    return min(2.0 ** (attempts - 1), LONGEST_BACKOFF) if attempts else 0.0


def ttl(work: Work) -> int:
    """The lease that the last heartbeat was given, in whole seconds."""
    if work.state is not WorkState.ACTIVE or work.lease_until is None or work.heartbeat_at is None or is_lost(work):
        return round(TTL)
    return round(work.lease_until - work.heartbeat_at)


def may_go(session: Session, state: State, now: float, *, others_wait: bool) -> bool:
    """Whether a session's worker has nothing to do and should be sent home with the answer to its heartbeat.

    It would stay for as long as a person thinks about a confirmation, and serves one session at a time.
    """
    if session.status is SessionStatus.TERMINATED:
        return True
    rest = now - session.updated_at
    return not wants_worker(state, session.definition) and rest > (RELEASE if others_wait else RELEASE_LATEST)


def healthcheck(work_id: str, environment_id: str, now: float) -> Work:
    """An item that a worker acknowledges and stops, and that shows by it that there is one."""
    return Work(id=work_id, environment_id=environment_id, kind=WorkKind.HEALTHCHECK, subject=work_id, created_at=now)


def _fresh(work: Work) -> Work:
    """The item without its last delivery."""
    return replace(
        work,
        state=WorkState.QUEUED,
        delivered_at=None,
        acknowledged_at=None,
        started_at=None,
        heartbeat=None,
        previous_heartbeat=None,
        heartbeat_at=None,
        beat_by=0,
        lease_until=None,
    )


def _repeated(work: Work, sent: Beat) -> bool:
    """Whether this is the last successful beat again, of which the worker has not heard."""
    before = work.previous_heartbeat or NO_HEARTBEAT
    return work.heartbeat is not None and sent.expected == before and sent.by == work.beat_by


def _stamp(now: float, last: str | None) -> str:
    """Opaque to the worker; RFC 3339 with microseconds, later than the last one even if the clock stands."""
    at = round(now * 1_000_000)
    if last is not None:
        at = max(at, round(datetime.fromisoformat(last).timestamp() * 1_000_000) + 1)
    seconds, micros = divmod(at, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{micros:06d}Z"


def _lost_lease(work: Work) -> Error:
    current = {
        "state": work.state.value,
        "ttl_seconds": ttl(work),
        "last_heartbeat": work.heartbeat,
        "lease_extended": False,
    }
    return Error(
        "heartbeat_precondition_failed",
        "the lease on this item is not the one that was expected",
        hint="let go of the session, and poll for another item",
        current_state=current,
    )
