"""Find files of the workspace by their names, and lines by what they say."""

# No pathlib: it is ten milliseconds and two megabytes more for each session.
# ruff: noqa: PTH112, PTH116

from __future__ import annotations

import os
import re
import stat
from fnmatch import translate
from itertools import islice

from arrowslit.sandbox.tools.inside.workspace import Refused, Workspace, canonical, within

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeAlias

    Entry: TypeAlias = tuple[str, int]  # a name, and what it is, as in `st_mode`

MOST_RESULTS = 200
MOST_ENTRIES = 50_000  # paths that are sorted, files that are searched
MOST_OUTPUT = 100 * 1024  # characters of lines found
LONGEST_LINE = 2000  # bytes; a longer one is data that nobody wants to see
BINARY = 512  # bytes in which a NUL says that a file is no text
PASSED_OVER = (".git", "node_modules")


def glob(workspace: Workspace, pattern: str, path: str | None = None) -> str:
    """Absolute paths below `path` that match, newest first. `**` is any number of folders. Raises Refused."""
    if pattern.startswith("/"):
        raise Refused("absolute pattern not permitted; pass a relative pattern (and optionally path)")
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Refused("'..' is not permitted in the pattern")
    root = workspace.resolve(path) if path else workspace.root
    if not parts:
        raise Refused(f"Unacceptable pattern: {pattern!r}")
    tree = _Tree(workspace, root)
    folders = {root: root}
    for part in parts[:-1]:
        folders = dict(tree.folders(folders, part))
    found = dict.fromkeys(tree.matches(folders, parts[-1], only_folders=pattern.endswith("/")))
    newest = sorted(islice(found, MOST_ENTRIES), key=_modified, reverse=True)
    return "\n".join(newest[:MOST_RESULTS]) or "no matches"


class _Tree:
    """A folder to search, of which no symlink leads out. Folders are pairs: as the pattern led there, and canonical."""

    def __init__(self, workspace: Workspace, root: str) -> None:
        self._workspace = workspace
        self._root = root

    def folders(self, start: dict[str, str], part: str) -> Iterator[tuple[str, str]]:
        """The folders to which a part of a pattern leads, which is not the last."""
        if part == "**":
            yield from self._below(start)
            return
        for shown, target, is_folder in self._matching(start, part):
            if is_folder:
                yield shown, target

    def matches(self, start: dict[str, str], part: str, *, only_folders: bool) -> Iterator[str]:
        """What the last part of a pattern matches in these folders."""
        if part == "**":
            start, part = dict(self._below(start)), "*"
        for shown, _, is_folder in self._matching(start, part):
            if is_folder or not only_folders:
                yield shown

    def _matching(self, start: dict[str, str], part: str) -> Iterator[tuple[str, str, bool]]:
        """What matches, where it is, and whether it is a folder."""
        matches = re.compile(translate(part)).match
        for folder, where in start.items():
            for name, kind in _listed(self._workspace, where):
                if not matches(name):
                    continue
                if not stat.S_ISLNK(kind):
                    yield f"{folder}/{name}", f"{where}/{name}", stat.S_ISDIR(kind)
                elif (target := self._target(f"{where}/{name}")) is not None:
                    yield f"{folder}/{name}", target, os.path.isdir(target)

    def _below(self, start: dict[str, str]) -> Iterator[tuple[str, str]]:
        """These folders and all below them that no symlink leads to."""
        waiting = list(reversed(start.items()))
        while waiting:
            shown, where = waiting.pop()
            yield shown, where
            waiting += [
                (f"{shown}/{name}", f"{where}/{name}")
                for name, kind in _listed(self._workspace, where)
                if stat.S_ISDIR(kind)
            ]

    def _target(self, link: str) -> str | None:
        """Where a symlink leads to, None if that is not below the root."""
        try:
            target = canonical(link)
        except OSError:
            return None
        return target if within(target, self._root) else None


def grep(workspace: Workspace, pattern: str, path: str | None = None) -> str:
    """Lines below `path` that a regular expression of Python finds, as path:line:text. Raises Refused."""
    full = workspace.resolve(path) if path else workspace.root
    try:
        expression = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise Refused(f"invalid regex: {error}") from error
    hits: list[str] = []
    budget = MOST_OUTPUT
    for file in islice(_files(workspace, full), MOST_ENTRIES):
        for hit in _hits(workspace, file, expression):
            budget -= len(hit) + 1
            if budget < 0:
                return "\n".join([*hits, f"[output truncated at {MOST_OUTPUT} bytes]"])
            hits.append(hit)
    return "\n".join(hits) or "no matches"


def _files(workspace: Workspace, full: str) -> Iterator[str]:
    """A file, or all in a folder and below it, each folder's own first, by name. No symlink is followed."""
    try:
        kind = os.lstat(full).st_mode
    except OSError:
        return
    if stat.S_ISREG(kind):
        yield full
    waiting = [full] if stat.S_ISDIR(kind) else []
    while waiting:
        folder = waiting.pop()
        entries = sorted(_listed(workspace, folder))
        yield from (f"{folder}/{entry}" for entry, kind in entries if stat.S_ISREG(kind))
        waiting += [
            f"{folder}/{entry}" for entry, kind in reversed(entries) if stat.S_ISDIR(kind) and entry not in PASSED_OVER
        ]


def _hits(workspace: Workspace, full: str, expression: re.Pattern[str]) -> Iterator[str]:
    """The lines of one file; none if it is no text, or is no file any more."""
    try:
        fd = workspace.open(full, os.O_RDONLY)
    except OSError:
        return
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode) or b"\0" in file.read(BINARY):
            return
        file.seek(0)
        number = 0
        while raw := file.readline(LONGEST_LINE + 1):
            number += 1
            if len(raw) > LONGEST_LINE:
                while raw and not raw.endswith(b"\n"):
                    raw = file.readline(LONGEST_LINE)
                continue
            line = raw.decode(errors="replace").rstrip("\r\n")
            if expression.search(line):
                yield f"{full}:{number}:{line}"


def _listed(workspace: Workspace, full: str) -> list[Entry]:
    """What lies in the folder of a canonical path."""
    try:
        fd = workspace.open(full, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return []
    try:
        with os.scandir(fd) as entries:
            return [(entry.name, _kind(entry)) for entry in entries]
    finally:
        os.close(fd)


def _kind(entry: os.DirEntry[str]) -> int:
    """What an entry is: a folder, a file, a symlink, or 0 for what nobody looks into. Most file systems say it with
    the name; no further question is asked then.
    """
    if entry.is_symlink():
        return stat.S_IFLNK
    if entry.is_dir(follow_symlinks=False):
        return stat.S_IFDIR
    return stat.S_IFREG if entry.is_file(follow_symlinks=False) else 0


def _modified(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0
