"""PURE: lists in answers, cut down to what may be seen, and read so strictly that nobody can read them otherwise."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Never, cast

import msgspec
from msgspec import Raw

from arrowslit.protocol.jsonrpc import Refused, fold, members_in, text

Shows = Callable[[str, str, Raw], bool]
"""Whether an entry of a list may be seen: a key of LISTS, what names the entry, the entry as its server wrote it."""

LISTS = {"tools": "name", "prompts": "name", "resources": "uri", "resourceTemplates": "uriTemplate"}
"""The lists of a result that policy cuts down, and which member names an entry."""


LISTED = 4 << 20  # bytes of a list that must be read to be filtered
MOST_ENTRIES = 10_000  # of one answer: five times what an agent can have pinned of a server
MOST_MEMBERS = 1_000  # of an answer, its result or an entry; each of their names is compared


def filter_lists(body: bytes, shows: Shows) -> bytes:
    """A response with one of LISTS in its result, without the entries that may not be seen; anything else as it is.

    Takes a whole JSON body or the data of one event. Order, and every byte of what stays, is kept; `cacheScope` becomes
    private. Raises Refused `list_unreadable` for a list that clients could read in more than one way, or of too many
    entries, and `result_too_large` for one that is longer than LISTED.
    """
    steps = filtering(body, shows)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return cast(bytes, done.value)


def filtering(body: bytes, shows: Shows) -> Generator[int, None, bytes]:
    """The same in steps, for who has something else to do in between. Yields how many bytes each had to do with."""
    if not _may_hold_a_list(body):
        return body
    yield len(body)
    try:
        body.decode()
        whole = _decode_raw(body)
        if _starts(whole, "["):
            _refuse_lists(_decode_entries(whole))
            return body
        envelope = _members(whole)
        yield from _each_once(whole, envelope)
        result = _members(_only(envelope, "result"))
        yield from _each_once(envelope.get("result"), result)
        lists = _lists(result)
        if lists and len(body) > LISTED:
            raise Refused("result_too_large", f"a list that is filtered may have {LISTED >> 20} MiB")
        for kind in lists:
            result[kind] = Raw((yield from _shown(kind, result[kind], shows)))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        _unsafe("the answer is not JSON in UTF-8")
    if not lists:
        return body
    if "cacheScope" in result:
        result["cacheScope"] = Raw(b'"private"')
    envelope["result"] = Raw(_encode(result))
    return _encode(envelope)


def _unsafe(why: str) -> Never:
    raise Refused("list_unreadable", why)


def _may_hold_a_list(body: bytes) -> bool:
    """Whether a key of `body` can be one of LISTS for any reader: written plainly, in any case, escaped, or not in
    UTF-8.

    A reader that ignores case takes `ſ` (U+017F) for `s`; no other character beyond ASCII folds to one of the letters.
    """
    start = body.lstrip(_BLANK)[:1]
    if b"!" <= start <= b"~" and start not in b"{[":
        return False  # plain text, an HTML page: not JSON in any encoding
    lower = body.lower()
    return (
        b"tools" in lower
        or b"resource" in lower
        or b"prompts" in lower
        or b"\\u" in body
        or b"\xc5\xbf" in body
        or b"\0" in body
    )


_BLANK = b" \t\r\n"
_FOLDED_LISTS = frozenset(map(fold, LISTS))

Members = dict[str, Raw]


def _starts(value: Raw, bracket: str) -> bool:
    return memoryview(value)[0] == ord(bracket)


def _members(value: Raw | None) -> Members:
    """The members of an object, none of anything else."""
    members = _decode_members(value) if value is not None and _starts(value, "{") else {}
    if len(members) > MOST_MEMBERS:
        _unsafe(f"an object has more than {MOST_MEMBERS} members")
    return members


def _each_once(holder: Raw | None, members: Members) -> Generator[int, None, None]:
    """Raises Refused if a key stands twice in the object `holder`, by any spelling: of those decoding keeps one."""
    if members and holder is not None:
        written = members_in(bytes(holder))
        yield len(memoryview(holder))
        if written != len(members) + members_in(b",".join(map(bytes, members.values()))):
            _unsafe("a key stands twice")
        yield len(memoryview(holder))


def _lists(result: Members) -> list[str]:
    """Those of LISTS that a result has. Raises Refused where readers could disagree about that."""
    if any(key not in LISTS and fold(key[:64]) in _FOLDED_LISTS for key in result):
        _unsafe("the result could be read to have another list")
    return [kind for kind in LISTS if kind in result]


def _shown(kind: str, raw: Raw, shows: Shows) -> Generator[int, None, bytes]:
    """A list without the entries that may not be seen."""
    if not _starts(raw, "["):
        _unsafe(f"result.{kind} is not an array")
    entries = _decode_entries(raw)
    if len(entries) > MOST_ENTRIES:
        _unsafe(f"it has more than {MOST_ENTRIES} entries")
    yield len(memoryview(raw))
    shown: list[Raw] = []
    for entry in entries:
        members = _members(entry)
        for _ in _each_once(entry, members):
            pass
        name = text(_only(members, LISTS[kind]))
        if name and shows(kind, name, entry):
            shown.append(entry)
        yield len(memoryview(entry)) + ENTRY
    return _encode(shown)


ENTRY = 256  # bytes that an entry of none would be worth in work


def _refuse_lists(parts: Sequence[Raw]) -> None:
    """Raises Refused if one of the messages of a batch holds a list."""
    for part in parts:
        envelope = _members(part)
        result = _members(_only(envelope, "result"))
        for holder, members in ((part, envelope), (envelope.get("result"), result)):
            for _ in _each_once(holder, members):
                pass
        if _lists(result):
            _unsafe("the list is part of a batch")


def _only(members: Members, name: str) -> Raw | None:
    """The value of a member, None where there is none. Raises Refused if it could be there twice."""
    folded = fold(name)
    if any(key != name and fold(key[:64]) == folded for key in members):
        _unsafe(f"an object could be read to have another {name!r}")
    return members.get(name)


_encode = msgspec.json.Encoder().encode
_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_raw = msgspec.json.Decoder(Raw).decode
_decode_entries = msgspec.json.Decoder(list[Raw]).decode
