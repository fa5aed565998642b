"""Typed, prefixed ids: make, check, and derive those that come from a name."""

from __future__ import annotations

import re
from collections.abc import Callable

from arrowslit.errors import Error

RandomBytes = Callable[[int], bytes]
"""n -> n random bytes. `os.urandom` in earnest, a seeded generator in a simulation."""

PREFIXES = ("agent", "call", "ekey", "env", "file", "key", "req", "sesn", "sevt", "tcrt", "tnl", "work")

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def new_id(prefix: str, random: RandomBytes) -> str:
    """`prefix_` and 96 random bits in hex, e.g. `call_5f0c…`. Raises ValueError for a prefix that nobody declared."""
    if prefix not in PREFIXES:
        raise ValueError(f"no such id prefix: {prefix}")
    return f"{prefix}_{random(12).hex()}"


def is_id(prefix: str, text: str) -> bool:
    """Whether `text` looks like an id of that kind; says nothing about whether it exists."""
    return text.startswith(prefix + "_") and len(text) > len(prefix) + 1


def check_name(name: str, *, what: str = "name") -> str:
    """`name` if it is a DNS label (RFC 1123, lower case, at most 63 octets), else Error `validation_error`."""
    if not _NAME.fullmatch(name):
        raise Error(
            "validation_error",
            f"{name!r} is not a valid {what}",
            hint=f"a {what} has 1 to 63 characters of a-z, 0-9 and hyphens, and no hyphen at either end",
        )
    return name


def tunnel_id(name: str) -> str:
    """The id of the tunnel of that name: `internal-inventory` -> `tnl_internal_inventory`. One name, one id."""
    return "tnl_" + check_name(name, what="tunnel name").replace("-", "_")


def tunnel_name(tunnel_id: str) -> str:
    """The name that an id came from: what `tunnel_id` makes is unique, since names hold no underscore."""
    return tunnel_id.removeprefix("tnl_").replace("_", "-")
