"""PURE: what the head of an answer says of its body, whether everybody who reads that body reads the same, and which
forms of an answer a caller takes.

Policy is decided by what we read. A client that unpacks, decodes or cuts a body in another way reads something else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from arrowslit.protocol.jsonrpc import Refused

EVENTS = "text/event-stream"

_PARTIAL = 206
_BLANK = " \t"
_UTF8 = frozenset({"utf-8", "utf8"})
_KINDS = ("json", "event-stream")  # what clients look for in a type, some of them anywhere in it


def is_events(content_type: str | None) -> bool:
    """Whether a body of that type is a stream of server-sent events."""
    return content_type is not None and content_type.partition(";")[0].strip(_BLANK).lower() == EVENTS


def streams_events(status: int, headers: Sequence[tuple[str, str]]) -> bool:
    """Whether the body of an answer with that head is a stream of events; any other may be JSON. Names in lower case.

    Raises Refused `answer_unreadable` for a content coding (RFC 9110, 8.4), a part of a body, and a type that is said
    twice, names another character set than UTF-8, or can be taken for both JSON and events.
    """
    codings = tuple([value for name, value in headers if name == "content-encoding"])
    types = tuple([value for name, value in headers if name == "content-type"])
    why, events = _read(status == _PARTIAL, codings, types)
    if why is not None:
        raise Refused("answer_unreadable", f"the server's answer cannot be read safely: {why}")
    return events


@lru_cache(maxsize=256)
def _read(is_partial: bool, codings: tuple[str, ...], types: tuple[str, ...]) -> tuple[str | None, bool]:
    """Why it is refused, and whether it is events."""
    if any(coding.strip(_BLANK).lower() not in ("", "identity") for line in codings for coding in line.split(",")):
        return "it is compressed, which nobody asked for", False
    if is_partial:
        return "it is a part of a body, which nobody asked for", False
    if len(types) > 1:
        return "it has two types", False
    kind = types[0].lower() if types else ""
    events = is_events(kind)
    named = [name for name in _KINDS if name in kind]
    if named and named != ["event-stream" if events else "json"]:
        return "its type could be taken for another", False
    if named and not _is_utf8(kind):
        return "its characters are not in UTF-8", False
    return None, events


def _is_utf8(kind: str) -> bool:
    """Whether no parameter names another character set. A name stands before the first `=` (RFC 9110, 5.6.6)."""
    for parameter in kind.split(";")[1:]:
        name, _, value = parameter.partition("=")
        if "charset" in name and value.strip(_BLANK).strip("\"'") not in _UTF8:
            return False
    return "charset" not in kind.partition(";")[0]


@lru_cache(maxsize=64)
def acceptable(accept: str) -> bool:
    """Whether the value of an Accept header leaves room for JSON or for events, the two forms of an answer.

    RFC 9110, 12.5.1; which of the two a server wants to see is its own affair.
    """
    for part in accept.lower().split(","):
        kind, *parameters = (each.strip() for each in part.split(";"))
        if kind in _FORMS and not any(_NO_WEIGHT.fullmatch(each) for each in parameters):
            return True
    return False


_FORMS = frozenset({"application/json", "text/event-stream", "application/*", "text/*", "*/*"})
_NO_WEIGHT = re.compile(r"q=0(\.0{0,3})?")
