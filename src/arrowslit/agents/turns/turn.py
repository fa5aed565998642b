"""PURE: where a turn ends although the model had more to say: limits, failures, and what then closes open calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from arrowslit.agent import TurnLimits
from arrowslit.agents.models.model import FailureKind, ModelFailed
from arrowslit.agents.sessions.change import Change, Draft, idle, numbered
from arrowslit.agents.sessions.closing import close_open
from arrowslit.agents.sessions.state import State, Turn, fold

EXHAUSTED, RETRYING, TERMINAL = "exhausted", "retrying", "terminal"
"""What a `session.error` says of what follows: tried often enough, tried again, or not worth another try."""

_MODEL_ERRORS: Mapping[FailureKind, str] = {
    "rate_limited": "model_rate_limited_error",
    "overloaded": "model_overloaded_error",
    "context_too_long": "unknown_error",
}
_HOPELESS = ("refused", "context_too_long")

_ENDED = "the turn ended before this call was answered"


def session_error(type: str, message: str, retry: str = TERMINAL, **more: object) -> Draft:
    """What went wrong, for the application. `type` is one of the official ones; `more` are our own fields."""
    return Draft(
        "session.error", {"error": {"type": type, "message": message, "retry_status": {"type": retry}, **more}}
    )


def model_error(failure: ModelFailed, *, again: bool) -> Draft:
    """What a failed model request is to the application."""
    retry = RETRYING if again else TERMINAL if failure.kind in _HOPELESS else EXHAUSTED
    code = {"code": failure.kind} if failure.kind in _HOPELESS else {}
    return session_error(_MODEL_ERRORS.get(failure.kind, "model_request_failed_error"), failure.message, retry, **code)


def limit(limits: TurnLimits, turn: Turn, now: float) -> Draft | None:
    """The error of a turn that may neither ask the model again nor call anything; None while it may."""
    if now - turn.began_at >= limits.seconds:
        return out_of_time(limits)
    if turn.model_requests >= limits.model_requests:
        return _limited(f"this turn has reached its limit of {limits.model_requests} model requests")
    if turn.output_tokens >= limits.output_tokens:
        return _limited(f"this turn has reached its limit of {limits.output_tokens} tokens of the model's output")
    return None


def out_of_time(limits: TurnLimits) -> Draft:
    """The error of a turn that has lasted too long."""
    return _limited(f"this turn has reached its limit of {limits.seconds:g} seconds")


def seconds_left(limits: TurnLimits, turn: Turn | None, now: float) -> float:
    """How long the turn may still take."""
    return limits.seconds if turn is None else max(0.0, turn.began_at + limits.seconds - now)


def ended(
    state: State,
    drafts: Sequence[Draft],
    reason: str,
    *,
    words: Sequence[Draft] = (),
    unconfirmed: Sequence[Mapping[str, object]] = (),
    dispatched: Mapping[str, str] | None = None,
    **more: object,
) -> Change:
    """The end of the turn after `drafts`: every call that is still open then is closed, then come the last `words`.

    The event that ends it names what stays unconfirmed: by these drafts, by what the turn had before, and `unconfirmed`
    besides. `dispatched` says which open calls may have left; none, where the caller has dealt with those. `more`
    are further fields of that event.
    """
    closes = close_open(_after(state, drafts), _ENDED, dispatched or {})
    after = _after(state, [*drafts, *closes])
    turn = after.turn and replace(after.turn, unconfirmed=(*after.turn.unconfirmed, *unconfirmed))
    return Change((*drafts, *closes, *words, idle(reason, turn, **more)))


def given_up(state: State, *drafts: Draft, dispatched: Mapping[str, str] | None = None) -> Change:
    """The end of a turn that failed."""
    return ended(state, drafts, "retries_exhausted", dispatched=dispatched)


def _after(state: State, drafts: Sequence[Draft]) -> State:
    return fold(state, numbered(state.seq, drafts, 0.0, str))


def _limited(message: str) -> Draft:
    return session_error("unknown_error", message, code="turn_limit_reached")
