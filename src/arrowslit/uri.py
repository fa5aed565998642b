"""Resources as they are granted: by a URI, or by a template of MCP's list; and what such a name covers."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from arrowslit.errors import Error

# RFC 3986, loosely: a scheme, and what may stand in a URI; variables of a template in braces.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?:[!#$%&'(),./0-9:;=?@A-Z\[\]_a-z~-]|\{[A-Za-z0-9_.]+\})+")
_VARIABLES = re.compile(r"(?:\{[A-Za-z0-9_.]+\})+")  # those that touch are one: where a value ends, nobody could tell
LONGEST = 2048  # characters

_VALUE = re.compile(
    r"(?:[A-Za-z0-9._~-]|%(?!2[Ee])[0-9A-Fa-f]{2})+"
)  # simple expansion (RFC 6570, 3.2.2) writes no dot as %2E
_DELIMITERS = frozenset("/\\?#%&")  # what a server could take for more than a value, once it has decoded it
_NO_NAME = re.compile(r"[. ]*(?:;.*)?|[A-Za-z]:.*")  # `.`, `..` and what file systems make of them; a drive of Windows
_UPWARDS = re.compile(r"(?:^|[/:])\.{1,2}(?:[/?#]|$)")


def check_resource(text: str) -> str:
    """`text` as a resource to grant: a URI, or a URI template with variables like `{id}`.

    Raises Error `wildcard_not_allowed` for a pattern, else `validation_error`.
    """
    if "*" in text:
        raise Error("wildcard_not_allowed", f"{text!r} is a pattern", hint="list the resources by URI, one by one")
    if len(text) > LONGEST or not _NAME.fullmatch(text):
        raise Error(
            "validation_error",
            f"{text[:256]!r} is not the URI of a resource",
            hint="write a URI, or a template as the server lists it, in which each variable is {name}",
        )
    return text


def covers(granted: Collection[str], uri: str) -> bool:
    """Whether one of the `granted` names is `uri`, or a template that it fills in. A template itself is no URI.

    A variable stands for one value: no slash, no way upwards, nothing that decodes to either for any reader.
    """
    if "{" in uri:
        return False
    if uri in granted:
        return True
    if len(uri) > LONGEST or _UPWARDS.search(uri):
        return False
    return any("{" in name and _fills_in(name, uri) for name in granted)


def _fills_in(template: str, uri: str) -> bool:
    """Whether `uri` is `template` with values. Where these could end at several places, each part has to be one."""
    first, *between, last = _fixed(template)
    end = len(uri) - len(last)
    if not (uri.startswith(first) and uri.endswith(last)):
        return False
    at, values = len(first), []
    for fixed in between:
        found = uri.find(fixed, at, end)
        if found < 0:
            return False
        values.append(uri[at:found])
        at = found + len(fixed)
    values.append(uri[at:end])
    parts = values
    for fixed in between:
        parts = [part for value in parts for part in value.split(fixed)]
    return all(map(_is_one_value, (*values, *parts)))


def _is_one_value(text: str) -> bool:
    """Whether what stands for a variable is text, also for a reader that folds what looks alike (NFKC)."""
    if not _VALUE.fullmatch(text):
        return False
    try:
        value = unquote_to_bytes(text).decode()
    except UnicodeDecodeError:  # overlong forms of `/` and `.` are none of UTF-8 (RFC 3629, 3)
        return False
    folded = unicodedata.normalize("NFKC", value)
    return (value + folded).isprintable() and _DELIMITERS.isdisjoint(folded) and not _NO_NAME.fullmatch(folded)


@lru_cache(maxsize=1024)
def _fixed(template: str) -> list[str]:
    """The text before, between and after the variables."""
    return _VARIABLES.split(template)
