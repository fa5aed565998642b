"""PURE: JSON that can be read in one way only, for what tells who somebody is."""

from __future__ import annotations

import json
from typing import Any, Never


def read_object(data: bytes) -> dict[str, Any]:
    """The one JSON object in `data`, UTF-8. Raises ValueError for anything else, for a key that stands twice in one
    object, and for what only some readers take for a number (NaN, Infinity).
    """
    try:
        found = json.loads(data.decode("utf-8"), object_pairs_hook=_each_once, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _no_number(text: str) -> Never:
    raise ValueError(f"{text} is no number")
