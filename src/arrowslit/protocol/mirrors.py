"""Arguments of a call that headers repeat, where a tool's schema asks for it (`x-mcp-header`).

Source: MCP 2026-07-28, Streamable HTTP, custom headers from tool parameters.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_ANNOTATION, _PREFIX = "x-mcp-header", "mcp-param-"
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, 5.6.2
_PRINTABLE = re.compile(r"[ -~]*")
_WRAPPED = re.compile(r"=\?base64\?(.*)\?=")
_INTEGER = re.compile(r"(-?[0-9]{1,1000})(?:\.0+)?")
_TYPES = ("string", "integer", "boolean")
_DATA = ("default", "examples", "const", "enum")  # keywords whose values are no schemas
_MAPS = ("properties", "patternProperties", "dependentSchemas", "$defs", "definitions")  # their values hold schemas

_Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Mirror:
    """The argument at `path` is repeated in `header` (lower case)."""

    path: _Path
    header: str
    integer: bool = False


def read_mirrors(schema: object) -> tuple[Mirror, ...]:
    """The mirrors that a tool's input schema declares; none if one of them is not well declared: clients that follow
    the specification do not use such a tool.
    """
    found: dict[str, Mirror] = {}
    for path, node in _schemas(schema):
        if _ANNOTATION not in node:
            continue
        name, kind = node[_ANNOTATION], node.get("type")
        if not path or not isinstance(name, str) or not _TOKEN.fullmatch(name) or kind not in _TYPES:
            return ()
        mirror = Mirror(path, _PREFIX + name.lower(), kind == "integer")
        if mirror.header in found:
            return ()
        found[mirror.header] = mirror
    return tuple(found.values())


def wrapped(text: str) -> str:
    """`text` as the value of a header that repeats the body: as it is, or in base64 where HTTP could change it."""
    if _PRINTABLE.fullmatch(text) and text == text.strip() and not _WRAPPED.fullmatch(text):
        return text
    return f"=?base64?{base64.b64encode(text.encode()).decode()}?="


def unwrapped(value: str) -> str | None:
    """What such a header says; None for one that is wrapped wrongly."""
    match = _WRAPPED.fullmatch(value)
    if match is None:
        return value
    try:
        data = base64.b64decode(match[1], validate=True)
        return data.decode() if base64.b64encode(data).decode() == match[1] else None
    except (binascii.Error, ValueError):
        return None


def repeated(mirrors: tuple[Mirror, ...], arguments: object) -> list[tuple[str, str]]:
    """The headers of one call; none for a value that is absent or not plain."""
    told = [(mirror.header, _as_text(_value(arguments, mirror.path))) for mirror in mirrors]
    return [(header, wrapped(text)) for header, text in told if text is not None]


def disagreement(mirrors: tuple[Mirror, ...], arguments: object, headers: Mapping[str, str]) -> str | None:
    """What is wrong, as a sentence; None if every header repeats its argument and stands where that does."""
    for mirror in mirrors:
        value, header = _value(arguments, mirror.path), headers.get(mirror.header)
        told = _as_text(value)
        if told is None and header is not None:
            return f"the header {mirror.header} repeats an argument that is not there"
        if told is not None and header is None:
            return f"the header {mirror.header} is missing, which repeats an argument"
        if told is not None and header is not None and not _same(mirror, value, told, unwrapped(header)):
            return f"the header {mirror.header} does not say what the argument says"
    return None


def _schemas(root: object) -> Iterator[tuple[_Path | None, dict[str, object]]]:
    """Every schema inside a schema, with its path where nothing but `properties` leads there."""
    left: list[tuple[_Path | None, object]] = [((), root)]
    while left:
        path, node = left.pop()
        if isinstance(node, list):
            left += [(None, each) for each in node]
        if not isinstance(node, dict):
            continue
        yield path, node
        for keyword, value in node.items():
            if keyword in _MAPS and isinstance(value, dict):
                chained = path is not None and keyword == "properties"
                left += [
                    ((*path, name) if path is not None and chained else None, each) for name, each in value.items()
                ]
            elif keyword not in _DATA:
                left.append((None, value))


def _value(arguments: object, path: _Path) -> object:
    for name in path:
        arguments = arguments.get(name) if isinstance(arguments, dict) else None
    return arguments


def _as_text(value: object) -> str | None:
    """A value as clients write it into a header; None for one that they do not."""
    if isinstance(value, bool):
        return "true" if value else "false"
    try:
        return str(value) if isinstance(value, str | int | float) else None
    except ValueError:  # longer than Python writes numbers
        return None


def _same(mirror: Mirror, value: object, told: str, header: str | None) -> bool:
    """Whole numbers are compared as such, so that 42 is 42.0."""
    number = _INTEGER.fullmatch(header or "") if mirror.integer else None
    if number is not None and isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1:
        return int(number[1]) == int(value)
    return header == told
