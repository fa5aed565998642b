"""PURE: the Messages API with streaming as bytes and events: a request is written, an answer is read strictly.

What other servers that speak it leave out (usage, stop reasons, pings) may be missing; events, deltas and blocks of a
kind that nobody here knows are passed over, thinking among them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NoReturn

import msgspec

from arrowslit.agents.models.model import (
    JSON,
    Block,
    FailureKind,
    Finished,
    ModelEvent,
    ModelFailed,
    ModelRequest,
    ModelUsage,
    TextDelta,
)

MAX_BLOCKS = 256  # of one answer; no tool is asked for that often at once
MAX_NAME = 256  # characters of a tool's name or of an id
MAX_MESSAGE = 300  # characters of a server's own words

_ERRORS: Mapping[str, FailureKind] = {
    "rate_limit_error": "rate_limited",
    "overloaded_error": "overloaded",
    "invalid_request_error": "refused",
    "authentication_error": "refused",
    "billing_error": "refused",
    "permission_error": "refused",
    "not_found_error": "refused",
    "request_too_large": "context_too_long",
    "exceed_context_size_error": "context_too_long",  # llama-server
}

# Anthropic: "prompt is too long: 210000 tokens > 200000 maximum", "input length and `max_tokens` exceed context limit";
# llama-server: "exceeds the available context size"; vLLM: "maximum context length is 8192 tokens"
_TOO_LONG = re.compile(
    r"(prompt|input) is too long|exceeds?\b.{0,40}\bcontext|maximum context length", re.IGNORECASE | re.DOTALL
)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


def write(request: ModelRequest) -> bytes:
    """The body of `POST /v1/messages`. The same request gives the same bytes."""
    body: dict[str, object] = {"model": request.model, "max_tokens": request.max_tokens, "stream": True}
    if request.system:
        body["system"] = request.system
    if request.tools:
        body["tools"] = request.tools
    if request.effort is not None:
        body["output_config"] = {"effort": request.effort}
    body["messages"] = request.messages
    return msgspec.json.encode(body, enc_hook=dict)  # a Mapping of another type


def server_failure(
    kind: FailureKind, what: str, error: object, *, secret: str | None = None, retry_after: float | None = None
) -> ModelFailed:
    """The failure that a server reported with `error`, which should be `{"type", "message"}` and may be anything.

    `what` says in our words what happened. Of the server's only the message is kept: one line, bounded, without
    `secret` should it repeat it.
    """
    said = error.get("message") if isinstance(error, Mapping) else None
    if not isinstance(said, str) or not said.strip():
        return ModelFailed(kind, what, retry_after=retry_after)
    if kind == "refused" and _TOO_LONG.search(said):
        kind = "context_too_long"
    if secret:
        said = said.replace(secret, "[key]")
    said = _UNPRINTABLE.sub(" ", said).strip()
    return ModelFailed(kind, f"{what}: {said[:MAX_MESSAGE]}", retry_after=retry_after)


def error_kind(error: object, otherwise: FailureKind) -> FailureKind:
    """What an error object's `type` means, or `otherwise` where it says nothing we know."""
    kind = error.get("type") if isinstance(error, Mapping) else None
    return _ERRORS.get(kind, otherwise) if isinstance(kind, str) else otherwise


@dataclass(slots=True)
class _Open:
    """A block that has started. `kind` is text, tool_use, or another one that is passed over."""

    kind: str
    id: str = ""
    name: str = ""
    input: JSON = field(default_factory=dict)
    pieces: list[str] = field(default_factory=list)


class Reader:
    """Puts one answer together: give it the data of each event, in order. `secret` is never repeated."""

    def __init__(self, *, secret: str | None = None, max_blocks: int = MAX_BLOCKS) -> None:
        self._secret = secret
        self._max_blocks = max_blocks
        self._open: dict[int, _Open] = {}
        self._next = 0  # the lowest index that a new block may have
        self._count = 0
        self._ids: set[str] = set()
        self._cut: ModelFailed | None = None  # a tool's input that cannot be read, until we know whether it was cut off
        self._stop_reason: str | None = None
        self._usage: dict[str, int] = {}

    def take(self, data: bytes) -> list[ModelEvent]:
        """What this event brings. Raises ModelFailed: `malformed`, or what the server reports in the middle."""
        event = _decode(data)
        match event.get("type"):
            case "message_start":
                self._count_tokens(_object(event.get("message") or {}).get("usage"))
            case "content_block_start":
                return self._start(_index(event), _object(event.get("content_block")))
            case "content_block_delta":
                return self._delta(_index(event), _object(event.get("delta")))
            case "content_block_stop":
                return self._stop(_index(event))
            case "message_delta":
                self._count_tokens(event.get("usage"))
                reason = _object(event.get("delta") or {}).get("stop_reason")
                self._stop_reason = reason[:MAX_NAME] if isinstance(reason, str) else self._stop_reason
            case "message_stop":
                return [self._finish()]
            case "error":
                error = event.get("error")
                what = "the model's server ended its answer with an error"
                raise server_failure(error_kind(error, "failed"), what, error, secret=self._secret)
        return []

    def _start(self, index: int, block: JSON) -> list[ModelEvent]:
        self._count += 1
        if self._count > self._max_blocks:
            raise ModelFailed("malformed", f"the model's answer has more than {self._max_blocks} blocks")
        if index < self._next:
            _malformed(f"block {index} starts twice, or too late")
        self._next = index + 1
        match block.get("type"):
            case "text":
                self._open[index] = _Open("text")
                return self._text(index, block.get("text") or "")
            case "tool_use":
                tool = _Open("tool_use", _name(block, "id"), _name(block, "name"), _object(block.get("input") or {}))
                if tool.id in self._ids:
                    _malformed("two tool_use blocks have one id")
                self._ids.add(tool.id)
                self._open[index] = tool
            case _:
                self._open[index] = _Open("other")
        return []

    def _delta(self, index: int, delta: JSON) -> list[ModelEvent]:
        block = self._block(index)
        match (block.kind, delta.get("type")):
            case ("text", "text_delta"):
                return self._text(index, delta.get("text"))
            case ("tool_use", "input_json_delta"):
                block.pieces.append(_string(delta.get("partial_json")))
        return []

    def _text(self, index: int, text: object) -> list[ModelEvent]:
        piece = _string(text)
        if not piece:
            return []
        self._open[index].pieces.append(piece)
        return [TextDelta(index, piece)]

    def _stop(self, index: int) -> list[ModelEvent]:
        block = self._block(index)
        del self._open[index]
        whole = "".join(block.pieces)
        if block.kind == "text":
            return [Block(index, {"type": "text", "text": whole})] if whole else []
        if block.kind != "tool_use":
            return []
        try:
            given = _input(whole) if whole.strip() else block.input
        except ModelFailed as failure:
            self._cut = failure
            return []
        return [Block(index, {"type": "tool_use", "id": block.id, "name": block.name, "input": given})]

    def _finish(self) -> Finished:
        if self._open:
            _malformed("it ended before its blocks did")
        if self._cut is not None and self._stop_reason != "max_tokens":
            raise self._cut
        reason = self._stop_reason or ("tool_use" if self._ids else "end_turn")
        return Finished(reason, ModelUsage(**self._usage))

    def _block(self, index: int) -> _Open:
        if index not in self._open:
            _malformed(f"block {index} has not started")
        return self._open[index]

    def _count_tokens(self, usage: object) -> None:
        """Numbers replace earlier ones: those of message_delta are totals."""
        if not isinstance(usage, Mapping):
            return
        for each in fields(ModelUsage):
            count = usage.get(each.name)
            if isinstance(count, int) and not isinstance(count, bool) and count >= 0:
                self._usage[each.name] = count


def _decode(data: bytes) -> JSON:
    try:
        return _object(msgspec.json.decode(data))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        _malformed("an event of it is not JSON")


def _input(text: str) -> JSON:
    """A tool's input: one JSON object, each key once, and nothing that only some readers would take for JSON."""
    try:
        given = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
        text.encode()
        json.dumps(given, ensure_ascii=False).encode()  # half of a surrogate pair, hidden in an escape
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        _malformed("the input of a tool_use is not a JSON object")
    return given


def _once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError("a key stands twice")
        found[key] = value
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _index(event: JSON) -> int:
    index = event.get("index")
    if not isinstance(index, int) or isinstance(index, bool) or index < 0:
        _malformed("an event of it names no block")
    return index


def _object(value: object) -> JSON:
    if not isinstance(value, dict):
        _malformed("something in it should be an object and is not")
    return value


def _string(value: object) -> str:
    if not isinstance(value, str):
        _malformed("something in it should be a string and is not")
    return value


def _name(block: JSON, key: str) -> str:
    name = block.get(key)
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME:
        _malformed(f"a tool_use has no usable {key}")
    return name


def _malformed(why: str) -> NoReturn:
    raise ModelFailed("malformed", f"the model's answer cannot be read: {why}")
