"""Unpack a tar or zip archive of somebody else's into a folder: whole and as `entries.py` allows it, or not at all.

It runs wherever there is a Python 3.10 or later, also inside a sandbox; it relies on nothing that later versions made
safer. An archive is read twice: once for its entries, and when all of them are wanted, for what is in them. The folder
is reached through its descriptor alone, and no link is followed on the way, so that it does not matter what anybody
does in that folder meanwhile.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO

from arrowslit.sandbox.entries import Limits, Parts, Step, Unsafe, plan, shown
from arrowslit.sandbox.packed import PIECE, Readable, Source, readable, source

DEFAULTS = Limits()


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What was made: how many files (links too), and how many bytes are in them."""

    files: int
    size: int


def unpack(archive: bytes | str | os.PathLike[str], into: int, limits: Limits = DEFAULTS) -> Unpacked:
    """Unpack an archive, its bytes or its path, into the folder with the descriptor `into`.

    Files are made 0644, or 0755 if they were executable, folders 0755, all of them new and the caller's. Known by their
    first bytes are zip, tar, and tar in gzip, bzip2 or xz.

    Raises Unsafe for an archive that is damaged, is none, or has anything in it that is not wanted; OSError, such as
    FileExistsError, for what cannot be written. Nothing of the archive is left in the folder then.
    """
    with _opened(archive) as file:
        size = file.seek(0, io.SEEK_END)
        with readable():
            packed = source(file, limits)
            steps = plan(packed.entries(), size, limits)
        writer = _Writer(into)
        try:
            for step, content in _contents(packed, steps):
                writer.make(step, content)
            for step in steps:  # after all files, so that none of them is written through a link
                if step.entry.kind == "symlink":
                    writer.symlink(step)
        except BaseException:
            writer.undo()
            raise
    made = [step.entry for step in steps if step.entry.kind != "folder"]
    return Unpacked(len(made), sum(entry.size for entry in made))


def _contents(packed: Source, steps: list[Step]) -> Iterator[tuple[Step, Readable | None]]:
    """What to make, and of what. The archive must say again what it said when it was planned."""
    rest = iter(steps)
    with readable():
        for entry, content in packed.contents():
            step = next(rest, None)
            if step is None or step.entry != entry:
                raise Unsafe("it changed while it was read")
            yield step, content
        if next(rest, None) is not None:
            raise Unsafe("it changed while it was read")


def _piece(content: Readable, left: int) -> bytes:
    """The next piece of what is in a file of which `left` bytes are to come, and no more than those."""
    with readable():
        data = content.read(min(PIECE, left + 1))
    if len(data) > left:
        raise Unsafe("a file is longer than it says")
    return data


@contextmanager
def _opened(archive: bytes | str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    if isinstance(archive, bytes):
        yield io.BytesIO(archive)
        return
    fd = os.open(archive, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise Unsafe("it is no file")
        yield file


class _Writer:
    """Makes what is planned, in a folder that may be changed by others meanwhile."""

    def __init__(self, into: int) -> None:
        self._into = into
        self._made: list[tuple[Parts, bool]] = []  # and whether it is a folder

    def make(self, step: Step, content: Readable | None) -> None:
        """Make a folder, a file or a hard link."""
        match step.entry.kind:
            case "folder":
                with self._folder(step.parts):
                    pass
            case "file":
                assert content is not None
                self._file(step, content)
            case "hardlink":
                with self._folder(step.link[:-1]) as source, self._folder(step.parts[:-1]) as folder:
                    os.link(step.link[-1], step.parts[-1], src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False)
                    self._made.append((step.parts, False))

    def symlink(self, step: Step) -> None:
        with self._folder(step.parts[:-1]) as folder:
            os.symlink(step.entry.target, step.parts[-1], dir_fd=folder)
            self._made.append((step.parts, False))

    def undo(self) -> None:
        """Remove what was made, as far as it is still there."""
        for parts, is_folder in reversed(self._made):
            with suppress(OSError), self._folder(parts[:-1], make=False) as folder:
                (os.rmdir if is_folder else os.unlink)(parts[-1], dir_fd=folder)

    def _file(self, step: Step, content: Readable) -> None:
        new = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with self._folder(step.parts[:-1]) as folder:
            fd = os.open(step.parts[-1], new, 0o600, dir_fd=folder)
            self._made.append((step.parts, False))
            with os.fdopen(fd, "wb") as file:
                left = step.entry.size
                while data := _piece(content, left):
                    file.write(data)
                    left -= len(data)
                if left:
                    raise Unsafe(f"{shown(step.entry.name)} is not of the size that it says")
                os.fchmod(fd, 0o755 if step.entry.executable else 0o644)

    @contextmanager
    def _folder(self, parts: Parts, *, make: bool = True) -> Iterator[int]:
        """The descriptor of a folder; those on the way that are missing are made."""
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._into)
        try:
            for depth, part in enumerate(parts, 1):
                with suppress(FileExistsError):
                    if make:
                        os.mkdir(part, 0o755, dir_fd=fd)
                        self._made.append((parts[:depth], True))
                inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
                os.close(fd)
                fd = inner
            yield fd
        finally:
            os.close(fd)
