"""Session: one conversation with an agent, and its Events in a gapless order; the port Sessions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from arrowslit.agent import Definition
from arrowslit.principal import Tenant
from arrowslit.work import Work


class SessionStatus(StrEnum):
    """What the official API calls the status of a session."""

    IDLE = "idle"
    RUNNING = "running"
    RESCHEDULING = "rescheduling"
    TERMINATED = "terminated"


@dataclass(frozen=True, slots=True)
class Usage:
    """Totals of a session: tokens as the model counted them, seconds in which a turn ran."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0
    active_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A conversation. It belongs to the tenant of the principal that made it. Times are Unix seconds.

    `definition` is the agent's as it was then, with what the session was told to narrow. `last_seq` is the number of
    its newest event, 0 before the first. `runnable` says that the relay has something to do for it (ask the model, call
    a server) and is not waiting for anybody. `had_work` says that an item of work was queued for it: a worker with its
    environment's key may see it from then on. `due` is when it may go on, for one that waits for the model to recover.
    """

    id: str
    tenant: Tenant | None
    principal_id: str
    agent_id: str
    agent_version: int
    definition: Definition
    environment_id: str | None = None
    title: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    status: SessionStatus = SessionStatus.IDLE
    usage: Usage = Usage()
    last_seq: int = 0
    runnable: bool = False
    had_work: bool = False
    due: float = 0.0
    created_at: float = 0.0
    updated_at: float = 0.0
    archived_at: float | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a session. `seq` counts from 1 without gaps. `processed_at` is None while a message waits its turn.

    `body` holds the fields beside `id`, `type` and `processed_at`, JSON values only.
    """

    seq: int
    id: str
    type: str
    created_at: float
    processed_at: float | None
    body: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to take a session further. `epoch` is the fencing token: whoever claims later has a higher one."""

    session_id: str
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What is appended in one transaction, or not at all.

    `after` is the `last_seq` that the decision was made on; `events` follow it without a gap (there may be none);
    `session` is the session as it is afterwards. `processed` are ids of earlier events that are processed from now on
    (`session.updated_at`). With `lease` the append also needs that lease to be the newest; `fence` takes it away from
    whoever has it. `work` is queued, unless the session has an item already.
    """

    after: int
    session: Session
    events: tuple[Event, ...] = ()
    processed: tuple[str, ...] = ()
    lease: Lease | None = None
    fence: bool = False
    work: Work | None = None


class Conflict(Exception):
    """Somebody else appended first: read again, decide again."""


class LeaseLost(Exception):
    """Somebody else took the session over, or it was interrupted: stop working on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFilter:
    """Which sessions a list shows, and where a page begins. Bounds of time are Unix seconds.

    `agents` None means any; `position` is `(created_at, id)` of the last entry of the page before.
    """

    tenant: Tenant | None
    agents: frozenset[str] | None = None
    agent_id: str | None = None
    agent_version: int | None = None
    statuses: Collection[SessionStatus] = ()
    created_after: float | None = None  # exclusive
    created_since: float | None = None  # inclusive
    created_before: float | None = None  # exclusive
    created_until: float | None = None  # inclusive
    include_archived: bool = False
    oldest_first: bool = False
    position: tuple[float, str] | None = None
    backwards: bool = False  # the page before `position`, in the list's own order
    limit: int = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which events of a session, in the order of their `seq`. Bounds of time are on `processed_at`."""

    after: int = 0  # seq, exclusive; with `newest_first` the seq below which to begin, 0 for the end
    types: Collection[str] = ()
    processed_after: float | None = None
    processed_since: float | None = None
    processed_before: float | None = None
    processed_until: float | None = None
    newest_first: bool = False
    limit: int = 1000


class Sessions(Protocol):
    """All sessions and their events, on disk. Raises Error `session_not_found` for one that is not there.

    It asks nobody who they are: whoever calls has checked that.
    """

    async def create(self, batch: Batch) -> Session:
        """Keep a new session with its first events (`after` is 0)."""
        ...

    async def read(self, session_id: str) -> Session:
        """The session. One that was deleted is not found."""
        ...

    async def list(self, which: SessionFilter) -> Sequence[Session]:
        """At most `limit` sessions, newest first unless asked otherwise."""
        ...

    async def events(self, session_id: str, which: EventFilter) -> Sequence[Event]:
        """At most `limit` events."""
        ...

    async def append(self, batch: Batch) -> None:
        """Append. Raises Conflict if `after` is not the session's `last_seq`, LeaseLost if `lease` is an older one."""
        ...

    async def delete(self, session_id: str) -> None:
        """Forget the session and its events."""
        ...

    async def claim(self, session_id: str, until: float) -> Lease | None:
        """The lease of a session that is runnable, if nobody's lease is valid now; valid until `until`."""
        ...

    async def extend(self, lease: Lease, until: float) -> None:
        """Keep a lease longer. Raises LeaseLost."""
        ...

    async def release(self, lease: Lease) -> None:
        """Give a lease back; one that was lost is nothing to complain about."""
        ...

    async def release_all(self) -> None:
        """At the start of the only process on this database: leases of the one before are nobody's."""
        ...

    async def runnable(self, now: float, limit: int) -> Sequence[str]:
        """Ids of sessions that may go on now and that nobody's valid lease holds, those that wait longest first."""
        ...

    async def mark_dispatched(self, lease: Lease, calls: Mapping[str, str]) -> None:
        """Note on disk, before they leave, that calls leave: event id -> call id. Raises LeaseLost."""
        ...

    async def dispatched(self, session_id: str, event_ids: Collection[str]) -> Mapping[str, str]:
        """Which of these calls may have left, with the call id of the last time."""
        ...
