"""PURE: what the model is shown: the events of a session, its definition and its tools as one request to a model.

The ids of tool calls toward the model are those of their events. One model request makes one assistant message; the
results of its calls follow in one user message, in the order of the calls. What came back of a request that failed, or
that was under way when a process died, was never written, so nothing of it is shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from arrowslit.agent import Definition
from arrowslit.agents.models.model import JSON, ModelRequest
from arrowslit.agents.sessions import state
from arrowslit.agents.sessions.state import CallKind
from arrowslit.agents.turns.offer import Offer, shown_name
from arrowslit.session import Event, Session

MAX_BYTES = 4 << 20  # of one request's body: a million tokens of text, and room for pictures

CALLS: Mapping[str, CallKind] = {
    "agent.tool_use": CallKind.SANDBOX,
    "agent.mcp_tool_use": CallKind.MCP,
    "agent.custom_tool_use": CallKind.CUSTOM,
}
RESULTS: Mapping[str, str] = {
    "user.tool_result": "tool_use_id",
    "agent.tool_result": "tool_use_id",
    "agent.mcp_tool_result": "mcp_tool_use_id",
    "user.custom_tool_result": "custom_tool_use_id",
}
"""Which field of a result names its call."""

_UNREACHABLE = (
    "These servers cannot be reached right now, so their tools are missing: {names}. Where an answer depends on them, "
    "say that you cannot confirm it right now. Do not guess."
)
_NO_RESULT = {"type": "text", "text": "unknown: no result of this call is known. Do not guess what it would have been."}


@dataclass(frozen=True, slots=True)
class Carried:
    """A tool result that a request carries: the event of the call, and the id of the call where it went to a server."""

    event_id: str
    call_id: str | None


def model_request(
    session: Session, events: Sequence[Event], offer: Offer, *, turn: int, max_tokens: int
) -> ModelRequest:
    """The next question to the model. `events` are all of the session, in order; those that wait are not shown."""
    definition = session.definition
    return ModelRequest(
        session_id=session.id,
        turn=turn,
        model=str(definition.model["id"]),
        system=_system(definition, events, offer),
        messages=tuple(_messages(events)),
        tools=tuple(tool.definition() for tool in offer.tools),
        max_tokens=max_tokens,
        effort=_effort(definition.model),
    )


def carried(events: Sequence[Event]) -> Sequence[Carried]:
    """Every tool result that a request on these events carries, in order."""
    return [
        Carried(str(event.body[RESULTS[event.type]]), _text_or_none(event.body.get("call_id")))
        for event in events
        if event.type in RESULTS
    ]


def _system(definition: Definition, events: Sequence[Event], offer: Offer) -> str:
    """The agent's own words, what the platform has to say, then what the application said as the system, in order."""
    parts = [definition.system or ""]
    if offer.missing:
        parts.append(_UNREACHABLE.replace("{names}", ", ".join(offer.missing)))
    for event in events:
        if event.type == "system.message" and event.processed_at is not None:
            parts.extend(str(block["text"]) for block in _content(event))
    return "\n\n".join(part for part in parts if part)


def _messages(events: Sequence[Event]) -> Iterator[JSON]:
    """Turns of user and assistant, strictly alternating, beginning with the user's."""
    role, content = "user", list[JSON]()
    for speaker, block in _spoken(events):
        if speaker != role:
            if content:
                yield {"role": role, "content": content}
            role, content = speaker, []
        content.append(block)
    if content:
        yield {"role": role, "content": content}


def _spoken(events: Sequence[Event]) -> Iterator[tuple[str, JSON]]:
    """Who says what, block by block. Results come right after the message with their calls, whenever they came in.
    Messages come where a turn took them, whenever they were sent.
    """
    results = {str(event.body[RESULTS[event.type]]): event for event in events if event.type in RESULTS}
    waiting: list[Event] = []
    asked: list[str] = []
    in_turn = False
    for event in events:
        match event.type:
            case "user.message":
                waiting.append(event)
            case state.RUNNING if not in_turn:
                in_turn = True
                for message in waiting:
                    yield from _said("user", message)
                waiting = []
            case state.IDLE:
                in_turn = _reason(event) == "requires_action"
            case "agent.message":
                yield from _said("assistant", event)
            case "span.model_request_end":
                yield from (("user", _result(call, results.get(call))) for call in asked)
                asked = []
            case kind if kind in CALLS:
                asked.append(event.id)
                yield "assistant", _call(event)


def _said(speaker: str, event: Event) -> Iterator[tuple[str, JSON]]:
    for block in _content(event):
        if block.get("type") != "redacted" and block.get("text") != "":  # the Messages API takes no empty text
            yield speaker, block


def _call(event: Event) -> JSON:
    name, server = str(event.body["name"]), _text_or_none(event.body.get("mcp_server_name"))
    return {
        "type": "tool_use",
        "id": event.id,
        "name": shown_name(CALLS[event.type], server, name),
        "input": event.body["input"],
    }


def _result(call: str, event: Event | None) -> JSON:
    if event is None:
        return {"type": "tool_result", "tool_use_id": call, "content": [_NO_RESULT], "is_error": True}
    content = [block for block in _content(event) if block.get("text") != ""]
    return {
        "type": "tool_result",
        "tool_use_id": call,
        "content": content,
        "is_error": event.body.get("is_error") is True,
    }


def _content(event: Event) -> Sequence[JSON]:
    content = event.body.get("content")
    return content if isinstance(content, list | tuple) else []


def _reason(event: Event) -> object:
    reason = event.body.get("stop_reason")
    return reason.get("type") if isinstance(reason, Mapping) else None


def _effort(model: Mapping[str, object]) -> str | None:
    """The level, from either form in which a definition may hold it."""
    effort = model.get("effort")
    return _text_or_none(effort.get("type") if isinstance(effort, Mapping) else effort)


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None
