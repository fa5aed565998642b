"""MemoryDisk: the ledger's disk without files, threads or time of its own; it can be full, fail, and lose its power."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Self

from arrowslit.clock import Clock
from arrowslit.ledger.disk import Segment


@dataclass(slots=True)
class _File:
    """What was written, and how much of it survives a loss of power."""

    data: bytearray = field(default_factory=bytearray)
    synced: int = 0


@dataclass(slots=True)
class MemoryDisk:
    """Fulfils `ledger.disk.Disk`.

    `room` is how many bytes may still be appended (None: any number); an append past it writes what fits and fails.
    With `stuck` nothing can be taken back, with `bad` no sync succeeds. A sync takes `sync_takes` seconds of `clock`.
    `writes`, `syncs` and `heads` count.
    """

    clock: Clock | None = None
    sync_takes: float = 0.0
    room: int | None = None
    stuck: bool = False
    bad: bool = False
    writes: int = 0
    syncs: int = 0
    heads: int = 0
    _files: dict[int, _File] = field(default_factory=dict)
    _current: int = 0
    _head: bytes | None = None

    @classmethod
    def holding(cls, files: Mapping[int, bytes], head: bytes | None) -> Self:
        """A disk with these segments, by their first record, and this head; all of it synced."""
        return cls(_files={first: _File(bytearray(data), len(data)) for first, data in files.items()}, _head=head)

    def segments(self) -> list[Segment]:
        """In their order."""
        return [Segment(first, len(self._files[first].data)) for first in sorted(self._files)]

    def lines(self, first: int) -> Iterator[bytes]:
        """As the file is now."""
        file = self._files.get(first)
        yield from BytesIO(bytes(file.data) if file else b"")

    def head(self) -> bytes | None:
        """The last one that was written."""
        return self._head

    def append(self, data: bytes) -> None:
        """Write all of it, or what there is room for."""
        self.writes += 1
        fits = len(data) if self.room is None else min(self.room, len(data))
        self._files[self._current].data += data[:fits]
        if self.room is not None:
            self.room -= fits
        if fits < len(data):
            raise OSError(errno.ENOSPC, "No space left on device")

    def truncate(self, size: int) -> None:
        """Give the room back."""
        if self.stuck:
            raise OSError(errno.EIO, "Input/output error")
        file = self._files[self._current]
        if self.room is not None:
            self.room += len(file.data) - size
        del file.data[size:]
        file.synced = min(file.synced, size)

    async def sync(self) -> None:
        """What was there when it began is safe when it ends."""
        self.syncs += 1
        file = self._files[self._current]
        size = len(file.data)
        await self._wait()
        if self.bad:
            raise OSError(errno.EIO, "Input/output error")
        file.synced = max(file.synced, min(size, len(file.data)))

    async def rotate(self, first: int) -> None:
        """A new file is there at once."""
        self._files.setdefault(first, _File())
        self._current = first

    async def write_head(self, content: bytes) -> None:
        """Replaced when the time of a sync has passed."""
        await self._wait()
        if self.room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.heads += 1
        self._head = content

    def after_kill(self) -> MemoryDisk:
        """The disk that the next process finds: all that was written."""
        return self.holding({first: bytes(file.data) for first, file in self._files.items()}, self._head)

    def after_power_loss(self, keep: int = 0) -> MemoryDisk:
        """The disk that the next boot finds: what was synced, and of the rest the first `keep` bytes."""
        files = {first: bytes(file.data[: file.synced + keep]) for first, file in self._files.items()}
        return self.holding(files, self._head)

    async def _wait(self) -> None:
        if self.clock and self.sync_takes:
            await self.clock.sleep(self.sync_takes)
