"""PURE: what a JSON value means, as one text: the same for two readers exactly if they read the same.

Numbers are doubles here, since that is all that JavaScript has; that integers are exact is seen by comparing the
readers of Python with each other. `meaning.mjs` writes the same text.
"""

from __future__ import annotations

import hashlib
import struct

_DOUBLE = struct.Struct(">d")


def meaning(value: object) -> str:
    """Of what a reader of JSON gives. Members are in the order of their keys' UTF-16 code units; -0 is 0."""
    match value:
        case None | bool():
            return {None: "n", True: "t", False: "f"}[value]
        case int() | float():
            return "d" + _DOUBLE.pack(float(value) + 0.0).hex()
        case str():
            return "s" + value.encode("utf-16-be").hex()
        case list():
            return "[" + ",".join(map(meaning, value)) + "]"
        case dict():
            members = sorted((key.encode("utf-16-be"), member) for key, member in value.items())
            return "{" + ",".join(f"{key.hex()}:{meaning(member)}" for key, member in members) + "}"
        case _:
            raise TypeError(type(value))


def digest(value: object) -> str:
    """The meaning, made short."""
    return hashlib.sha1(meaning(value).encode(), usedforsecurity=False).hexdigest()
