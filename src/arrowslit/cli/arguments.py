"""PURE: the words `k=v` of a command line, read by a tool's JSON Schema into the arguments of a call."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, NoReturn

from arrowslit.errors import Error

Schema = Mapping[str, Any]

_SPOKEN = {"string": "STRING", "integer": "INTEGER", "number": "NUMBER", "boolean": "true|false", "null": "null"}


def read(tool: str, pairs: Sequence[str], schema: Schema) -> dict[str, Any]:
    """The arguments that `pairs` spell.

    A string is taken as it is, a number, `true` or `false` as such, an object or a list as JSON; where a string or
    something else may stand, it is JSON if it reads as the other thing. Raises Error `usage` for a parameter that is
    unknown, missing, named twice or not of its type.
    """
    known: Mapping[str, Schema] = schema.get("properties", {})
    open_ended = schema.get("additionalProperties") not in (None, False)
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise _wrong(f"{pair!r} is not NAME=VALUE", tool, schema)
        if name in found:
            raise _wrong(f"{name} is given twice", tool, schema)
        if name not in known and not open_ended:
            raise _wrong(f"{tool} has no parameter {name!r}", tool, schema)
        try:
            found[name] = _value(text, _types(known.get(name, {}), schema))
        except ValueError as error:
            raise _wrong(f"{name}: {error}", tool, schema) from None
    missing = [name for name in schema.get("required", ()) if name not in found]
    if missing:
        raise _wrong(f"{tool} needs {', '.join(missing)}", tool, schema)
    return found


def signature(tool: str, schema: Schema) -> str:
    """How the tool is called: `check_stock sku=STRING [limit=INTEGER]`."""
    required = schema.get("required", ())
    words = [tool]
    for name, each in schema.get("properties", {}).items():
        types = [kind for kind in _types(each, schema) if kind != "null"]
        word = f"{name}={'|'.join(_SPOKEN.get(kind, 'JSON') for kind in types) or 'JSON'}"
        words.append(word if name in required else f"[{word}]")
    return " ".join(words)


def _types(node: Any, root: Schema, depth: int = 8) -> tuple[str, ...]:
    """The JSON types that a schema lets through, in its order; none if it does not say."""
    if not isinstance(node, Mapping) or depth == 0:
        return ()
    if isinstance(ref := node.get("$ref"), str):
        return _types(_at(ref, root), root, depth - 1)
    kind = node.get("type")
    if isinstance(kind, str):
        return (kind,)
    if isinstance(kind, Sequence):
        return tuple(map(str, kind))
    for several in ("anyOf", "oneOf"):
        if each := node.get(several):
            found = [_types(one, root, depth - 1) for one in each]
            return tuple(dict.fromkeys(name for names in found for name in names)) if all(found) else ()
    if isinstance(parts := node.get("allOf"), list) and len(parts) == 1:
        return _types(parts[0], root, depth - 1)
    values = node.get("enum") or ([node["const"]] if "const" in node else [])
    return tuple(dict.fromkeys(_type_of(value) for value in values))


def _at(ref: str, root: Schema) -> Any:
    """What a local reference (`#/$defs/Name`) points to; None for any other."""
    node: Any = root if ref.startswith("#") else None
    for part in ref.lstrip("#").strip("/").split("/"):
        node = node.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(node, Mapping) and part else node
    return node


def _value(text: str, types: Sequence[str]) -> Any:
    """The value of one of `types`; of any type if there are none. Raises ValueError, which says what was expected."""
    if set(types) in ({"string"}, {"string", "null"}):
        return text
    try:
        value = json.loads(text, parse_constant=_not_json, parse_float=_finite, object_pairs_hook=_unique)
    except ValueError as error:
        if not types or "string" in types:
            return text
        raise ValueError(f"{text!r} is not {_expected(types)}{_detail(error, types)}") from None
    kind = _type_of(value)
    if not types or kind in types or (kind == "integer" and "number" in types):
        return value
    if "string" in types:
        return text
    raise ValueError(f"{text!r} is not {_expected(types)}")


def _finite(text: str) -> float:
    """Raises ValueError for a number that no double holds: it would be sent as another one, or as none."""
    number = float(text)
    if not isfinite(number):
        raise ValueError(f"{text} is out of range")
    return number


def _type_of(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


_EXPECTED = {
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
    "array": 'a list in JSON, such as ["a", "b"]',
    "object": 'an object in JSON, such as {"a": 1}',
}


def _expected(types: Sequence[str]) -> str:
    return ", or ".join(_EXPECTED.get(kind, kind) for kind in types)


def _detail(error: ValueError, types: Sequence[str]) -> str:
    return f": {error}" if {"array", "object"} & set(types) else ""


def _not_json(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object names a key twice")
    return found


def _wrong(why: str, tool: str, schema: Schema) -> Error:
    return Error("usage", why, hint=f"call it as: {signature(tool, schema)}")
