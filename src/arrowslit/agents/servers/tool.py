"""ToolDefinition, Progress and ToolAnswer: what the agent loop is told of a server's tools."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from arrowslit.errors import Error
from arrowslit.outcome import Outcome

Block = Mapping[str, object]
"""A content block of a session's event: text, image or document (reference of the Managed Agents API, section 4)."""


@dataclass(frozen=True, slots=True)
class ToolDefinition:
    """A tool as its server describes it. `input_schema` is the server's, an object in any case."""

    name: str
    description: str
    input_schema: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a running call says it is; `total` and `message` are None where the server does not say them."""

    progress: float
    total: float | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class ToolAnswer:
    """How a call ended, for the session and its model.

    `outcome` is the one in the ledger, but for an answer that came through and says nothing of the call: that is
    `outcome_unknown` here, and `result` there. With `result` the content is the server's, also where the tool failed
    (`is_error`); every other outcome is an error too, and its content is our sentence. `code` is the registry's and
    `message` a sentence for a person, both None where the server gave a result.
    """

    outcome: Outcome
    content: tuple[Block, ...]
    is_error: bool
    call_id: str
    code: str | None = None
    message: str | None = None


def text(words: str) -> Block:
    """A text block."""
    return {"type": "text", "text": words}


def failed(error: Error, call_id: str) -> ToolAnswer:
    """The answer that an error of ours is.

    A request that the gate refused has no outcome of its own: it never became a call, so nothing was executed. What may
    be asked again later was not delivered; anything else was denied.
    """
    later = error.row.retryable or error.code == "session_not_found"
    outcome = error.row.outcome or (Outcome.NOT_DELIVERED if later else Outcome.DENIED)
    return ToolAnswer(outcome, (text(error.message),), True, call_id, error.code, error.message)
