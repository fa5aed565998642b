"""State: what the events of a session add up to, and the next step that follows from it. Pure.

| status       | what it means                                    | may be followed by                         |
|--------------|--------------------------------------------------|--------------------------------------------|
| idle         | nothing to do, or (`requires_action`) blocked    | running, idle (fewer to wait for), terminated |
| running      | a turn goes on: the relay or a worker is at it   | idle, rescheduling, terminated             |
| rescheduling | the model failed and is asked again later        | running, idle, terminated                  |
| terminated   | over, for good                                   | (deleted)                                  |

A turn begins with `session.status_running` and ends with the first `session.status_idle` whose reason is another one
than `requires_action`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from arrowslit.agent import Definition
from arrowslit.outcome import Outcome
from arrowslit.session import Event, SessionStatus, Usage

RUNNING, IDLE = "session.status_running", "session.status_idle"
RESCHEDULED, TERMINATED = "session.status_rescheduled", "session.status_terminated"
DELETED = "session.deleted"

STATUS_EVENTS: Mapping[str, SessionStatus] = {
    RUNNING: SessionStatus.RUNNING,
    IDLE: SessionStatus.IDLE,
    RESCHEDULED: SessionStatus.RESCHEDULING,
    TERMINATED: SessionStatus.TERMINATED,
    DELETED: SessionStatus.TERMINATED,
}
"""The status that each of these events brings."""

MAY_FOLLOW: Mapping[SessionStatus, frozenset[str]] = {
    SessionStatus.IDLE: frozenset({RUNNING, IDLE, TERMINATED, DELETED}),
    SessionStatus.RUNNING: frozenset({IDLE, RESCHEDULED, TERMINATED}),
    SessionStatus.RESCHEDULING: frozenset({RUNNING, IDLE, TERMINATED}),
    SessionStatus.TERMINATED: frozenset({DELETED}),
}
"""The events of STATUS_EVENTS that are legal in each status: the table above."""

UNCERTAIN = frozenset({Outcome.NOT_DELIVERED, Outcome.TIMEOUT, Outcome.OUTCOME_UNKNOWN})
"""Outcomes of a call after which nobody can confirm what it was asked for."""


class CallKind(StrEnum):
    """Who runs a call: a sandbox worker, the relay through a server's tunnel, the application."""

    SANDBOX = "sandbox"
    MCP = "mcp"
    CUSTOM = "custom"


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call of the model. `id` is its event's, `verdict` what the policy said: allow, ask or deny.

    `confirmed` is what a person said about one that asks, None before.
    """

    id: str
    seq: int
    kind: CallKind
    name: str
    server: str | None
    input: Mapping[str, object]
    verdict: str
    confirmed: bool | None = None

    @property
    def held(self) -> bool:
        """Whether it waits for a person. An unknown verdict is held like `ask`."""
        return self.verdict not in ("allow", "deny") and self.confirmed is None

    @property
    def allowed(self) -> bool:
        """Whether it may run now."""
        return self.verdict == "allow" or self.confirmed is True


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What a person said about a call: the id of that event, and whether it allowed the call."""

    event_id: str
    allow: bool


@dataclass(frozen=True, slots=True)
class Turn:
    """What happened since the `session.status_running` that began the turn. `model_requests` counts those that ended,
    `refused` calls that were denied before anybody was asked.

    `unconfirmed` is `{call_id, server, tool, outcome}` of each call that left it open what happened; one of the sandbox
    has the id of its event and no server. `unlisted` has the same, without call and tool, of each server
    that could not even be asked for its tools by the newest request.
    """

    began_at: float
    began_seq: int
    model_requests: int = 0
    tool_calls: int = 0
    refused: int = 0
    output_tokens: int = 0
    unconfirmed: tuple[Mapping[str, object], ...] = ()
    unlisted: tuple[Mapping[str, object], ...] = ()


@dataclass(frozen=True, slots=True)
class State:
    """A session after the event `seq`.

    `open` are the calls without a result, in order. `waiting` are ids of messages (`user.message`, and the
    `system.message` that goes with one) that no turn has taken yet. `model_requests` counts those that ended, failed
    ones too; `failures` those that failed in a row in this turn. `closed` says which event is a call's result, by the
    call's id. `running_since` is when the session last began to run, None while it does not.
    """

    seq: int = 0
    status: SessionStatus = SessionStatus.IDLE
    stop_reason: Mapping[str, object] | None = None
    open: tuple[Call, ...] = ()
    waiting: tuple[str, ...] = ()
    model_requests: int = 0
    failures: int = 0
    turn: Turn | None = None
    closed: Mapping[str, str] = field(default_factory=dict)
    confirmations: Mapping[str, Confirmation] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    running_since: float | None = None

    def call(self, call_id: str) -> Call | None:
        """The open call of that id."""
        return next((each for each in self.open if each.id == call_id), None)

    @property
    def required(self) -> tuple[str, ...]:
        """Ids of the open calls that somebody outside has to do something about: `requires_action.event_ids`."""
        return tuple(each.id for each in self.open if each.kind is not CallKind.MCP or each.held)


EMPTY = State()
"""A session before its first event."""


@dataclass(frozen=True, slots=True)
class AskModel:
    """Everything is answered: it is the model's turn to speak."""


@dataclass(frozen=True, slots=True)
class RunCalls:
    """These MCP calls may run; the results of others may be missing too."""

    calls: tuple[Call, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Somebody else has to answer these calls, or confirm them."""

    event_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing to do until a message comes, or ever."""


Step = AskModel | RunCalls | Wait | Rest


def next_step(state: State) -> Step:
    """The one question that the runner asks."""
    if state.status in (SessionStatus.IDLE, SessionStatus.TERMINATED):
        return Wait(state.required) if state.turn else Rest()
    calls = tuple(each for each in state.open if each.kind is CallKind.MCP and each.allowed)
    if calls:
        return RunCalls(calls)
    return Wait(state.required) if state.open else AskModel()


def runnable(state: State) -> bool:
    """Whether the relay itself has the next step."""
    return isinstance(next_step(state), AskModel | RunCalls)


def wants_worker(state: State, definition: Definition) -> bool:
    """Whether a sandbox worker should attend: one of its calls may run, or the model may be about to make one."""
    if definition.builtin is None or not definition.builtin.tools():
        return False
    if state.status in (SessionStatus.RUNNING, SessionStatus.RESCHEDULING):
        return True
    return any(each.kind is CallKind.SANDBOX and each.allowed for each in state.open)


def fold(state: State, events: Iterable[Event]) -> State:
    """The state after more events, which follow `state.seq` without a gap. Unknown types change nothing else."""
    for event in events:
        step = _STEPS.get(event.type)
        state = replace(step(state, event) if step else state, seq=event.seq)
    return state


def processed(state: State, ids: Iterable[str]) -> State:
    """The state after earlier messages were taken into a turn."""
    taken = frozenset(ids)
    return replace(state, waiting=tuple(each for each in state.waiting if each not in taken)) if taken else state


# ------------------------------------------------------------ one step per type of event


def _message(state: State, event: Event) -> State:
    return state if event.processed_at is not None else replace(state, waiting=(*state.waiting, event.id))


def _use(kind: CallKind) -> Callable[[State, Event], State]:
    def step(state: State, event: Event) -> State:
        call = Call(
            id=event.id,
            seq=event.seq,
            kind=kind,
            name=_text(event, "name") or "",
            server=_text(event, "mcp_server_name"),
            input=_object(event.body, "input"),
            verdict=_text(event, "evaluated_permission") or "allow",
        )
        denied = call.verdict == "deny"
        turn = state.turn and replace(
            state.turn, tool_calls=state.turn.tool_calls + 1, refused=state.turn.refused + denied
        )
        return replace(state, open=(*state.open, call), turn=turn)

    return step


def _result(of: str) -> Callable[[State, Event], State]:
    def step(state: State, event: Event) -> State:
        call = state.call(_text(event, of) or "")
        if call is None:
            return state
        rest = tuple(each for each in state.open if each.id != call.id)
        turn = state.turn and _noting(state.turn, call, event)
        return replace(state, open=rest, closed={**state.closed, call.id: event.id}, turn=turn)

    return step


def _noting(turn: Turn, call: Call, event: Event) -> Turn:
    outcome = _text(event, "outcome")
    if outcome not in UNCERTAIN:
        return turn
    call_id = call.id if call.kind is CallKind.SANDBOX else _text(event, "call_id")
    seen = {"call_id": call_id, "server": call.server, "tool": call.name, "outcome": outcome}
    return replace(turn, unconfirmed=(*turn.unconfirmed, seen))


def _confirmation(state: State, event: Event) -> State:
    call = state.call(_text(event, "tool_use_id") or "")
    if call is None or not call.held:
        return state
    allow = _text(event, "result") == "allow"
    calls = tuple(replace(each, confirmed=allow) if each.id == call.id else each for each in state.open)
    confirmations = {**state.confirmations, call.id: Confirmation(event.id, allow)}
    return replace(state, open=calls, confirmations=confirmations)


def _request_start(state: State, event: Event) -> State:
    found = event.body.get("unlisted")
    servers = tuple(each for each in found if isinstance(each, Mapping)) if isinstance(found, list | tuple) else ()
    return replace(state, turn=state.turn and replace(state.turn, unlisted=servers))


def _request_end(state: State, event: Event) -> State:
    used = _object(event.body, "model_usage")
    usage = replace(
        state.usage,
        input_tokens=state.usage.input_tokens + _count(used, "input_tokens"),
        output_tokens=state.usage.output_tokens + _count(used, "output_tokens"),
        cache_creation_input_tokens=state.usage.cache_creation_input_tokens
        + _count(used, "cache_creation_input_tokens"),
        cache_read_input_tokens=state.usage.cache_read_input_tokens + _count(used, "cache_read_input_tokens"),
    )
    turn = state.turn and replace(
        state.turn,
        model_requests=state.turn.model_requests + 1,
        output_tokens=state.turn.output_tokens + _count(used, "output_tokens"),
    )
    failures = state.failures + 1 if event.body.get("is_error") is True else 0
    return replace(state, usage=usage, turn=turn, failures=failures, model_requests=state.model_requests + 1)


def _status(state: State, event: Event) -> State:
    before, after = state, STATUS_EVENTS[event.type]
    state = replace(state, status=after, stop_reason=None)
    if after is SessionStatus.RUNNING:
        since = before.running_since if before.running_since is not None else event.created_at
        state = replace(state, running_since=since)
        return state if state.turn else replace(state, turn=Turn(event.created_at, event.seq), failures=0)
    if after is SessionStatus.RESCHEDULING:
        return state
    if before.running_since is not None:
        seconds = before.usage.active_seconds + max(0.0, event.created_at - before.running_since)
        state = replace(state, usage=replace(before.usage, active_seconds=seconds), running_since=None)
    if after is SessionStatus.IDLE:
        reason = _object(event.body, "stop_reason")
        state = replace(state, stop_reason=reason)
        if reason.get("type") == "requires_action":
            return state
    return replace(state, turn=None)


_STEPS: Mapping[str, Callable[[State, Event], State]] = {
    "user.message": _message,
    "system.message": _message,
    "user.tool_confirmation": _confirmation,
    "agent.tool_use": _use(CallKind.SANDBOX),
    "agent.mcp_tool_use": _use(CallKind.MCP),
    "agent.custom_tool_use": _use(CallKind.CUSTOM),
    "user.tool_result": _result("tool_use_id"),
    "agent.tool_result": _result("tool_use_id"),
    "agent.mcp_tool_result": _result("mcp_tool_use_id"),
    "user.custom_tool_result": _result("custom_tool_use_id"),
    "span.model_request_start": _request_start,
    "span.model_request_end": _request_end,
    **dict.fromkeys(STATUS_EVENTS, _status),
}


def _text(event: Event, name: str) -> str | None:
    value = event.body.get(name)
    return value if isinstance(value, str) else None


def _object(body: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = body.get(name)
    return value if isinstance(value, Mapping) else {}


def _count(body: Mapping[str, object], name: str) -> int:
    value = body.get(name)
    return value if isinstance(value, int) else 0
