"""Closing: the results that the platform itself writes for calls that nobody will answer any more. Pure.

A sandbox call has to be closed by a `user.tool_result`: a worker that attaches later runs every call that has none.
"""

from __future__ import annotations

from collections.abc import Mapping

from arrowslit.agents.sessions.change import Draft
from arrowslit.agents.sessions.state import Call, CallKind, State
from arrowslit.outcome import Outcome

_RESULTS: Mapping[CallKind, tuple[str, str]] = {
    CallKind.SANDBOX: ("user.tool_result", "tool_use_id"),
    CallKind.CUSTOM: ("user.custom_tool_result", "custom_tool_use_id"),
    CallKind.MCP: ("agent.mcp_tool_result", "mcp_tool_use_id"),
}


def failed(call: Call, text: str, **more: object) -> Draft:
    """The error result that ends `call`, in the words of `text`; `more` are further fields."""
    type_, of = _RESULTS[call.kind]
    return Draft(type_, {of: call.id, "content": [{"type": "text", "text": text}], "is_error": True, **more})


def denied(call: Call, reason: str | None) -> Draft:
    """The result of a call that a person refused."""
    text = "denied by the user" if reason is None else f"denied by the user: {reason}"
    if call.kind is CallKind.MCP:
        return failed(call, text, outcome=Outcome.DENIED.value, call_id=None)
    body = {"tool_use_id": call.id, "content": [{"type": "text", "text": text}], "is_error": True}
    return Draft("agent.tool_result", body)


def begun(state: State, seen: int) -> dict[str, str]:
    """The open sandbox calls up to the event `seen` that a worker was free to begin, each under its own id."""
    return {
        call.id: call.id for call in state.open if call.kind is CallKind.SANDBOX and call.allowed and call.seq <= seen
    }


def close_open(state: State, text: str, dispatched: Mapping[str, str]) -> list[Draft]:
    """A result for every open call. `dispatched` says which may have left, and under which call id: calls of servers as
    the port Sessions knows, calls of the sandbox as `begun` does.
    """
    return [_closed(call, text, dispatched.get(call.id)) for call in state.open]


def _closed(call: Call, text: str, call_id: str | None) -> Draft:
    if call.kind is CallKind.CUSTOM or (call.kind is CallKind.SANDBOX and call_id is None):
        return failed(call, text)
    if call_id is None:
        return failed(call, f"{text}: the call was not made", outcome=Outcome.DENIED.value, call_id=None)
    unknown = f"{text}: whether the call was carried out is unknown"
    named = {"call_id": call_id} if call.kind is CallKind.MCP else {}
    return failed(call, unknown, outcome=Outcome.OUTCOME_UNKNOWN.value, **named)
