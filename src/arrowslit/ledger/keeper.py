"""Keeper: brings what was written onto the device, signs how far that is, begins new segments; all beside the calls."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from arrowslit.clock import Clock, rfc3339
from arrowslit.ledger.disk import Disk
from arrowslit.ledger.head import Head, State, sign_head
from arrowslit.ledger.tail import Tail

SYNC_AFTER = 0.025  # seconds from a write to its sync: half of the 50 ms that P12 promises, the rest is for the device
HEAD_EVERY = 0.05  # seconds between two heads: each costs a signature and two syncs
SEGMENT_BYTES = 16 * 1024 * 1024  # some 50,000 records: a start reads one or two segments, in about a second

_log = logging.getLogger(__name__)


class Keeper:
    """Two loops: one syncs, one signs. They run from `start` to `stop` and wait on the clock or for a write.

    While `held`, nothing may be written. `on_disk` is called with the last record that is on disk, also when writing
    may go on. `on_failure` is called once, when a sync has failed: what is on disk is unknown then, and the next sync
    would say that all is well.
    """

    def __init__(
        self,
        disk: Disk,
        tail: Tail,
        clock: Clock,
        signer: Ed25519PrivateKey,
        *,
        delay: float,
        segment_bytes: int,
        on_disk: Callable[[int], None],
        on_failure: Callable[[str], None],
    ) -> None:
        self.held = False
        self._disk, self._tail, self._clock, self._signer = disk, tail, clock, signer
        self._delay, self._segment_bytes = delay, segment_bytes
        self._on_disk, self._on_failure = on_disk, on_failure
        self._written, self._written_at = asyncio.Event(), 0.0
        self._synced, self._head = asyncio.Event(), Head()
        self._syncing, self._signing = asyncio.Lock(), asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []

    def written(self) -> None:
        """Something was appended: have it on disk in time."""
        if not self._written.is_set():
            self._written_at = self._clock.monotonic()
            self._written.set()

    def start(self) -> None:
        """Run until `stop`."""
        self._tasks = [asyncio.create_task(self._run(loop)) for loop in (self._sync_on, self._sign_on)]

    async def stop(self) -> None:
        """Let what is under way end, then end both loops."""
        async with self._syncing, self._signing:
            for task in self._tasks:
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def sync(self) -> None:
        """Sync now what is written by now. Raises OSError."""
        self._written.clear()
        head = self._tail.head(rfc3339(self._clock.now()))
        await self._disk.sync()
        self._head = head
        self._synced.set()
        self._on_disk(head.seq)

    async def sign(self, state: State = "open") -> None:
        """Put the head over what is synced in place of the one before. Raises OSError."""
        self._synced.clear()
        head = replace(self._head, state=state)
        await self._disk.write_head(sign_head(head, self._signer))
        self._tail.signed = head.seq

    async def _run(self, loop: Callable[[], Awaitable[None]]) -> None:
        try:
            await loop()
        except Exception as error:
            _log.exception("the ledger cannot be kept on disk")
            self._on_failure(str(error))

    async def _sync_on(self) -> None:
        while True:
            await self._written.wait()
            await self._clock.sleep(max(0.0, self._written_at + self._delay - self._clock.monotonic()))
            async with self._syncing:
                await self.sync()
                if self._tail.size >= self._segment_bytes:
                    await self._begin_segment()

    async def _begin_segment(self) -> None:
        """Writes wait meanwhile, so that a segment is on disk before the next one exists."""
        self.held = True
        try:
            await self.sync()
            await self._rotate()
        finally:
            self.held = False
        self._on_disk(self._tail.seq)

    async def _rotate(self) -> None:
        try:
            await self._disk.rotate(self._tail.seq + 1)
        except OSError as error:
            _log.warning("the ledger goes on in a file that is full: a new one cannot be made: %s", error)
        else:
            self._tail.size = 0

    async def _sign_on(self) -> None:
        failing = False
        while True:
            await self._synced.wait()
            try:
                async with self._signing:
                    await self.sign()
                failing = False
            except OSError as error:
                if not failing:
                    _log.error("the head of the ledger cannot be written: %s", error)
                failing = True
                self._synced.set()
            await self._clock.sleep(HEAD_EVERY)
