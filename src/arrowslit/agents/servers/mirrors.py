"""Headers that repeat arguments of a call, where a tool's schema asks for them (`x-mcp-header`), without I/O.

Source: MCP 2026-07-28, Streamable HTTP, custom headers from tool parameters. A server refuses a call without them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from arrowslit.agents.servers.speech import header_value

Mirrors = Mapping[tuple[str, ...], str]
"""Where in the arguments a value stands → the name of its header."""

_KEY, _PREFIX = "x-mcp-header", "mcp-param-"
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")  # RFC 9110, 5.6.2
_PLAIN = ("integer", "string", "boolean")
_DEEPEST = 16


def mirrors(schema: Mapping[str, object]) -> Mirrors:
    """What an input schema asks for: valid annotations of plain values, reached through `properties` alone."""
    found: dict[tuple[str, ...], str] = {}
    for path, token in _annotated(schema, ()):
        name = _PREFIX + token.lower()
        if name not in found.values():
            found[path] = name
    return found


def mirrored(wanted: Mirrors, arguments: Mapping[str, object]) -> list[tuple[str, str]]:
    """The headers of one call; none for a value that is absent or not plain."""
    return [
        (name, header_value(rendered))
        for path, name in wanted.items()
        if (rendered := _rendered(_at(arguments, path))) is not None
    ]


def _annotated(schema: Mapping[str, object], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    properties = schema.get("properties")
    if not isinstance(properties, Mapping) or len(path) >= _DEEPEST:
        return
    for name, inner in properties.items():
        if not isinstance(inner, Mapping):
            continue
        token = inner.get(_KEY)
        if isinstance(token, str) and _TOKEN.fullmatch(token) and inner.get("type") in _PLAIN:
            yield (*path, name), token
        yield from _annotated(inner, (*path, name))


def _at(arguments: Mapping[str, object], path: tuple[str, ...]) -> object:
    node: object = arguments
    for name in path:
        node = node.get(name) if isinstance(node, Mapping) else None
    return node


def _rendered(value: object) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else None
