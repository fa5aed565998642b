"""Workspace: which of the model's paths lie in it, and how they are opened so that nothing else is, whoever moves what
in the meantime.
"""

# No pathlib: it is ten milliseconds and two megabytes more for each session.
# ruff: noqa: PTH115, PTH118, PTH120

from __future__ import annotations

import errno
import os
from contextlib import suppress
from stat import S_ISLNK, S_ISREG

MOST_HOPS = 40  # symlinks that lead nowhere, one to the next; as the kernel counts

_MISSING = (errno.ENOENT, errno.ENOTDIR)
_REASONS = {
    errno.ENOENT: "no such file or directory",
    errno.ENOTDIR: "not a directory",
    errno.EISDIR: "is a directory",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EEXIST: "file already exists",
    errno.ELOOP: "too many levels of symbolic links",
    errno.ENXIO: "not a regular file",  # a FIFO that nobody reads, or a socket
}


class Refused(Exception):
    """The tool was not carried out; the text says why, to the model."""


class Workspace:
    """The folder that the file tools may see."""

    def __init__(self, root: str) -> None:
        self.root = os.path.realpath(root)
        self._fd = os.open(self.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def resolve(self, path: str) -> str:
        """The canonical path, relative ones starting here. What does not exist yet is kept as spelled.

        Raises Refused for what lies elsewhere, also by a symlink.
        """
        try:
            full = canonical(os.path.join(self.root, path))
        except OSError as error:
            raise Refused(f"path {path!r}: {reason(error)}") from error
        except ValueError as error:  # a NUL, or half a surrogate pair
            raise Refused(f"path {path!r}: no file can have this name") from error
        if not within(full, self.root):
            raise Refused(f"path {path!r} is outside the session's working directory")
        return full

    def open(self, full: str, flags: int, *, make: bool = False) -> int:
        """Open a canonical path, from folder to folder; `make` those that are missing. Raises OSError.

        No symlink is followed: one that stands there now was put there since. It never waits, not even for a FIFO.
        """
        *folders, name = full[len(self.root) :].strip("/").split("/")
        folder = os.dup(self._fd)
        try:
            for each in folders:
                inner = _enter(folder, each, make)
                os.close(folder)
                folder = inner
            return os.open(
                name or ".",
                flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC,
                0o666,
                dir_fd=folder,
            )
        finally:
            os.close(folder)


def _enter(folder: int, name: str, make: bool) -> int:
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    if make:
        with suppress(FileExistsError):
            os.mkdir(name, dir_fd=folder)
    return os.open(name, flags, dir_fd=folder)


def canonical(path: str) -> str:
    """The path without `.`, `..` (taken as they are spelled) and symlinks, also those that lead nowhere.

    Raises OSError, ValueError if no path can be spelled so. The same steps as the SDK's, because they decide what is
    outside.
    """
    start, tail, hops = os.path.normpath(path), list[str](), 0
    while True:
        try:
            return os.path.join(os.path.realpath(start, strict=True), *reversed(tail))
        except OSError as error:
            if error.errno not in _MISSING:
                raise
            missing = error
        try:
            link = S_ISLNK(os.lstat(start).st_mode)
        except OSError as error:
            if error.errno not in _MISSING or start == "/":
                raise
            start, name = os.path.split(start)
            tail.append(name)
            continue
        if not link:
            raise missing
        hops += 1
        if hops > MOST_HOPS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        folder = os.path.realpath(os.path.dirname(start), strict=True)
        start = os.path.normpath(os.path.join(folder, os.readlink(start), *reversed(tail)))
        tail.clear()


def within(path: str, root: str) -> bool:
    """Whether a canonical path is `root` or below it."""
    return path == root or path.startswith(root.rstrip("/") + "/")


def regular(fd: int, path: str) -> os.stat_result:
    """What is known of an open file. Raises Refused for a folder, a FIFO, a device."""
    found = os.fstat(fd)
    if not S_ISREG(found.st_mode):
        raise Refused(f"{path}: not a regular file")
    return found


def reason(error: OSError) -> str:
    """What went wrong, in the SDK's words, without the path of this machine that an OSError may hold."""
    return _REASONS.get(error.errno or 0) or (error.strerror or "i/o error").lower()
