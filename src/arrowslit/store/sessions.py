"""Sessions, their events and the leases on them, in the store: the port Sessions.

An append is one transaction whose first statement compares and swaps the session's `last_seq`: that makes the order of
events gapless, and whoever decided on an older state, or lost the lease, writes nothing (as infrastructure.md, 3, has
it).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Row, Update, bindparam, delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from arrowslit.clock import Clock
from arrowslit.errors import Error
from arrowslit.session import (
    Batch,
    Conflict,
    Event,
    EventFilter,
    Lease,
    LeaseLost,
    Session,
    SessionFilter,
)
from arrowslit.store.database import Database
from arrowslit.store.environments import StoredEnvironments
from arrowslit.store.files import StoredFiles
from arrowslit.store.files import forget as forget_files
from arrowslit.store.filters import matching_events, matching_sessions
from arrowslit.store.tables import dispatched_calls, session_events, sessions
from arrowslit.store.work import StoredWork, enqueue, stop_of_session
from arrowslit.work import Work

_SHOWN = [sessions.c[field.name] for field in fields(Session)]
_NOT_LEASED = {"lease_epoch": 0, "lease_until": None}
_LEASE_ENDS = {"lease_epoch": sessions.c.lease_epoch + 1, "lease_until": None}


def _swap(leased: bool, fence: bool) -> Update:
    """The compare-and-swap of an append, made once: building it takes longer than SQLite takes to run it."""
    swap = update(sessions).where(sessions.c.id == bindparam("this"), sessions.c.last_seq == bindparam("after"))
    if leased:
        swap = swap.where(sessions.c.lease_epoch == bindparam("epoch"))
    return swap.values(**_LEASE_ENDS) if fence else swap


_SWAPS = {(leased, fence): _swap(leased, fence) for leased in (False, True) for fence in (False, True)}
_INSERT_EVENTS = insert(session_events)


class StoredSessions:
    """All sessions."""

    def __init__(
        self,
        database: Database,
        environments: StoredEnvironments,
        work: StoredWork,
        files: StoredFiles,
        clock: Clock,
    ) -> None:
        self._database, self._environments, self._work = database, environments, work
        self._files, self._clock = files, clock

    async def create(self, batch: Batch) -> Session:
        """See `Sessions.create`. Raises Error `environment_not_found` or `environment_archived`."""
        rows = _checked(batch)
        now = self._clock.now()

        async def make(connection: AsyncConnection) -> Work | None:
            if batch.session.environment_id is not None:
                self._environments.usable(batch.session.environment_id)
            await connection.execute(insert(sessions).values(**_row(batch.session), **_NOT_LEASED))
            return await _add(connection, batch, rows, now)

        await self._database.write(make, self._work.announce)
        return batch.session

    async def read(self, session_id: str) -> Session:
        """See `Sessions.read`."""
        rows = await self._database.read(select(*_SHOWN).where(sessions.c.id == session_id))
        if not rows:
            raise _not_found()
        return _from_row(rows[0])

    async def list(self, which: SessionFilter) -> Sequence[Session]:
        """See `Sessions.list`."""
        found = [_from_row(row) for row in await self._database.read(matching_sessions(select(*_SHOWN), which))]
        return found[::-1] if which.backwards else found

    async def events(self, session_id: str, which: EventFilter) -> Sequence[Event]:
        """See `Sessions.events`."""
        found = await self._database.read(matching_events(session_id, which))
        if not found:
            await self.read(session_id)
        return [Event(row.seq, row.id, row.type, row.created_at, row.processed_at, row.body) for row in found]

    async def append(self, batch: Batch) -> None:
        """See `Sessions.append`."""
        rows = _checked(batch)
        now = self._clock.now()
        swap = _SWAPS[batch.lease is not None, batch.fence]
        values = {**_row(batch.session), "this": batch.session.id, "after": batch.after}
        if batch.lease is not None:
            values["epoch"] = batch.lease.epoch

        async def add(connection: AsyncConnection) -> Work | None:
            if (await connection.execute(swap, values)).rowcount != 1:
                raise await _refusal(connection, batch.session.id, batch.lease)
            return await _add(connection, batch, rows, now)

        await self._database.write(add, self._work.announce)

    async def delete(self, session_id: str) -> None:
        """See `Sessions.delete`."""
        now = self._clock.now()

        async def forget(connection: AsyncConnection) -> tuple[str | None, Sequence[str]]:
            stopped = await stop_of_session(connection, session_id, now)
            files = await forget_files(connection, session_id)
            await connection.execute(delete(dispatched_calls).where(dispatched_calls.c.session_id == session_id))
            await connection.execute(delete(session_events).where(session_events.c.session_id == session_id))
            if (await connection.execute(delete(sessions).where(sessions.c.id == session_id))).rowcount != 1:
                raise _not_found()
            return stopped, files

        _, files = await self._database.write(forget, lambda gone: self._work.let_go(gone[0]))
        await self._files.discard(files)

    async def claim(self, session_id: str, until: float) -> Lease | None:
        """See `Sessions.claim`. None also for a session that is not there."""
        free = or_(sessions.c.lease_until.is_(None), sessions.c.lease_until <= self._clock.now())
        take = update(sessions).where(sessions.c.id == session_id, sessions.c.runnable, free)
        take = take.values(lease_epoch=sessions.c.lease_epoch + 1, lease_until=until)

        async def swap(connection: AsyncConnection) -> Lease | None:
            epoch = (await connection.execute(take.returning(sessions.c.lease_epoch))).scalar_one_or_none()
            return None if epoch is None else Lease(session_id, epoch)

        return await self._database.write(swap, _nothing)

    async def extend(self, lease: Lease, until: float) -> None:
        """See `Sessions.extend`."""

        async def keep(connection: AsyncConnection) -> None:
            await _hold(connection, lease, {"lease_until": until})

        await self._database.write(keep, _nothing)

    async def release(self, lease: Lease) -> None:
        """See `Sessions.release`."""

        async def give_back(connection: AsyncConnection) -> None:
            await connection.execute(_held(lease).values(**_LEASE_ENDS))

        await self._database.write(give_back, _nothing)

    async def release_all(self) -> None:
        """See `Sessions.release_all`."""

        async def end(connection: AsyncConnection) -> None:
            await connection.execute(update(sessions).where(sessions.c.lease_until.is_not(None)).values(**_LEASE_ENDS))

        await self._database.write(end, _nothing)

    async def runnable(self, now: float, limit: int) -> Sequence[str]:
        """See `Sessions.runnable`."""
        free = or_(sessions.c.lease_until.is_(None), sessions.c.lease_until <= now)
        query = select(sessions.c.id).where(sessions.c.runnable, sessions.c.due <= now, free)
        rows = await self._database.read(query.order_by(sessions.c.updated_at, sessions.c.id).limit(limit))
        return [row.id for row in rows]

    async def mark_dispatched(self, lease: Lease, calls: Mapping[str, str]) -> None:
        """See `Sessions.mark_dispatched`."""
        rows = [
            {"session_id": lease.session_id, "event_id": event_id, "call_id": call_id}
            for event_id, call_id in calls.items()
        ]

        async def mark(connection: AsyncConnection) -> None:
            await _hold(connection, lease, {"lease_epoch": lease.epoch})
            await connection.execute(delete(dispatched_calls).where(_calls(lease.session_id, calls)))
            if rows:
                await connection.execute(insert(dispatched_calls), rows)

        await self._database.write(mark, _nothing)

    async def dispatched(self, session_id: str, event_ids: Collection[str]) -> Mapping[str, str]:
        """See `Sessions.dispatched`."""
        if not event_ids:
            return {}
        query = select(dispatched_calls).where(_calls(session_id, event_ids))
        return {row.event_id: row.call_id for row in await self._database.read(query)}


async def _add(
    connection: AsyncConnection, batch: Batch, rows: Sequence[Mapping[str, object]], now: float
) -> Work | None:
    """What comes after the session's own row: the events, those now processed, and the item of work."""
    if rows:
        await connection.execute(_INSERT_EVENTS, rows)
    if batch.processed:
        these = (session_events.c.session_id == batch.session.id) & session_events.c.id.in_(batch.processed)
        await connection.execute(update(session_events).where(these).values(processed_at=batch.session.updated_at))
    return None if batch.work is None else await enqueue(connection, batch.work, now)


async def _hold(connection: AsyncConnection, lease: Lease, values: Mapping[str, object]) -> None:
    """Write to the session's row, which nobody else then gets past, if the lease is the newest."""
    if not await _hits(connection, _held(lease).values(**values)):
        raise await _refusal(connection, lease.session_id, lease)


async def _hits(connection: AsyncConnection, one: Update) -> bool:
    return (await connection.execute(one)).rowcount == 1


async def _refusal(connection: AsyncConnection, session_id: str, lease: Lease | None) -> Exception:
    """Why the row was not the expected one."""
    row = (await connection.execute(select(sessions.c.lease_epoch).where(sessions.c.id == session_id))).first()
    if row is None:
        return _not_found()
    return LeaseLost() if lease is not None and row.lease_epoch != lease.epoch else Conflict()


def _held(lease: Lease) -> Update:
    return update(sessions).where(sessions.c.id == lease.session_id, sessions.c.lease_epoch == lease.epoch)


def _calls(session_id: str, event_ids: Collection[str]) -> ColumnElement[bool]:
    return (dispatched_calls.c.session_id == session_id) & dispatched_calls.c.event_id.in_(event_ids)


def _checked(batch: Batch) -> Sequence[Mapping[str, object]]:
    """The rows of a batch's events. Raises ValueError for one that would leave a gap: that is a defect."""
    seqs = [event.seq for event in batch.events]
    if seqs != list(range(batch.after + 1, batch.session.last_seq + 1)):
        raise ValueError(f"events {seqs} do not lead from {batch.after} to {batch.session.last_seq}")
    return [
        {
            "session_id": batch.session.id,
            "seq": event.seq,
            "id": event.id,
            "type": event.type,
            "created_at": event.created_at,
            "processed_at": event.processed_at,
            "body": event.body,
        }
        for event in batch.events
    ]


def _row(session: Session) -> dict[str, Any]:
    """The fields of a session are the columns of its table."""
    return dict(msgspec.to_builtins(session))


def _from_row(row: Row[Any]) -> Session:
    return msgspec.convert({field.name: getattr(row, field.name) for field in fields(Session)}, Session)


def _not_found() -> Error:
    return Error("session_not_found", "there is no such session", hint="see which there are: GET /v1/sessions")


def _nothing(_result: object) -> None:
    """What follows a write that changes nothing in memory."""
