"""PURE: what a model said, as events: its words, the calls it may make, and the refusals of those it may not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from arrowslit.agent import Definition, Permission
from arrowslit.agents.models.model import JSON, ModelUsage
from arrowslit.agents.servers.tool import text
from arrowslit.agents.sessions.change import Change, Draft
from arrowslit.agents.sessions.state import CallKind, State
from arrowslit.agents.turns.offer import Offer, Tool, meant
from arrowslit.agents.turns.turn import ended, given_up, session_error
from arrowslit.outcome import Outcome

_USES: Mapping[CallKind, str] = {
    CallKind.SANDBOX: "agent.tool_use",
    CallKind.MCP: "agent.mcp_tool_use",
    CallKind.CUSTOM: "agent.custom_tool_use",
}

_EVALUATIONS: Mapping[Permission, JSON] = {
    Permission.ALWAYS_ALLOW: {"type": "always_allow"},
    Permission.ALWAYS_ASK: {"type": "always_ask"},
    # nobody here judges single calls: a person does
    Permission.AUTO: {"type": "auto", "evaluated_permission": {"type": "ask", "reason_code": "indeterminate"}},
}

_NOT_OFFERED = "This call was not executed: you have no such tool."
_CUT_OFF = "the model's answer was cut off: it reached the largest number of tokens of one answer"
_CONTEXT_FULL = "this conversation has become longer than the model can read"


@dataclass(frozen=True, slots=True)
class Use:
    """A call that the model wants. `id` is the one its event will have, `shown` the tool's name toward the model."""

    id: str
    shown: str
    input: JSON


@dataclass(frozen=True, slots=True)
class Said:
    """A whole answer. `message_id` is the id that the event with its words will have."""

    message_id: str
    words: tuple[str, ...]
    uses: tuple[Use, ...]
    stop_reason: str
    usage: ModelUsage


def answered(state: State, definition: Definition, offered: Offer, span: str, said: Said) -> Change:
    """What follows from an answer to the request `span`: more steps of the turn, or its end."""
    over = _too_many(state, definition, said)
    refusals: list[Draft] = []
    drafts = [_message(said)] if said.words else []
    for use in said.uses:
        tool = offered.find(use.shown)
        if tool is not None and not over:
            drafts.append(_use(tool, use))
            continue
        draft, refusal = _refused(definition, use, f"This call was not executed: {over}." if over else _NOT_OFFERED)
        drafts.append(draft)
        refusals.append(refusal)
    drafts += [span_end(span, said.usage), *refusals]
    if over:
        return given_up(state, *drafts, session_error("tool_use_limit_reached_error", over, code="turn_limit_reached"))
    return Change(tuple(drafts)) if said.uses else _last_words(state, drafts, said.stop_reason)


def span_end(span: str, usage: ModelUsage | None = None, *, is_error: bool = False) -> Draft:
    """The end of a model request that began with the event `span`."""
    used = asdict(usage or ModelUsage())
    return Draft("span.model_request_end", {"model_request_start_id": span, "is_error": is_error, "model_usage": used})


def _last_words(state: State, drafts: Sequence[Draft], stop_reason: str) -> Change:
    match stop_reason:
        case "refusal":
            return ended(state, drafts, "refusal", stop_details={"type": "refusal"})
        case "max_tokens":
            return given_up(state, *drafts, session_error("unknown_error", _CUT_OFF, code="answer_cut_off"))
        case "model_context_window_exceeded":
            return given_up(state, *drafts, session_error("unknown_error", _CONTEXT_FULL, code="context_too_long"))
    return ended(state, drafts, "end_turn")


def _too_many(state: State, definition: Definition, said: Said) -> str | None:
    limit = definition.limits.tool_calls
    made = state.turn.tool_calls if state.turn else 0
    return f"this turn has reached its limit of {limit} tool calls" if made + len(said.uses) > limit else None


def _message(said: Said) -> Draft:
    return Draft("agent.message", {"content": [text(words) for words in said.words]}, said.message_id)


def _use(tool: Tool, use: Use) -> Draft:
    body = _named(tool.kind, tool.server, tool.name, use)
    if tool.kind is not CallKind.CUSTOM:  # the application is itself the one who decides
        verdict = "allow" if tool.permission is Permission.ALWAYS_ALLOW else "ask"
        body |= {"evaluated_permission": verdict, "evaluation": _EVALUATIONS[tool.permission]}
    return Draft(_USES[tool.kind], body, use.id)


def _refused(definition: Definition, use: Use, why: str) -> tuple[Draft, Draft]:
    """A call that is not made, and its result. It was refused before any policy was asked: so no `evaluation`."""
    kind, server, name = meant(definition, use.shown)
    draft = Draft(_USES[kind], {**_named(kind, server, name, use), "evaluated_permission": "deny"}, use.id)
    said = {"content": [text(why)], "is_error": True}
    if kind is CallKind.MCP:
        facts = {"outcome": Outcome.DENIED.value, "call_id": None}
        return draft, Draft("agent.mcp_tool_result", {"mcp_tool_use_id": use.id, **said, **facts})
    return draft, Draft("agent.tool_result", {"tool_use_id": use.id, **said})


def _named(kind: CallKind, server: str | None, name: str, use: Use) -> dict[str, object]:
    body: dict[str, object] = {"name": name, "input": use.input}
    if kind is CallKind.MCP:
        body["mcp_server_name"] = server
    return body
