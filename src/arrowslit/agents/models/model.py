"""Model: what the agent loop asks, what comes back piece by piece, and how it fails; the port Model."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

JSON = Mapping[str, Any]
"""A JSON object, as the Messages API has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """One question to a model. `messages` and `tools` have the Messages API's form, `model` is the id of a model.

    `turn` is how many model requests of this session have ended before this one, failed ones included. A request that
    was under way when the process died has not, and is made again: a scripted model finds its place by it.
    """

    session_id: str
    turn: int
    model: str
    system: str
    messages: tuple[JSON, ...]
    tools: tuple[JSON, ...]
    max_tokens: int
    effort: str | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request as it will leave. `body` are the exact bytes, so that their hash can be recorded before they do."""

    request: ModelRequest
    host: str
    body: bytes

    @property
    def facts(self) -> Mapping[str, object]:
        """What a record of the ledger says of it: host, model, bytes."""
        return {"host": self.host, "model": self.request.model, "bytes": len(self.body)}


@dataclass(frozen=True, slots=True)
class ModelUsage:
    """Tokens of one request, as the model's server counted them; 0 where it did not say."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More of the text of block `index`."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class Block:
    """A whole block: `{"type": "text", "text"}`, or `{"type": "tool_use", "id", "name", "input"}`.

    Ids are unique within a response, `input` is an object. Indexes rise; those of blocks of other kinds are missing.
    """

    index: int
    block: JSON


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event. `stop_reason` is the server's word (`end_turn`, `tool_use`, `max_tokens` …): go by the blocks
    to see whether tools are to be called. A tool_use that `max_tokens` cut off is left out.
    """

    stop_reason: str
    usage: ModelUsage


ModelEvent = TextDelta | Block | Finished

FailureKind = Literal["rate_limited", "overloaded", "failed", "refused", "context_too_long", "malformed"]
"""`failed` is the server's or the network's fault, a cut stream too; `refused` is a request or a key that will not do;
`malformed` is an answer that cannot be read, the JSON of a tool's input for instance.
"""


class ModelFailed(Exception):
    """An attempt that brought no whole answer; what it had yielded before is void.

    `message` is safe to show: it holds no key and at most a bounded sentence of the server's own. `retry_after` is in
    seconds, where the server asked for a pause.
    """

    def __init__(self, kind: FailureKind, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.kind: FailureKind = kind
        self.message = message
        self.retry_after = retry_after


class Model(Protocol):
    """One model's server, or something that plays one. It is shared by all sessions."""

    @property
    def facts(self) -> Mapping[str, object]:
        """What records and `readyz` say of it: `provider`, `host`, and `scripted`, True where nothing is asked."""
        ...

    def prepare(self, request: ModelRequest) -> Prepared:
        """The request as it will leave. Does nothing else."""
        ...

    def ask(self, prepared: Prepared) -> AsyncGenerator[ModelEvent, None]:
        """Make one attempt: the events as they come, Finished last. Raises ModelFailed and nothing else.

        Whoever leaves before the end closes it (`contextlib.aclosing`); that, or being cancelled, ends the request.
        """
        ...

    async def close(self) -> None:
        """Let go of kept connections."""
        ...
