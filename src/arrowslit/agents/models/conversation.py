"""PURE: what a scripted model reads in the messages and tools that it is shown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from arrowslit.agents.models.model import JSON, ModelRequest

_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]")


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one tool_use: the call, the text that came back, and whether it is an error."""

    call: JSON
    text: str
    is_error: bool


def blocks(message: JSON) -> list[JSON]:
    """The content blocks of a message, also where they are written as one string."""
    content = message.get("content")
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [block for block in content or () if isinstance(block, Mapping)]


def text_of(message: JSON) -> str:
    """The texts of a message, or of a tool_result, as lines."""
    return "\n".join(str(block.get("text", "")) for block in blocks(message) if block.get("type") == "text")


def question(request: ModelRequest) -> str:
    """What the user said last; empty if nothing."""
    said = (text_of(message) for message in reversed(request.messages) if message.get("role") == "user")
    return next((text for text in said if text.strip()), "")


def newest_results(request: ModelRequest) -> list[Result]:
    """The tool results of the newest message, with the calls that they answer."""
    if not request.messages:
        return []
    calls = {
        block.get("id"): block
        for message in request.messages
        for block in blocks(message)
        if block.get("type") == "tool_use"
    }
    return [
        Result(calls.get(block.get("tool_use_id"), {}), text_of(block), block.get("is_error") is True)
        for block in blocks(request.messages[-1])
        if block.get("type") == "tool_result"
    ]


def answers_in_a_row(request: ModelRequest) -> int:
    """How often the model has answered since the user last said something."""
    count = 0
    for message in reversed(request.messages):
        if message.get("role") == "user" and text_of(message).strip():
            break
        count += message.get("role") == "assistant"
    return count


def resolve(name: str, tools: Sequence[JSON]) -> str | None:
    """The one tool of that plain name among those that were offered, which may stand behind `server__`; else None."""
    plain = _NOT_IN_NAMES.sub("_", name)
    offered = [str(tool.get("name")) for tool in tools]
    if name in offered:
        return name
    found = [each for each in offered if each == plain or each.endswith("__" + plain)]
    return found[0] if len(found) == 1 else None


def strings(value: object) -> Iterator[str]:
    """Every string in a JSON value, keys left out."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from strings(each)
