"""Inbox: what an event that a client or a worker sends means for a session. Pure: all is checked before any is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from arrowslit.agents.sessions.change import Change, Draft, idle, numbered
from arrowslit.agents.sessions.closing import close_open, denied
from arrowslit.agents.sessions.state import TERMINATED, Call, CallKind, State, fold
from arrowslit.errors import Error
from arrowslit.session import SessionStatus

MAX_WAITING = 100  # messages that wait for the next turn; nobody reads that many answers
INTERRUPTED = "interrupted"

RESULTS: Mapping[str, tuple[str, CallKind]] = {
    "user.tool_result": ("tool_use_id", CallKind.SANDBOX),
    "user.custom_tool_result": ("custom_tool_use_id", CallKind.CUSTOM),
}
"""What a worker may send: the field that names the call, and the kind of that call."""


@dataclass(frozen=True, slots=True)
class SentEvent:
    """One event as it was sent, its shape checked. `id` is the one it gets if it is kept."""

    id: str
    type: str
    body: Mapping[str, object]

    @property
    def call_id(self) -> str:
        """The call that a result or a confirmation speaks of."""
        field_name = RESULTS[self.type][0] if self.type in RESULTS else "tool_use_id"
        return str(self.body.get(field_name))


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends: a sandbox worker, or somebody who may or may not confirm tool calls."""

    may_confirm: bool = False
    worker: bool = False


@dataclass(frozen=True, slots=True)
class _Case:
    """What the meaning of an event may depend on. `after` is the type of the event sent just before."""

    state: State
    sender: Sender
    dispatched: Mapping[str, str] = field(default_factory=dict)
    now: float = 0.0
    after: str | None = None


def send(
    state: State, sent: Sequence[SentEvent], sender: Sender, now: float, *, dispatched: Mapping[str, str] | None = None
) -> Change | None:
    """What `sent` does, None if that was known already. `dispatched` is what the port Sessions says of the open calls.

    Raises Error `forbidden`, `session_terminated`, `tool_use_not_found`, `validation_error` or `rate_limited`.
    """
    walk, drafts, fence = state, list[Draft](), False
    for position, event in enumerate(sent):
        after = sent[position - 1].type if position else None
        if event.type == "system.message" and position != len(sent) - 1:
            raise Error("validation_error", "a system.message is the last event of a request")
        new = _meaning(event, _Case(walk, sender, dispatched or {}, now, after))
        walk = fold(walk, numbered(walk.seq, new, now, lambda: ""))
        drafts += new
        fence = fence or event.type == "user.interrupt"
    return Change(tuple(drafts), fence=fence) if drafts else None


def begin(sent: Sequence[SentEvent], now: float) -> Change:
    """What the first events of a new session do: the same, but they can be messages only. Raises Error."""
    for event in sent:
        if event.type != "user.message":
            raise Error("validation_error", f"a session does not begin with a {event.type}", hint="send user.message")
    return send(State(), sent, Sender(), now) or Change()


def stands_for(state: State, sent: SentEvent) -> str | None:
    """The id of the stored event in whose place `sent` came again or too late; None for one that is always kept."""
    if sent.type in RESULTS:
        return state.closed.get(sent.call_id)
    if sent.type == "user.tool_confirmation":
        known = state.confirmations.get(sent.call_id)
        return known.event_id if known else None
    return None


def end(state: State) -> Change | None:
    """Archive: every open call is closed, and the session is over. Raises Error `session_running`."""
    if state.status is SessionStatus.TERMINATED:
        return None
    if state.status is not SessionStatus.IDLE:
        raise Error("session_running", "a session that runs is not archived", hint="interrupt it first")
    drafts = [*close_open(state, "the session was archived", {}), Draft(TERMINATED)]  # nothing is at a server now
    return Change(tuple(drafts), fence=True)


def _meaning(event: SentEvent, case: _Case) -> list[Draft]:
    if case.sender.worker and event.type not in RESULTS:
        raise Error("forbidden", "a worker sends results of tool calls and nothing else", hint="use an API key")
    if event.type in RESULTS:
        return _result(event, case)
    if case.state.status is SessionStatus.TERMINATED:
        raise Error("session_terminated", "the session is over", hint="create a new one")
    match event.type:
        case "user.message":
            return _message(event, case)
        case "system.message":
            return _system_message(event, case)
        case "user.interrupt":
            return _interrupt(event, case)
        case "user.tool_confirmation":
            return _confirmation(event, case)
    raise Error("validation_error", f"an event of type {event.type!r} cannot be sent")


def _message(event: SentEvent, case: _Case) -> list[Draft]:
    if len(case.state.waiting) >= MAX_WAITING:
        raise Error("rate_limited", "too many messages wait for this session", hint="wait for its next turn")
    return [Draft(event.type, event.body, event.id, processed=False)]


def _system_message(event: SentEvent, case: _Case) -> list[Draft]:
    if case.after != "user.message" and case.after not in RESULTS:
        raise Error("validation_error", "a system.message comes directly after a message or a tool result")
    return [Draft(event.type, event.body, event.id, processed=case.after != "user.message")]


def _interrupt(event: SentEvent, case: _Case) -> list[Draft]:
    """Ends the turn, whatever it waits for. What a server is asked at the moment may still happen, and is reported."""
    kept = Draft(event.type, event.body, event.id)
    if case.state.turn is None:
        return [kept]
    closes = close_open(case.state, INTERRUPTED, case.dispatched)
    closed = fold(case.state, numbered(case.state.seq, closes, case.now, lambda: ""))
    return [kept, *closes, idle("end_turn", closed.turn)]


def _confirmation(event: SentEvent, case: _Case) -> list[Draft]:
    if not case.sender.may_confirm:
        raise Error("forbidden", "this key does not confirm tool calls", hint="use a key with the scope confirm")
    allow = event.body.get("result") == "allow"
    known = case.state.confirmations.get(event.call_id)
    if known is not None:
        if known.allow is not allow:
            raise Error("validation_error", "this call was confirmed otherwise, and that cannot be taken back")
        return []
    call = _open_call(event, case.state)
    if not call.held:
        raise Error("validation_error", "this call asks nobody for a confirmation")
    kept = Draft(event.type, event.body, event.id)
    if allow:
        return [kept]
    reason = event.body.get("deny_message")
    return [kept, denied(call, reason if isinstance(reason, str) else None)]


def _result(event: SentEvent, case: _Case) -> list[Draft]:
    """The first result of a call counts; a later one changes nothing and is no error, for workers repeat theirs."""
    if event.call_id in case.state.closed:
        return []
    call = _open_call(event, case.state)
    if call.kind is not RESULTS[event.type][1]:
        raise _unknown_call()
    if not call.allowed:
        raise Error("validation_error", "this call was not allowed", hint="wait for its user.tool_confirmation")
    return [Draft(event.type, event.body, event.id)]


def _open_call(event: SentEvent, state: State) -> Call:
    call = state.call(event.call_id)
    if call is None:
        raise _unknown_call()
    return call


def _unknown_call() -> Error:
    return Error(
        "tool_use_not_found", "no call of that kind waits for this", hint="send the id of the event of its tool use"
    )
