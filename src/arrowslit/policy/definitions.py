"""Definitions of tools: what of them is pinned, what in them is refused, and what follows when one changes.

What a model is shown of a tool steers the model. So a definition that somebody relied on may not change behind their
back, and may not hold what a model reads and a person does not see.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Never

from arrowslit.errors import Error
from arrowslit.pin import Pin, PinState, Seen
from arrowslit.policy import readable
from arrowslit.policy.unseen import plain, unseen

LONGEST = 256 << 10  # bytes of one definition, as its server wrote it
DEEPEST = 64  # levels of nesting
_CACHED = 16 << 10  # bytes; longer definitions are read anew each time

_TASK_SUPPORT = ("forbidden", "optional", "required")
"""What `execution.taskSupport` may be. It is not pinned, for one era of MCP has it and the other not; all else is."""

_MEANWHILE = 8  # definitions that are kept of those that a server no longer shows; the ledger has all digests
_KEPT_LONG = 16 << 10  # characters; of a longer one of those the digest alone is kept


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
    if latest is not None and _same(latest, shown):
        return pin
    earlier = next((each.at for each in pin.meanwhile if _same(each, shown)), now)
    passed = pin.meanwhile if pin.offered is None else (*pin.meanwhile, pin.offered)
    return replace(pin, offered=replace(shown, at=earlier), meanwhile=_passed(passed, pin.approved, shown))


def _passed(passed: Iterable[Seen], *shown: Seen | None) -> tuple[Seen, ...]:
    """Those that are none of the `shown`: the last few, and none too long."""
    others = [each for each in passed if not any(one is not None and _same(each, one) for one in shown)]
    return tuple(each if len(each.text) <= _KEPT_LONG else replace(each, text="{}") for each in others[-_MEANWHILE:])


def _same(one: Seen, other: Seen) -> bool:
    """What is refused of a definition may also stand where its digest does not reach, or be another with another
    version of Unicode.
    """
    return (one.digest, one.refused) == (other.digest, other.refused)


def approved(pin: Pin, digest: str, by: str, now: float, looked_at: Collection[str] | None = None) -> Pin:
    """The pin after somebody approved the definition with that digest: it is the one that holds from now on.

    `looked_at` are the digests of what they saw of what was shown in between, None if they do not say. Raises Error
    `version_conflict` if the server shows another one by now, or has shown one in between that nobody looked at;
    `definition_refused` for one that nobody can approve.
    """
    latest = pin.offered or pin.approved
    if latest is None or latest.digest != digest:
        raise Error("version_conflict", "the server shows another definition by now", hint="look at that one first")
    if looked_at is not None and not {each.digest for each in pin.meanwhile} <= set(looked_at):
        raise Error("version_conflict", "the server has shown another definition since", hint="look at that one first")
    if latest.refused is not None:
        raise Error("definition_refused", f"this definition cannot be approved: {latest.refused}", hint=_MEND)
    return (
        replace(pin, approved=replace(latest, at=now), offered=None, meanwhile=(), approved_by=by)
        if pin.offered
        else pin
    )


def refusal(pin: Pin) -> Error | None:
    """Why a tool cannot be used at the moment; None if it can."""
    match pin.state:
        case PinState.PINNED:
            return None
        case PinState.CHANGED:
            return Error(
                "definition_changed",
                f"the server has changed the definition of {plain(pin.tool)} since it was pinned",
                hint=f"an administrator looks at the change: arrowslit agent approve {pin.agent_id} "
                f"{plain(pin.server)} {plain(pin.tool)}",
            )
        case PinState.REFUSED:
            why = pin.offered.refused if pin.offered is not None else None
            return Error("definition_refused", f"the definition of {plain(pin.tool)} cannot be used: {why}", hint=_MEND)


def diff(pin: Pin, to: Seen | None = None) -> Sequence[str]:
    """What changed between what holds and `to`, by default what the server shows now: lines that begin with a space, -
    or +.
    """
    after = to or pin.offered or pin.approved
    return readable.diff(*(None if each is None else each.text for each in (pin.approved, after)))


_MEND = "mend the server's definition; until then this tool stays off"


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
    parts = _parts(definition)
    if parts is None:
        return Reading("{}", digest, f"it is nested deeper than {DEEPEST} levels")
    text = json.dumps(_pinned(definition), sort_keys=True, separators=(",", ":"))
    return Reading(text, hashlib.sha256(text.encode()).hexdigest(), _complaint(parts))


def _pinned(definition: Mapping[str, Any]) -> Mapping[str, Any]:
    """What of a definition is pinned."""
    execution = definition.get("execution")
    if isinstance(execution, dict) and execution.get("taskSupport") in _TASK_SUPPORT:
        rest = {name: value for name, value in execution.items() if name != "taskSupport"}
        definition = {**definition, "execution": rest or None}
    return {name: value for name, value in definition.items() if value is not None}


_read_again = lru_cache(maxsize=4096)(_read)


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _Refused("a key stands twice in one object of it")
    return members


def _no_number(text: str) -> Never:
    raise _Refused(f"{text} in it is no number of JSON")


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a definition holds at any depth: its texts (keys too), the ids of its schemas, and what it refers to."""

    texts: list[str]
    ids: list[Any]
    refers: list[Any]


def _parts(definition: dict[str, Any]) -> _Parts | None:
    """Level by level, each value once, for a server may write many; None if it is nested too deep."""
    found = _Parts([], [], [])
    level: list[Any] = [definition]
    for _ in range(DEEPEST + 1):
        below: list[Any] = []
        for value in level:
            if isinstance(value, str):
                found.texts.append(value)
            elif isinstance(value, list):
                below += value
            elif isinstance(value, dict):
                found.texts.extend(value)
                below += value.values()
                found.ids.append(value.get("$id"))
                found.refers.extend((value.get("$ref"), value.get("$dynamicRef")))
        if not below:
            return found
        level = below
    return None


def _complaint(parts: _Parts) -> str | None:
    """What is wrong with it, None if nothing is."""
    if (hidden := unseen(" ".join(parts.texts))) is not None:  # nothing is of use in an emoji or a word beside a blank
        return f"it holds a character that is not seen, U+{ord(hidden):04X}"
    known = {each for each in parts.ids if isinstance(each, str)}
    for refers in parts.refers:
        if isinstance(refers, str) and _ABSOLUTE.match(refers) and refers.partition("#")[0] not in known:
            return "it refers to a schema elsewhere, which may change at any time"
    return None


_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|//")
