"""Work: one session, or a health check, waiting for or held by a sandbox worker; Worker; the port WorkQueue."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class WorkState(StrEnum):
    """The life of an item: queued (also while a delivery waits for its ack), starting, active, stopping, stopped."""

    QUEUED = "queued"
    STARTING = "starting"
    ACTIVE = "active"
    STOPPING = "stopping"
    STOPPED = "stopped"


class WorkKind(StrEnum):
    """What a worker is to do: serve a session, or say that it is alive."""

    SESSION = "session"
    HEALTHCHECK = "healthcheck"


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One item of an environment's queue. Times are Unix seconds; `heartbeat` is the opaque text that the worker has to
    echo, None before the first beat.

    `subject` is the session's id, or the item's own for a health check. `generation` counts deliveries: each has its
    own sessions token, and only the last one's holds the lease. `previous_heartbeat` is the text before, good for the
    repetition of a beat whose answer was lost; `beat_by` the generation that wrote the last one. `attempts` counts how
    often the item was queued again, `not_before` keeps it from being delivered too early.
    """

    id: str
    environment_id: str
    kind: WorkKind
    subject: str
    state: WorkState = WorkState.QUEUED
    metadata: Mapping[str, str] = field(default_factory=dict)
    generation: int = 0
    attempts: int = 0
    not_before: float = 0.0
    created_at: float = 0.0
    delivered_at: float | None = None
    acknowledged_at: float | None = None
    started_at: float | None = None
    heartbeat: str | None = None
    previous_heartbeat: str | None = None
    heartbeat_at: float | None = None
    beat_by: int = 0
    lease_until: float | None = None
    stop_requested_at: float | None = None
    stopped_at: float | None = None


@dataclass(frozen=True, slots=True)
class Worker:
    """An authenticated sandbox worker: by its environment's key, or by the sessions token of one delivery.

    `id` is the key's id, or the item's. With a sessions token `work_id`, `session_id` and `generation` say which
    delivery; `late` that the item was delivered again or ended since: then it may post results and nothing else, for a
    while.
    """

    id: str
    environment_id: str
    work_id: str | None = None
    session_id: str | None = None
    generation: int = 0
    late: bool = False


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """Of one environment: items that wait, items delivered and not acknowledged, when the oldest waiting one came."""

    depth: int
    pending: int
    oldest_queued_at: float | None


class WorkQueue(Protocol):
    """All items. Steps are pure functions on an item (see `agents/work/leases.py`); the queue keeps what they make.

    Raises Error `work_not_found`, also for an item of another environment than the given one.
    """

    async def add(self, work: Work) -> Work:
        """Queue an item. A session has at most one that is not stopped: then that one is returned, unchanged."""
        ...

    async def next(
        self, environment_id: str, key_id: str, step: Callable[[Work], Work | None]
    ) -> tuple[Work, str] | None:
        """The oldest queued item of which `step` makes a delivery (None: not this one), kept, with the token of its new
        generation (`asl_wrk_…`); None if there is none. The token is good as long as the environment key that was used.
        """
        ...

    async def change(self, environment_id: str, work_id: str, step: Callable[[Work], Work]) -> Work:
        """The item as `step` makes it of what is there now; in one transaction. What `step` raises is raised."""
        ...

    async def read(self, environment_id: str, work_id: str) -> Work:
        """The item."""
        ...

    async def of_session(self, session_id: str) -> Work | None:
        """The item of a session that is not stopped."""
        ...

    async def list(self, environment_id: str) -> Sequence[Work]:
        """All items of an environment, newest first; stopped ones for at least a day."""
        ...

    async def due(self, now: float) -> Sequence[Work]:
        """Items in `starting`, `active` or `stopping` whose `lease_until` has passed."""
        ...

    async def of_ended_sessions(self) -> Sequence[Work]:
        """Items in `queued`, `starting` or `active` whose session is terminated or gone."""
        ...

    async def facts(self, environment_id: str) -> QueueFacts:
        """Figures for `stats`."""
        ...

    async def worker(self, token: str) -> Worker | None:
        """Who holds this environment key or sessions token. A sessions token of an earlier delivery, or of an item that
        is stopped, is `late` for 180 s after that, then unknown. When it becomes late, those who listen to `Changes`
        hear KeyRevoked with the item's id, which is the worker's, so that what it has open ends.
        """
        ...

    def on_queued(self, listener: Callable[[str], None]) -> None:
        """Call `listener` with the environment's id after each item that was queued (also by `Sessions.append`), once
        it is on disk. It returns at once.
        """
        ...
