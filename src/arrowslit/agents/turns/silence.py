"""PURE: what an agent says instead of guessing: the results of calls whose end nobody knows, and the sentence."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence

from arrowslit.agent import Definition, OnUnknown
from arrowslit.agents.servers.tool import Block, ToolAnswer, failed, text
from arrowslit.agents.sessions import closing
from arrowslit.agents.sessions.change import Change, Draft
from arrowslit.agents.sessions.state import UNCERTAIN, Call, State
from arrowslit.agents.turns.offer import servers
from arrowslit.agents.turns.turn import EXHAUSTED, RETRYING, TERMINAL, ended, session_error
from arrowslit.errors import Error
from arrowslit.outcome import Outcome

_MEANS: Mapping[Outcome, str] = {
    Outcome.NOT_DELIVERED: "The call did not reach the server, so it was not executed.",
    Outcome.TIMEOUT: "The server did not answer in time, so there is no result.",
    Outcome.OUTCOME_UNKNOWN: "Nobody knows whether the call was executed. Do not repeat it unasked.",
}
_NO_GUESS = "Do not guess what the result would have been: say that you cannot confirm it right now."
SANDBOX = "the sandbox"  # in the place of a server, which a sandbox call does not have
_HOLE = re.compile(r"\{(server|tool)\}")


def in_doubt(call_id: str, *, revoked: bool = False) -> ToolAnswer:
    """The answer to a call that nobody follows any more: the process that had made it died, or its key was revoked."""
    why = "the key of this session was revoked or has expired" if revoked else "the relay was restarted"
    words = f"{why} while this call was under way"
    return ToolAnswer(Outcome.OUTCOME_UNKNOWN, (text(words),), True, call_id, "outcome_unknown", words)


def ends_the_turn(definition: Definition, answer: ToolAnswer) -> bool:
    """Whether the platform speaks now, and the model is not asked."""
    return definition.on_unknown is OnUnknown.STOP and answer.outcome in UNCERTAIN


def result(call: Call, answer: ToolAnswer) -> Draft:
    """How a call of an MCP server ended, as an event."""
    body: dict[str, object] = {
        "mcp_tool_use_id": call.id,
        "content": list(_told(answer)),
        "is_error": answer.is_error,
        "outcome": answer.outcome.value,
        "call_id": answer.call_id,
    }
    if answer.code is not None:
        body["code"] = answer.code
    return Draft("agent.mcp_tool_result", body)


def fall_silent(
    state: State,
    definition: Definition,
    unknown: Sequence[tuple[Call, ToolAnswer]],
    *before: Draft,
    begun: Mapping[str, str],
) -> Change:
    """The end of a turn in which these calls ended and nobody knows how. The sentence names the first of them.

    `begun` are the sandbox calls that a worker may be at; `before` comes first.
    """
    first = unknown[0][0]
    results = [result(call, answer) for call, answer in unknown]
    said = _message(sentence(definition.cannot_confirm, first.server or "", first.name))
    return ended(state, [*before, *results], "end_turn", words=[said], dispatched=begun)


def worker_lost(
    state: State, definition: Definition, calls: Sequence[Call], why: str, left: Mapping[str, str]
) -> Change | None:
    """What becomes of sandbox calls whose worker is gone and may have begun them; None if there are none.

    Each ends in the words of `why`. Then the agent falls silent, or its model is told not to guess. `left` is which of
    the other open calls may have left.
    """
    if not calls:
        return None
    if definition.on_unknown is OnUnknown.TELL:
        return Change(tuple(_lost(call, why, text(f"{_MEANS[Outcome.OUTCOME_UNKNOWN]} {_NO_GUESS}")) for call in calls))
    said = _message(sentence(definition.cannot_confirm, SANDBOX, calls[0].name))
    return ended(state, [_lost(call, why) for call in calls], "end_turn", words=[said], dispatched=left)


def nothing_to_check_with(state: State, definition: Definition, missing: Mapping[str, Error], *before: Draft) -> Change:
    """The end of a turn before its model request, because nobody knows the tools of these servers now, and why."""
    first = next(iter(missing))
    rules = servers(definition)[first].rules
    tools = ", ".join(rule.name for rule in rules if rule.enabled) or "a tool"
    said = _message(sentence(definition.cannot_confirm, first, tools))
    return ended(state, before, "end_turn", words=[said], unconfirmed=_unchecked(missing))


def request_start(span: str, missing: Mapping[str, Error]) -> Draft:
    """The event `span`, with which a model request begins. It names the servers that cannot be asked meanwhile: what
    the model says then, nobody has checked there.
    """
    return Draft("span.model_request_start", {"unlisted": _unchecked(missing)} if missing else {}, span)


def unlisted(server: str, error: Error, missing: Container[str]) -> Draft:
    """That the tools of a server cannot be listed now; those of an earlier list are offered if it is not `missing`."""
    retry = RETRYING if server not in missing else TERMINAL if _unmade(error) is Outcome.DENIED else EXHAUSTED
    words = f"the tools of {server} cannot be listed now: {error.message}"
    more = {"mcp_server_name": server, "code": error.code, "hint": error.hint}
    return session_error("mcp_connection_failed_error", words, retry, **more)


def sentence(template: str, server: str, tool: str) -> str:
    """The configured sentence with its two holes filled; whatever else is in braces stays as it is."""
    filled = {"server": server, "tool": tool}
    return _HOLE.sub(lambda hole: filled[hole[1]], template)


def _unchecked(missing: Mapping[str, Error]) -> Sequence[Mapping[str, object]]:
    """What stays unconfirmed if these servers cannot be asked at all."""
    return [
        {"call_id": None, "server": server, "tool": None, "outcome": _unmade(error).value}
        for server, error in missing.items()
    ]


def _unmade(error: Error) -> Outcome:
    """What is true of the calls that were not made because of `error`: they were refused, or did not arrive."""
    refused = failed(error, "").outcome is Outcome.DENIED and error.row.v1 < 500
    return Outcome.DENIED if refused else Outcome.NOT_DELIVERED


def _lost(call: Call, why: str, *more: Block) -> Draft:
    return closing.failed(call, why, content=[text(why), *more], outcome=Outcome.OUTCOME_UNKNOWN.value)


def _told(answer: ToolAnswer) -> Sequence[Block]:
    means = _MEANS.get(answer.outcome)
    return answer.content if means is None else (*answer.content, text(f"{means} {_NO_GUESS}"))


def _message(words: str) -> Draft:
    return Draft("agent.message", {"content": [text(words)]})
