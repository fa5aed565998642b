"""Uids: users that are nobody else's, each taken by one session of one worker of this machine at a time."""

from __future__ import annotations

import fcntl
import os
import struct
from contextlib import suppress
from pathlib import Path

LOCKS = Path("/run/arrowslit-uids.lock")  # empty, and only root may open it: byte N is locked while uid N is taken


class Uids:
    """Some users. The kernel gives back what a worker has taken when that ends, however it does."""

    def __init__(self, uids: range, locks: Path = LOCKS) -> None:
        self._uids = uids
        self._locks = locks
        self._taken: dict[int, int] = {}  # by uid the file that holds the lock

    def take(self, number: int) -> int | None:
        """One that is free, looked for from this number on; None if all are taken. Raises OSError."""
        for index in range(len(self._uids)):
            uid = self._uids[(number + index) % len(self._uids)]
            if uid not in self._taken and (lock := self._lock(uid)) is not None:
                self._taken[uid] = lock
                return uid
        return None

    def give_back(self, uid: int) -> None:
        """Its session has ended."""
        os.close(self._taken.pop(uid))

    def _lock(self, uid: int) -> int | None:
        file = os.open(self._locks, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with suppress(BlockingIOError):
            # A lock of the open file, and not of the process: two in one process keep each other out as well.
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, uid, 1, 0))
            return file
        os.close(file)
        return None
