"""A definition of a tool as a person reads it: in short lines, with nothing in them that is not seen."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from arrowslit.policy.changes import changes
from arrowslit.policy.unseen import plain

_WIDTH = 160
"""Characters of a line. A longer one goes on in the next, cut where a sentence ends: so a change in the middle of a
text without line ends leaves the lines before and after it as they were."""

_PIECE = re.compile(rf"(?s:.{{40,{_WIDTH}}}?[.;:!?] |.{{1,{_WIDTH}}})")
_encode = json.JSONEncoder(ensure_ascii=False).encode
_ONE_LINE = 100  # characters of JSON that are written without a line end
_DEEPEST = 12  # levels that are indented; without an end to that, spaces would be most of a deep one
_FIRST = ("name", "title", "description", "inputSchema", "outputSchema", "annotations")


def diff(before: str | None, after: str | None) -> Sequence[str]:
    """What changed between two canonical definitions: lines that begin with a space, - or +."""
    old, new = (() if text is None else list(readable(text)) for text in (before, after))
    return list(changes(old, new))


def visible(text: str) -> Mapping[str, Any]:
    """A canonical definition in which nothing hides: what is not seen is written as its escape."""
    shown = _visible(json.loads(text))
    assert isinstance(shown, dict)
    return shown


def _visible(value: Any) -> Any:
    match value:
        case str():
            return plain(value, keep="\n\t")
        case dict():
            return {plain(name): _visible(each) for name, each in value.items()}
        case list():
            return [_visible(each) for each in value]
        case _:
            return value


def readable(text: str) -> Iterator[str]:
    """A canonical definition as lines for a person: long texts line by line, and nothing in them that is not seen."""
    definition = visible(text)
    for name in sorted(definition, key=_order):
        value = definition[name]
        if isinstance(value, str) and "\n" not in value:
            yield from _lines("", f"{name}: {plain(value)}")
            continue
        yield from _lines("", f"{name}:")
        if isinstance(value, str):
            for line in value.split("\n"):
                yield from _lines("  | ", plain(line))
        else:
            lines: list[str] = []
            _json(value, lines)
            for line in lines:
                yield from _lines("", line)


def _order(name: str) -> tuple[int, str]:
    return (_FIRST.index(name) if name in _FIRST else len(_FIRST)), name


def _lines(before: str, text: str) -> Iterator[str]:
    if len(text) <= _WIDTH:
        yield before + text
        return
    first, *others = _PIECE.findall(text)
    yield before + first
    yield from (f"{before}  … {piece}" for piece in others)


def _json(value: Any, lines: list[str], depth: int = 1, name: str = "", comma: str = "") -> str | None:
    """Append a value to `lines`. Returns it on one line, None if it does not fit. Each value is looked at once."""
    indent = "  " * min(depth, _DEEPEST)
    if not isinstance(value, dict | list):
        line = _encode(value)
        lines.append(f"{indent}{name}{line}{comma}")
        return line if len(line) <= _ONE_LINE else None
    opened, closed = "{}" if isinstance(value, dict) else "[]"
    start, whole, length = len(lines), list[str](), 0
    lines.append(f"{indent}{name}{opened}")
    for left, (inner, each) in zip(range(len(value) - 1, -1, -1), _members(value), strict=True):
        part = _json(each, lines, depth + 1, inner, "," if left else "")
        length += _ONE_LINE if part is None else len(inner) + len(part) + 2
        if length < _ONE_LINE:
            whole.append(f"{inner}{part}")
    lines.append(f"{indent}{closed}{comma}")
    if length >= _ONE_LINE:
        return None
    line = f"{opened}{', '.join(whole)}{closed}"
    lines[start:] = [f"{indent}{name}{line}{comma}"]
    return line


def _members(value: dict[str, Any] | list[Any]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, list):
        return (("", each) for each in value)
    return ((f"{_encode(name)}: ", each) for name, each in value.items())
