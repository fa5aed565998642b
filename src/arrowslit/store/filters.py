"""Which sessions, and which events, a list shows: filters as SQL."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Select, and_, or_, select

from arrowslit.session import EventFilter, SessionFilter
from arrowslit.store.tables import session_events, sessions


def matching_sessions(query: Select[Any], which: SessionFilter) -> Select[Any]:
    """`query`, which selects sessions, for one page; a page that goes backwards comes in the opposite order."""
    conditions: list[ColumnElement[bool]] = [
        sessions.c.tenant.is_(None) if which.tenant is None else sessions.c.tenant == which.tenant,
        *_within(
            sessions.c.created_at,
            which.created_after,
            which.created_since,
            which.created_before,
            which.created_until,
        ),
    ]
    if which.agents is not None:
        conditions.append(sessions.c.agent_id.in_(which.agents))
    if which.agent_id is not None:
        conditions.append(sessions.c.agent_id == which.agent_id)
    if which.agent_version is not None:
        conditions.append(sessions.c.agent_version == which.agent_version)
    if which.statuses:
        conditions.append(sessions.c.status.in_([status.value for status in which.statuses]))
    if not which.include_archived:
        conditions.append(sessions.c.archived_at.is_(None))
    rising = which.oldest_first != which.backwards
    if which.position is not None:
        conditions.append(_beyond(which.position, rising=rising))
    created_at, session_id = sessions.c.created_at, sessions.c.id
    order = (created_at, session_id) if rising else (created_at.desc(), session_id.desc())
    return query.where(*conditions).order_by(*order).limit(which.limit)


def matching_events(session_id: str, which: EventFilter) -> Select[Any]:
    """A query for events."""
    seq, processed_at = session_events.c.seq, session_events.c.processed_at
    conditions: list[ColumnElement[bool]] = [
        session_events.c.session_id == session_id,
        *_within(
            processed_at,
            which.processed_after,
            which.processed_since,
            which.processed_before,
            which.processed_until,
        ),
    ]
    if which.types:
        conditions.append(session_events.c.type.in_(which.types))
    if which.after and which.newest_first:
        conditions.append(seq < which.after)
    elif which.after:
        conditions.append(seq > which.after)
    order = seq.desc() if which.newest_first else seq
    return select(session_events).where(*conditions).order_by(order).limit(which.limit)


def _within(
    column: ColumnElement[float],
    after: float | None,
    since: float | None,
    before: float | None,
    until: float | None,
) -> list[ColumnElement[bool]]:
    bounds = []
    if after is not None:
        bounds.append(column > after)
    if since is not None:
        bounds.append(column >= since)
    if before is not None:
        bounds.append(column < before)
    if until is not None:
        bounds.append(column <= until)
    return bounds


def _beyond(position: tuple[float, str], *, rising: bool) -> ColumnElement[bool]:
    """What comes after an entry, by time and then by id."""
    at, entry_id = position
    created_at, session_id = sessions.c.created_at, sessions.c.id
    if rising:
        return or_(created_at > at, and_(created_at == at, session_id > entry_id))
    return or_(created_at < at, and_(created_at == at, session_id < entry_id))
