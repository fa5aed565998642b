"""Change: what somebody decided to add to a session's log, and what follows from it by rule alone. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from arrowslit.agents.sessions.state import (
    IDLE,
    MAY_FOLLOW,
    RUNNING,
    STATUS_EVENTS,
    CallKind,
    State,
    Turn,
    fold,
    processed,
    runnable,
)
from arrowslit.session import Event, Session, SessionStatus


@dataclass(frozen=True, slots=True)
class Draft:
    """An event to be. Without an id it is given one. `processed` is false for a message that waits for a turn: the log
    lets the next turn take it, at once where the session is idle.
    """

    type: str
    body: Mapping[str, object] = field(default_factory=dict)
    id: str | None = None
    processed: bool = True


@dataclass(frozen=True, slots=True)
class Change:
    """What happened, in order. `processed` are earlier messages that are taken into the turn now; `fence` takes the
    lease away from whoever works on the session; `revise` changes the session's own fields (title, definition, due …).
    """

    drafts: tuple[Draft, ...] = ()
    processed: tuple[str, ...] = ()
    fence: bool = False
    revise: Callable[[Session], Session] | None = None


@dataclass(frozen=True, slots=True)
class Appended:
    """What a change comes to: the events, the state after them, and which earlier messages are processed with them."""

    state: State
    events: tuple[Event, ...]
    processed: tuple[str, ...]


def idle(reason: str, turn: Turn | None = None, **more: object) -> Draft:
    """The event that ends a turn. It names what the turn left unconfirmed, if anything."""
    left = [*turn.unconfirmed, *turn.unlisted] if turn else []
    unconfirmed = {"unconfirmed": left} if left else {}
    return Draft(IDLE, {"stop_reason": {"type": reason}, "stop_details": None, **more, **unconfirmed})


def settle(state: State) -> Draft | None:
    """The change of status that follows from `state` by rule alone, None if its status is true.

    A waiting message begins a turn as soon as there is none. In a turn the session runs while the relay has the next
    step, or a worker has one that a person allowed; else it is blocked, and says by what.
    """
    if state.status is SessionStatus.TERMINATED:
        return None
    if state.turn is None:
        return Draft(RUNNING) if state.waiting else None
    if state.status is SessionStatus.RESCHEDULING:
        return None
    if _goes_on(state):
        return Draft(RUNNING) if state.status is SessionStatus.IDLE else None
    reason = {"type": "requires_action", "event_ids": list(state.required)}
    return None if state.stop_reason == reason else Draft(IDLE, {"stop_reason": reason, "stop_details": None})


def carry_out(state: State, change: Change, now: float, ids: Callable[[], str]) -> Appended:
    """`change` and what follows from it, as events after `state.seq`.

    Raises ValueError for a change of status that the table in `state.py` does not have: that is a defect.
    """
    earlier = list(change.processed)
    events = numbered(state.seq, change.drafts, now, ids)
    after = state
    for event in events:
        if event.type in STATUS_EVENTS and event.type not in MAY_FOLLOW[after.status]:
            raise ValueError(f"{event.type} cannot follow the status {after.status}")
        after = fold(after, [event])
    after = processed(after, earlier)
    while (draft := settle(after)) is not None:
        if after.turn is None:  # a turn begins, and takes all that waits
            taken = frozenset(after.waiting)
            new = {event.id for event in events}
            events = [replace(event, processed_at=now) if event.id in taken else event for event in events]
            earlier += [each for each in after.waiting if each not in new]
            after = processed(after, taken)
        more = numbered(after.seq, [draft], now, ids)
        after = fold(after, more)
        events += more
    return Appended(after, tuple(events), tuple(earlier))


def numbered(after: int, drafts: Sequence[Draft], now: float, ids: Callable[[], str]) -> list[Event]:
    """The drafts as events that follow the event `after`."""
    return [
        Event(
            seq=seq,
            id=draft.id or ids(),
            type=draft.type,
            created_at=now,
            processed_at=now if draft.processed else None,
            body=draft.body,
        )
        for seq, draft in enumerate(drafts, after + 1)
    ]


def _goes_on(state: State) -> bool:
    running = replace(state, status=SessionStatus.RUNNING)
    return runnable(running) or any(each.kind is CallKind.SANDBOX and each.confirmed for each in state.open)
