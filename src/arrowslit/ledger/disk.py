"""Disk: where the lines of the ledger lie; the port, and the files of a state folder."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from arrowslit.errors import Error


@dataclass(frozen=True, slots=True)
class Segment:
    """One file of the chain: the number of its first record, and its size in bytes when it was looked at."""

    first: int
    size: int

    @property
    def name(self) -> str:
        """The file's name; names sort as their records do."""
        return segment_name(self.first)


def segment_name(first: int) -> str:
    """`00000000000000000001.jsonl` for the segment that begins with record 1."""
    return f"{first:020d}.jsonl"


class Stored(Protocol):
    """What can be read of a ledger. A reader may look while a relay writes: lines are only ever added."""

    def segments(self) -> Sequence[Segment]:
        """All segments by their first record."""
        ...

    def lines(self, first: int) -> Iterator[bytes]:
        """The lines of a segment with their newline; the last may have none yet. No lines if there is no segment."""
        ...

    def head(self) -> bytes | None:
        """The content of the head's file, if there is one."""
        ...


class Disk(Stored, Protocol):
    """What the one writer of a ledger needs. Its methods raise OSError if they could not do all of what they say."""

    def append(self, data: bytes) -> None:
        """Hand `data` over to the operating system in one write. After an OSError a part of it may be there."""
        ...

    def truncate(self, size: int) -> None:
        """Cut the current segment back to `size` bytes."""
        ...

    async def sync(self) -> None:
        """Return when everything appended before the call survives a loss of power."""
        ...

    async def rotate(self, first: int) -> None:
        """Continue in the segment of that first record, made if it is missing; its name survives a loss of power.

        What was appended before must have been synced.
        """
        ...

    async def write_head(self, content: bytes) -> None:
        """Replace the head at once and for good: a reader sees the old one or the new one."""
        ...


_SEGMENT = re.compile(r"(\d{20})\.jsonl")


class Folder:
    """The files of a ledger, for reading: segments in `folder`, the head at `head_path`."""

    def __init__(self, folder: Path, head_path: Path) -> None:
        self._folder, self._head_path = folder, head_path

    def segments(self) -> list[Segment]:
        """Files that are no segments (the lock) are passed over; a folder that is missing holds none."""
        if not self._folder.is_dir():
            return []
        named = ((_SEGMENT.fullmatch(path.name), path) for path in self._folder.iterdir())
        return sorted((Segment(int(m[1]), path.stat().st_size) for m, path in named if m), key=lambda s: s.first)

    def lines(self, first: int) -> Iterator[bytes]:
        """Read as the file is now, in pieces."""
        with suppress(FileNotFoundError), (self._folder / segment_name(first)).open("rb") as file:
            yield from file

    def head(self) -> bytes | None:
        """None if the file is missing."""
        try:
            return self._head_path.read_bytes()
        except FileNotFoundError:
            return None


class FileDisk(Folder):
    """The writer's side. It holds a lock while it is open: one relay per ledger.

    A write stays on the event loop: it ends in the page cache. What waits for the device runs on two threads of this
    adapter, one for the records and one for the head, so that no record waits for a head.
    """

    def __init__(self, folder: Path, head_path: Path) -> None:
        """Make the folder (0700) if it is missing and take the lock. Raises Error `state_unusable`."""
        super().__init__(folder, head_path)
        self._current = -1
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Error(
                "state_unusable",
                f"the ledger's folder {folder} cannot be used: {error.strerror}",
                hint="the relay's user needs to own it and to be able to write there",
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise Error(
                "state_unusable",
                f"another relay writes the ledger in {folder}",
                hint="stop it first, or start this relay with a state folder of its own: --state DIR",
            ) from error
        self._records = ThreadPoolExecutor(1, thread_name_prefix="ledger-records")
        self._heads = ThreadPoolExecutor(1, thread_name_prefix="ledger-head")

    def append(self, data: bytes) -> None:
        """One `write`, unless the system takes less: then the rest says why, or follows."""
        while data:
            data = data[os.write(self._current, data) :]

    def truncate(self, size: int) -> None:
        """The next append goes to the new end."""
        os.ftruncate(self._current, size)

    async def sync(self) -> None:
        """`fdatasync` of the current segment."""
        await _run(self._records, lambda: os.fdatasync(self._current))

    async def rotate(self, first: int) -> None:
        """The segment so far is closed."""
        await _run(self._records, lambda: self._rotate(first))

    async def write_head(self, content: bytes) -> None:
        """Written beside it, synced, renamed."""
        await _run(self._heads, lambda: self._write_head(content))

    def close(self) -> None:
        """Wait for what is under way, close the files and give the lock back."""
        self._records.shutdown(wait=True)
        self._heads.shutdown(wait=True)
        if self._current >= 0:
            os.close(self._current)
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _rotate(self, first: int) -> None:
        path = self._folder / segment_name(first)
        fresh = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            _sync_folder(self._folder)
        except OSError:
            os.close(fresh)
            if not path.stat().st_size:
                path.unlink()  # the writer goes on in the segment before: an empty one after it would be out of place
            raise
        before, self._current = self._current, fresh
        if before >= 0:
            os.close(before)

    def _write_head(self, content: bytes) -> None:
        beside = self._head_path.with_name(self._head_path.name + ".new")
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._head_path)
        _sync_folder(self._head_path.parent)


async def _run(thread: ThreadPoolExecutor, work: Callable[[], None]) -> None:
    await asyncio.get_running_loop().run_in_executor(thread, work)


def _sync_folder(folder: Path) -> None:
    """A new name survives a loss of power only when its folder was synced."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
