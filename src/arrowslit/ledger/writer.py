"""LedgerWriter: records on the way of a call. What is about to happen is written at once, what has happened with the
next write, at the end of the loop's tick at the latest; both are on disk soon after.

**When a write fails** (the disk is full) it is taken back, so that nothing of it is in the file, and:

- what has not happened yet does not happen: `asked`, and every other record, is refused with `ledger_unavailable`;
- what has happened is not forgotten: the `outcome` of an open call keeps its place in the chain, waits in memory (one
  for each open call at most), and is written before anything else as soon as a write succeeds. That is tried with every
  later append, and once a second. If the relay dies first, its next start finds the call open and says so.

If a write cannot be taken back, or a sync fails, nobody knows what is on disk. Then the writer is broken for good, and
every append says so, until a start has read the files.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from arrowslit.clock import Clock, rfc3339
from arrowslit.credential import Mac
from arrowslit.ledger.chain import OUTCOME, RECOVERED, STOPPED
from arrowslit.ledger.disk import Disk
from arrowslit.ledger.keeper import SEGMENT_BYTES, SYNC_AFTER, Keeper
from arrowslit.ledger.resume import Found, resume
from arrowslit.ledger.tail import Broken, Entry, Tail, unavailable
from arrowslit.outcome import Outcome
from arrowslit.record import Fields

Sync = Literal["soon", "always"]
"""When an append returns: once its write has left the process, or once it is on disk."""

RETRY_AFTER = 1.0  # seconds until a failed write is tried again without being asked

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Keys:
    """`signer` signs the heads; `digest` keys the fingerprints in records, so that nobody can try out what was sent."""

    signer: Ed25519PrivateKey
    digest: bytes


@asynccontextmanager
async def open_ledger(
    disk: Disk, keys: Keys, clock: Clock, *, sync: Sync = "soon", segment_bytes: int = SEGMENT_BYTES
) -> AsyncIterator[LedgerWriter]:
    """The one writer of the ledger on `disk`, closed in order when the block ends; the disk is left open.

    Reads first what is there. If the relay before this one died, a record says what was found, and each call that it
    left open gets the outcome `outcome_unknown`. Raises Error `ledger_broken` if the files are not what was written,
    `ledger_unavailable` if they cannot be written now.
    """
    found = resume(disk, keys.signer.public_key())
    writer = LedgerWriter(disk, keys, clock, found, sync, segment_bytes)
    await writer.start(found)
    try:
        yield writer
    finally:
        await writer.close()


class LedgerWriter:
    """The ports `Ledger` and `CallLedger` on a Disk. Made by `open_ledger`."""

    def __init__(self, disk: Disk, keys: Keys, clock: Clock, found: Found, sync: Sync, segment_bytes: int) -> None:
        self._disk, self._digest, self._clock, self._always = disk, Mac(keys.digest), clock, sync == "always"
        self._loop = asyncio.get_running_loop()
        self._tail = Tail(disk, found)
        self._keeper = Keeper(
            disk,
            self._tail,
            clock,
            keys.signer,
            delay=0.0 if self._always else SYNC_AFTER,
            segment_bytes=segment_bytes,
            on_disk=self._on_disk,
            on_failure=self._break,
        )
        self._refusal: str | None = None  # why no append is taken any more
        self._broken = False
        self._queue: list[Entry] = []  # sealed, and not written
        self._flush_due = False
        self._unsynced: deque[Entry] = deque()  # written, and waited for until on disk
        self._retry: asyncio.TimerHandle | None = None

    async def append(self, kind: str, fields: Fields) -> int:
        """As the port says; with `sync="always"`, once the record is on disk.

        An `outcome` of an open call is also taken while writing fails (see the top of this module). A caller that is
        cancelled takes back its waiting and not the record. Raises ValueError or TypeError for fields that are no JSON.
        """
        self._check_open()
        if self._always or self._keeper.held:
            return await self._wait(kind, fields)
        entry = self._seal(kind, fields)
        self._queue.append(entry)
        if entry in self._flush():
            raise unavailable(str(self._tail.failure))
        self._check_open()  # the write may have been what broke it
        return entry.seq

    def note(self, kind: str, fields: Fields) -> None:
        """As the port says. It costs no write of its own where another record follows in the same tick."""
        if self._refusal:
            _log.error("a record of what has happened is lost, the ledger takes none: %s %s", kind, self._refusal)
            return
        self._enqueue(self._seal(kind, fields))

    def _check_open(self) -> None:
        if self._refusal:
            raise unavailable(self._refusal)

    def digest(self, data: bytes) -> str:
        """The first 128 bits of HMAC-SHA256, in 32 hex digits."""
        return self._digest(data).hex()[:32]

    async def start(self, found: Found) -> None:
        """Go on where `found` ends: cut what is torn, sign what holds, record what the last relay left behind."""
        try:
            await self._disk.rotate(found.segment)
            if found.torn:
                self._disk.truncate(found.size)
            await self._keeper.sync()
            await self._keeper.sign()
            for entry in self._left_behind(found):
                if self._tail.write([entry]) or self._tail.kept:
                    raise unavailable(str(self._tail.failure))
            if self._tail.seq > found.seq:
                await self._keeper.sync()
        except (OSError, Broken) as error:
            raise unavailable(str(error)) from error
        self._keeper.start()

    async def close(self) -> None:
        """Write what waits, end the chain with `stopped`, sync and sign it. Appends are refused from here on."""
        self._refusal = self._refusal or "the relay is stopping"
        await self._keeper.stop()
        self._flush()
        if self._retry:
            self._retry.cancel()
        if self._broken:
            return
        try:
            await self._keeper.sync()
            await self._end_in_order()
        except (OSError, Broken) as error:
            self._break(str(error))

    async def _end_in_order(self) -> None:
        """Unless an outcome still waits for room: then the next start has to look, and the head stays open."""
        if self._tail.kept:
            return await self._keeper.sign()
        await self._keeper.sign("closing")
        if self._tail.write([self._seal(STOPPED, {})]):
            return await self._keeper.sign()
        await self._keeper.sync()
        return await self._keeper.sign("closed")

    def _left_behind(self, found: Found) -> Iterator[Entry]:
        if not found.stopped:
            yield self._seal(RECOVERED, {"bytes": found.torn, "newer": found.newer})
        reason = "relay_stopped" if found.stopped else "relay_died"
        for call, asked in found.open.items():
            outcome = {"asked": asked, "call": call, "outcome": Outcome.OUTCOME_UNKNOWN.value, "reason": reason}
            yield self._seal(OUTCOME, outcome)

    def _wait(self, kind: str, fields: Fields) -> asyncio.Future[int]:
        done: asyncio.Future[int] = self._loop.create_future()
        self._enqueue(self._seal(kind, fields, done))
        return done

    def _enqueue(self, entry: Entry) -> None:
        self._queue.append(entry)
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._end_tick)

    def _seal(self, kind: str, fields: Fields, done: asyncio.Future[int] | None = None) -> Entry:
        return self._tail.seal(kind, fields, rfc3339(self._clock.now()), done)

    def _end_tick(self) -> None:
        """Write what no other record of this tick has taken along."""
        self._flush_due = False
        self._flush()

    def _flush(self) -> list[Entry]:
        """One write for all that wait (two where some were kept from before). Returns those that are refused."""
        if not self._queue and not self._tail.kept:
            return []
        if self._keeper.held or self._broken:
            return []
        batch, self._queue = self._queue, []
        try:
            refused = self._tail.write(batch)
        except Broken as error:
            self._queue = batch
            self._break(str(error))
            return []
        if self._tail.failure:
            self._after_failure(refused, self._tail.failure)
            return refused
        self._keeper.written()
        if self._always:
            self._unsynced.extend(batch)
        else:
            _settle(batch)
        return []

    def _after_failure(self, refused: list[Entry], failure: OSError) -> None:
        _fail(refused, str(failure))
        _settle(self._tail.kept)
        self._retry_later()

    def _retry_later(self) -> None:
        if self._tail.kept and not self._retry:
            self._retry = self._loop.call_later(RETRY_AFTER, self._write_again)

    def _write_again(self) -> None:
        self._retry = None
        self._flush()
        self._retry_later()  # a new segment may hold writes back just now

    def _on_disk(self, seq: int) -> None:
        while self._unsynced and self._unsynced[0].seq <= seq:
            _settle([self._unsynced.popleft()])
        if self._queue:
            self._loop.call_soon(self._flush)

    def _break(self, reason: str) -> None:
        """From now on nothing is written; whoever waits is told."""
        _log.error("the ledger is broken until the next start (%s); outcomes lost: %d", reason, len(self._tail.kept))
        self._broken, self._refusal = True, reason
        self._tail.kept = []
        _fail([*self._queue, *self._unsynced], reason)
        self._queue, self._unsynced = [], deque()


def _settle(entries: Iterable[Entry]) -> None:
    for entry in entries:
        if entry.done and not entry.done.done():
            entry.done.set_result(entry.seq)


def _fail(entries: Iterable[Entry], reason: str) -> None:
    for entry in entries:
        if entry.done and not entry.done.done():
            entry.done.set_exception(unavailable(reason))
