"""Definitions of tools: what of them is pinned, what in them is refused, and what follows when one changes.

What a model is shown of a tool steers the model. So a definition that somebody relied on may not change behind their
back, and may not hold what a model reads and a person does not see.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Never

from arrowslit.errors import Error
from arrowslit.pin import Pin, PinState, Seen

LONGEST = 256 << 10  # bytes of one definition, as its server wrote it
DEEPEST = 64  # levels of nesting
_CACHED = 16 << 10  # bytes; longer definitions are read anew each time

_NOT_PINNED = ("_meta", "execution")
"""`_meta` is between programs and may differ from list to list; `execution` differs between the eras of MCP, and says
only whether a call may be a task."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One definition, read. `text` is its canonical JSON in ASCII: sorted keys, nothing absent written as null."""

    text: str
    digest: str
    refused: str | None


def read(entry: bytes) -> Reading:
    """The definition in one entry of a list of tools; `refused` says why nobody should be shown it. Never raises."""
    return _read_again(entry) if len(entry) <= _CACHED else _read(entry)


def seen(pin: Pin | None, names: tuple[str, str, str], reading: Reading, now: float) -> Pin:
    """The pin after a server has shown a definition. `names` are the agent's id, the server and the tool.

    The first one that is fit to be seen is pinned. Any other puts the tool off until somebody approves it, also if the
    server goes back to the first: what it showed in between was meant for somebody.
    """
    shown = Seen(reading.digest, reading.text, now, reading.refused)
    if pin is None:
        agent_id, server, tool = names
        good = reading.refused is None
        return Pin(agent_id, server, tool, shown if good else None, None if good else shown)
    latest = pin.offered or pin.approved
    if latest is not None and latest.digest == reading.digest:
        return pin
    return replace(pin, offered=shown)


def approved(pin: Pin, digest: str, by: str, now: float) -> Pin:
    """The pin after somebody approved the definition with that digest: it is the one that holds from now on.

    Raises Error `version_conflict` if the server shows another one by now, `definition_refused` for one that nobody can
    approve.
    """
    latest = pin.offered or pin.approved
    if latest is None or latest.digest != digest:
        raise Error("version_conflict", "the server shows another definition by now", hint="look at that one first")
    if latest.refused is not None:
        raise Error("definition_refused", f"this definition cannot be approved: {latest.refused}", hint=_MEND)
    return replace(pin, approved=replace(latest, at=now), offered=None, approved_by=by) if pin.offered else pin


def refusal(pin: Pin) -> Error | None:
    """Why a tool cannot be used at the moment; None if it can."""
    match pin.state:
        case PinState.PINNED:
            return None
        case PinState.CHANGED:
            return Error(
                "definition_changed",
                f"the server has changed the definition of {_plain(pin.tool)} since it was pinned",
                hint=f"an administrator looks at the change: arrowslit agent approve {pin.agent_id} "
                f"{_plain(pin.server)} {_plain(pin.tool)}",
            )
        case PinState.REFUSED:
            why = pin.offered.refused if pin.offered is not None else None
            return Error(
                "definition_refused", f"the definition of {_plain(pin.tool)} cannot be used: {why}", hint=_MEND
            )


def diff(pin: Pin) -> Sequence[str]:
    """What changed between what holds and what the server shows now: lines that begin with a space, - or +."""
    before = [] if pin.approved is None else list(readable(pin.approved.text))
    after = before if pin.offered is None else list(readable(pin.offered.text))
    return [line for line in difflib.ndiff(before, after) if not line.startswith("?")]


def visible(text: str) -> Mapping[str, Any]:
    """A canonical definition in which nothing hides: what is not seen is written as its escape."""
    shown = _visible(json.loads(text))
    assert isinstance(shown, dict)
    return shown


def _visible(value: Any) -> Any:
    match value:
        case str():
            return _plain(value, keep="\n\t")
        case dict():
            return {_plain(name): _visible(each) for name, each in value.items()}
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
            yield f"{name}: {_plain(value)}"
            continue
        yield f"{name}:"
        if isinstance(value, str):
            yield from (f"  | {_plain(line)}" for line in value.split("\n"))
        else:
            yield from (f"  {line}" for line in json.dumps(value, indent=2, ensure_ascii=False).split("\n"))


_MEND = "mend the server's definition; until then this tool stays off"
_FIRST = ("name", "title", "description", "inputSchema", "outputSchema", "annotations")


def _order(name: str) -> tuple[int, str]:
    return (_FIRST.index(name) if name in _FIRST else len(_FIRST)), name


class _Refused(Exception):
    """Why a definition is refused."""


def _read(entry: bytes) -> Reading:
    digest = hashlib.sha256(entry).hexdigest()
    if len(entry) > LONGEST:
        return Reading("{}", digest, f"it is longer than {LONGEST >> 10} KiB")
    try:
        definition = json.loads(entry, object_pairs_hook=_members, parse_constant=_no_number)
    except _Refused as why:
        return Reading("{}", digest, str(why))
    except (ValueError, RecursionError):
        return Reading("{}", digest, "it cannot be read")
    if not isinstance(definition, dict):
        return Reading("{}", digest, "it is not an object")
    if any(depth > DEEPEST for depth, _, _ in _parts(definition)):
        return Reading("{}", digest, f"it is nested deeper than {DEEPEST} levels")
    kept = {name: value for name, value in definition.items() if value is not None and name not in _NOT_PINNED}
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"))
    complaint = next(_complaints(definition), None)
    return Reading(text, hashlib.sha256(text.encode()).hexdigest(), complaint)


_read_again = lru_cache(maxsize=4096)(_read)


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _Refused("a key stands twice in one object of it")
    return members


def _no_number(text: str) -> Never:
    raise _Refused(f"{text} in it is no number of JSON")


def _complaints(definition: Mapping[str, Any]) -> Iterator[str]:
    """Everything that is wrong with it."""
    known = {value for _, key, value in _parts(definition) if key == "$id" and isinstance(value, str)}
    for _, key, value in _parts(definition):
        for text in (key, value):
            if isinstance(text, str) and (found := unseen(text)) is not None:
                yield f"it holds a character that is not seen, U+{ord(found):04X}"
        refers = key in ("$ref", "$dynamicRef") and isinstance(value, str) and _ABSOLUTE.match(value)
        if refers and value.partition("#")[0] not in known:
            yield "it refers to a schema elsewhere, which may change at any time"


_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|//")


def _parts(value: Any) -> Iterator[tuple[int, str | None, Any]]:
    """Every value inside, with its depth and the key it stands under."""
    waiting: list[tuple[int, str | None, Any]] = [(0, None, value)]
    while waiting:
        part = waiting.pop()
        yield part
        depth, _, value = part
        if isinstance(value, dict):
            waiting += [(depth + 1, name, each) for name, each in value.items()]
        elif isinstance(value, list):
            waiting += [(depth + 1, None, each) for each in value]


def unseen(text: str) -> str | None:
    """The first character of `text` that a person does not see, or that changes the order of what they see.

    Controls but for tabs and line ends, format characters (zero widths, bidirectional marks, the tags block), blank
    letters, half surrogates. Emoji keep what joins them: U+200D between two of them, U+FE0F after one.
    """
    if text.isascii() and text.isprintable():
        return None
    for at, character in enumerate(text):
        if not _UNSEEN.match(character) and unicodedata.category(character) not in _HIDDEN:
            continue
        if character in "\t\n\r":
            continue
        before, after = text[at - 1 : at], text[at + 1 : at + 2]
        if character == "\ufe0f" and _is_symbol(before):
            continue
        if character == "\u200d" and (_is_symbol(before) or before == "\ufe0f") and _is_symbol(after):
            continue
        return character
    return None


_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff]"
)


def _is_symbol(character: str) -> bool:
    """Whether it is an emoji, or a part of one: a pictograph, its skin, a keycap's digit, ♀ and the like."""
    return character != "" and (unicodedata.category(character) in ("So", "Sk") or character in "0123456789#*‼⁉↔↕↖↗↘↙")


def _plain(text: str, keep: str = "") -> str:
    """`text` with an escape for whatever a terminal would not show as itself, but for what is in `keep`."""
    if text.isprintable() and unseen(text) is None:
        return text
    return "".join(
        each if each in keep or (each.isprintable() and unseen(each) is None) else f"\\u{{{ord(each):x}}}"
        for each in text
    )
