"""Items of work, and the tokens of their deliveries, in the store: the port WorkQueue."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

import msgspec
from sqlalchemy import Row, Select, case, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from arrowslit.clock import Clock
from arrowslit.credential import CredentialKind, Hasher, encode, kind_of
from arrowslit.errors import Error
from arrowslit.ids import RandomBytes
from arrowslit.principal import Change, KeyRevoked
from arrowslit.session import SessionStatus
from arrowslit.store.database import Database
from arrowslit.store.environments import StoredEnvironments
from arrowslit.store.tables import sessions, work_tokens
from arrowslit.store.tables import work as items
from arrowslit.work import QueueFacts, Work, Worker, WorkKind, WorkState

log = logging.getLogger(__name__)

LATE_FOR = 180.0  # seconds; the SDK's worker lets a call end, which takes it at most 150 s, and posts the result
KEPT_FOR = 24 * 3600.0  # seconds that a stopped item is kept and listed

_LEASED = (WorkState.STARTING, WorkState.ACTIVE, WorkState.STOPPING)
_UNFINISHED = (WorkState.QUEUED, WorkState.STARTING, WorkState.ACTIVE)
_HELD_BY_NOBODY = (WorkState.QUEUED, WorkState.STOPPED)


class StoredWork:
    """All items. A step on one and what follows from it for its tokens are one transaction."""

    def __init__(
        self,
        database: Database,
        environments: StoredEnvironments,
        notify: Callable[[Change], None],
        hasher: Hasher,
        clock: Clock,
        random: RandomBytes,
    ) -> None:
        self._database, self._environments, self._notify = database, environments, notify
        self._hasher, self._clock, self._random = hasher, clock, random
        self._listeners: list[Callable[[str], None]] = []

    async def add(self, work: Work) -> Work:
        """See `WorkQueue.add`."""
        now = self._clock.now()

        async def insert_it(connection: AsyncConnection) -> Work:
            self._environments.read(work.environment_id)
            return await enqueue(connection, work, now)

        return await self._database.write(insert_it, self.announce)

    async def next(
        self, environment_id: str, key_id: str, step: Callable[[Work], Work | None]
    ) -> tuple[Work, str] | None:
        """See `WorkQueue.next`."""
        now = self._clock.now()
        waiting = _waiting(environment_id).where(items.c.not_before <= now)
        if not await self._database.read(waiting.limit(1)):
            return None  # what nearly every poll finds, without waiting for those who write
        text = encode(CredentialKind.SESSIONS_TOKEN, self._random(32))

        async def deliver(connection: AsyncConnection) -> tuple[Work, Work] | None:
            async with connection.stream(waiting.with_for_update(skip_locked=True)) as rows:
                async for row in rows:
                    before = _from_row(row)
                    if (after := step(before)) is not None:
                        break
                else:
                    return None
            await _save(connection, before, after, now)
            token = {"hash": self._hasher(text), "work_id": after.id, "generation": after.generation}
            await connection.execute(insert(work_tokens).values(**token, key_id=key_id, late_at=None))
            return before, after

        def then(step_taken: tuple[Work, Work] | None) -> None:
            if step_taken is not None:
                self._tell(*step_taken)

        taken = await self._database.write(deliver, then)
        return None if taken is None else (taken[1], text)

    async def change(self, environment_id: str, work_id: str, step: Callable[[Work], Work]) -> Work:
        """See `WorkQueue.change`."""
        now = self._clock.now()

        async def take(connection: AsyncConnection) -> tuple[Work, Work]:
            row = (await connection.execute(_one(environment_id, work_id).with_for_update())).first()
            before = _found(row)
            after = step(before)
            if after != before:
                await _save(connection, before, after, now)
            return before, after

        return (await self._database.write(take, lambda taken: self._tell(*taken)))[1]

    async def read(self, environment_id: str, work_id: str) -> Work:
        """See `WorkQueue.read`."""
        return _found(next(iter(await self._database.read(_one(environment_id, work_id))), None))

    async def of_session(self, session_id: str) -> Work | None:
        """See `WorkQueue.of_session`."""
        rows = await self._database.read(_unfinished(session_id))
        return _from_row(rows[0]) if rows else None

    async def list(self, environment_id: str) -> Sequence[Work]:
        """See `WorkQueue.list`."""
        shown = (items.c.state != WorkState.STOPPED) | (items.c.stopped_at >= self._clock.now() - KEPT_FOR)
        query = select(items).where(items.c.environment_id == environment_id, shown)
        return [
            _from_row(row)
            for row in await self._database.read(query.order_by(items.c.created_at.desc(), items.c.id.desc()))
        ]

    async def due(self, now: float) -> Sequence[Work]:
        """See `WorkQueue.due`."""
        query = select(items).where(items.c.state.in_(_LEASED), items.c.lease_until <= now)
        return [_from_row(row) for row in await self._database.read(query.order_by(items.c.lease_until))]

    async def of_ended_sessions(self) -> Sequence[Work]:
        """See `WorkQueue.of_ended_sessions`."""
        going_on = select(sessions.c.id).where(
            sessions.c.id == items.c.subject, sessions.c.status != SessionStatus.TERMINATED
        )
        query = select(items).where(
            items.c.state.in_(_UNFINISHED), items.c.kind == WorkKind.SESSION, ~going_on.exists()
        )
        return [_from_row(row) for row in await self._database.read(query)]

    async def facts(self, environment_id: str) -> QueueFacts:
        """See `WorkQueue.facts`."""
        query = select(
            func.count(case((items.c.delivered_at.is_(None), 1))).label("depth"),
            func.count(items.c.delivered_at).label("pending"),
            func.min(items.c.created_at).label("oldest"),
        ).where(items.c.environment_id == environment_id, items.c.state == WorkState.QUEUED)
        (row,) = await self._database.read(query)
        return QueueFacts(row.depth, row.pending, row.oldest)

    async def worker(self, token: str) -> Worker | None:
        """See `WorkQueue.worker`."""
        if (key := self._environments.key_by_text(token)) is not None:
            return Worker(key.id, key.environment_id)
        if kind_of(token) is not CredentialKind.SESSIONS_TOKEN:
            return None
        this = work_tokens.c.hash == self._hasher(token)
        columns = (items.c.id, items.c.environment_id, items.c.kind, items.c.subject)
        of_token = (work_tokens.c.generation, work_tokens.c.key_id, work_tokens.c.late_at)
        query = select(*columns, *of_token).join_from(items, work_tokens)
        for row in await self._database.read(query.where(this)):
            if not self._environments.key_is_live(row.key_id):
                return None
            if row.late_at is not None and self._clock.now() >= row.late_at + LATE_FOR:
                return None
            session_id = row.subject if row.kind == WorkKind.SESSION else None
            return Worker(row.id, row.environment_id, row.id, session_id, row.generation, row.late_at is not None)
        return None

    def on_queued(self, listener: Callable[[str], None]) -> None:
        """See `WorkQueue.on_queued`."""
        self._listeners.append(listener)

    def let_go(self, work_id: str | None) -> None:
        """Tell those who hold something open for its worker, if this is an item, that it is no longer its worker's."""
        if work_id is not None:
            self._notify(KeyRevoked(work_id))

    def _tell(self, before: Work, after: Work) -> None:
        if _lets_go(before, after):
            self.let_go(after.id)
        if after != before:
            self.announce(after)

    def announce(self, work: Work | None) -> None:
        """Tell those who wait for work, if this is some."""
        if work is None or work.state is not WorkState.QUEUED:
            return
        for listener in self._listeners:
            try:
                listener(work.environment_id)
            except Exception:
                log.exception("a listener failed on %s; the others are still told", work.id)


async def enqueue(connection: AsyncConnection, work: Work, now: float) -> Work:
    """Insert an item in the caller's transaction, unless its session has one that is not stopped: then return that."""
    row = (await connection.execute(_unfinished(work.subject))).first()
    if row is not None:
        return _from_row(row)
    await _prune(connection, work.environment_id, now - KEPT_FOR)
    await connection.execute(insert(items).values(_row(work)))
    return work


async def stop_of_session(connection: AsyncConnection, session_id: str, now: float) -> str | None:
    """Stop the item of a session that is being forgotten; return its id if there is one."""
    row = (await connection.execute(_unfinished(session_id))).first()
    if row is None:
        return None
    before = _from_row(row)
    await _save(connection, before, replace(before, state=WorkState.STOPPED, lease_until=None, stopped_at=now), now)
    return before.id


async def _save(connection: AsyncConnection, before: Work, after: Work, now: float) -> None:
    """Write an item; the delivery that no longer holds it is late from now on."""
    await connection.execute(update(items).where(items.c.id == after.id).values(_row(after)))
    if _lets_go(before, after):
        current = (work_tokens.c.work_id == after.id) & work_tokens.c.late_at.is_(None)
        await connection.execute(update(work_tokens).where(current).values(late_at=now))


def _lets_go(before: Work, after: Work) -> bool:
    """Whether a step takes the item from the worker that it was last delivered to."""
    ended = after.state in _HELD_BY_NOBODY and before.state is not after.state
    return before.generation > 0 and (ended or after.generation > before.generation)


async def _prune(connection: AsyncConnection, environment_id: str, before: float) -> None:
    """Forget items that were stopped before that moment."""
    old = select(items.c.id).where(
        items.c.environment_id == environment_id,
        items.c.state == WorkState.STOPPED,
        items.c.created_at < before,  # which the index knows
        items.c.stopped_at < before,
    )
    gone = list((await connection.scalars(old)).all())
    if gone:
        await connection.execute(delete(work_tokens).where(work_tokens.c.work_id.in_(gone)))
        await connection.execute(delete(items).where(items.c.id.in_(gone)))


def _waiting(environment_id: str) -> Select[Any]:
    this = (items.c.environment_id == environment_id) & (items.c.state == WorkState.QUEUED)
    return select(items).where(this).order_by(items.c.created_at, items.c.id)


def _unfinished(subject: str) -> Select[Any]:
    return select(items).where(items.c.subject == subject, items.c.state != WorkState.STOPPED)


def _one(environment_id: str, work_id: str) -> Select[Any]:
    return select(items).where(items.c.id == work_id, items.c.environment_id == environment_id)


def _found(row: Row[Any] | None) -> Work:
    if row is None:
        raise Error("work_not_found", "the environment has no such work", hint="see which it has: GET on its /work")
    return _from_row(row)


def _row(work: Work) -> dict[str, Any]:
    """The fields of an item are the columns of its table."""
    return {**msgspec.to_builtins(work), "metadata": dict(work.metadata)}


def _from_row(row: Row[Any]) -> Work:
    return msgspec.convert({field.name: getattr(row, field.name) for field in fields(Work)}, Work)
