"""PURE: what the entries of an archive may be, so that unpacking it makes plain files and folders below one folder, and
nothing else anywhere.

Like `archive.py` it runs inside a sandbox too: the standard library of Python 3.10 and later is all that it needs.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Literal

MIB = 1 << 20
HARMLESS = 16 * MIB  # bytes that any archive may become

Kind = Literal["file", "folder", "symlink", "hardlink", "special", "sparse"]
Parts = tuple[str, ...]


class Unsafe(ValueError):
    """An archive that is not unpacked; the message says why, in words that a terminal can show."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much an archive may become. Sizes are bytes; `depth` counts the parts of a path.

    `ratio` bounds all content against the archive's own size, where that is more than HARMLESS: text shrinks to a
    tenth, seldom to a fiftieth, a bomb to a thousandth.
    """

    entries: int = 10_000
    total: int = 512 * MIB
    file: int = 256 * MIB
    ratio: int = 200
    depth: int = 32
    path: int = 1024
    part: int = 255


@dataclass(frozen=True, slots=True)
class Entry:
    """What an archive says of one entry. `target` is that of a link, `executable` whether its owner may run it."""

    name: str
    kind: Kind
    size: int = 0
    executable: bool = False
    target: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """What is made of an entry: its path below the folder, no parts for the folder itself. `link` is the path that a
    hard link leads to; a symbolic link's target may be written as the archive has it.
    """

    entry: Entry
    parts: Parts
    link: Parts = ()


def plan(entries: Iterable[Entry], archive_size: int, limits: Limits) -> list[Step]:
    """A step for each entry, in their order. Raises Unsafe at the first entry that is not wanted."""
    steps: list[Step] = []
    kinds: dict[Parts, Kind] = {(): "folder"}
    files: set[Parts] = set()
    total = 0
    allowed = min(limits.total, max(HARMLESS, limits.ratio * archive_size))
    for entry in entries:
        if len(steps) == limits.entries:
            raise Unsafe(f"it has more than {limits.entries} entries")
        parts = path_of(entry.name, limits)
        if entry.kind in ("special", "sparse"):
            raise Unsafe(f"{shown(entry.name)} is no plain file: a device, a pipe, or sparse")
        if not 0 <= entry.size <= limits.file:
            raise Unsafe(f"{shown(entry.name)} is too large")
        total += entry.size
        if total > allowed:
            raise Unsafe(f"it would become more than {allowed} bytes")
        _take_place(kinds, entry, parts)
        steps.append(Step(entry, parts, _link(entry, parts, files, limits)))
        if entry.kind in ("file", "hardlink"):
            files.add(parts)
    return steps


def path_of(name: str, limits: Limits) -> Parts:
    """The parts of a relative path; `.` and empty ones mean nothing, as in `./a//b/`. Raises Unsafe for any other."""
    if not name or not name.isprintable() or "\\" in name:
        raise Unsafe(f"{shown(name)} is no name: it is empty, or holds what cannot be shown, or a backslash")
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if name.startswith("/") or ".." in parts:
        raise Unsafe(f"{shown(name)} leads out of the folder")
    if len(parts) > limits.depth or len(name.encode()) > limits.path:
        raise Unsafe(f"{shown(name)} is too deep or too long")
    if any(len(part.encode()) > limits.part for part in parts):
        raise Unsafe(f"{shown(name)} has a part that is too long")
    return parts


def shown(name: str) -> str:
    """A name for a message: quoted, short, and without anything that a terminal obeys."""
    return ascii(name if len(name) <= 80 else name[:80] + "…")


def _take_place(kinds: dict[Parts, Kind], entry: Entry, parts: Parts) -> None:
    """Note the entry and the folders above it. Names that differ only in their Unicode form are the same name here:
    on some file systems they are.
    """
    key = tuple(unicodedata.normalize("NFC", part) for part in parts)
    for depth in range(len(key)):
        if kinds.setdefault(key[:depth], "folder") != "folder":
            raise Unsafe(f"{shown(entry.name)} lies below what is no folder")
    if entry.kind != "folder" and key in kinds:
        raise Unsafe(f"{shown(entry.name)} is there twice")
    if kinds.setdefault(key, entry.kind) != entry.kind:
        raise Unsafe(f"{shown(entry.name)} is there twice")


def _link(entry: Entry, parts: Parts, files: AbstractSet[Parts], limits: Limits) -> Parts:
    """Where a hard link leads: to a file that came before it. A symbolic one is only looked at.

    It may climb, and then go down to something inside. Once it goes down it does not climb again: what it went through
    could be a link itself, and `..` of that is anywhere. So no chain of links leads out.
    """
    if entry.kind == "hardlink":
        link = path_of(entry.target, limits)
        if link not in files:
            raise Unsafe(f"{shown(entry.name)} is a hard link to no file that came before it")
        return link
    if entry.kind == "symlink":
        down = entry.target.split("/")
        climbs = 0
        while down and down[0] == "..":
            climbs += 1
            del down[0]
        path_of("/".join(down) or ".", limits)
        if climbs >= len(parts) or not entry.target:
            raise Unsafe(f"{shown(entry.name)} is a link that leads out of the folder")
    return ()
