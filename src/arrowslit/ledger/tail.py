"""Tail: the growing end of the chain; what is written, and what waits until writing works again. No waiting in here."""

from __future__ import annotations

import asyncio
import logging

import msgspec

from arrowslit.errors import Error
from arrowslit.ledger.chain import ASKED, OUTCOME, seal
from arrowslit.ledger.disk import Disk
from arrowslit.ledger.head import Head
from arrowslit.ledger.resume import Found
from arrowslit.record import Fields

_log = logging.getLogger(__name__)


class Broken(Exception):
    """A failed write could not be taken back: nobody knows what the file holds."""


class Entry(msgspec.Struct, eq=False):
    """A record on its way into the file: sealed in the place that it will have. Whoever waits for it holds `done`."""

    kind: str
    fields: Fields
    ts: str
    seq: int
    hash: str
    line: bytes
    done: asyncio.Future[int] | None

    @property
    def call(self) -> str | None:
        """The call that the record is about."""
        call = self.fields.get("call")
        return call if isinstance(call, str) else None


class _End(msgspec.Struct, frozen=True, gc=False):
    """A place to chain the next record to."""

    seq: int
    hash: str


class Tail:
    """Three ends: what is written, then what is kept in memory because it could not be, then what is sealed but new.

    `signed` is the last record that a head on disk covers; each record carries it. `size` is the length of the current
    segment in bytes. `kept` are the outcomes that wait.
    """

    def __init__(self, disk: Disk, found: Found) -> None:
        self.signed = found.seq
        self.size = found.size
        self.kept: list[Entry] = []
        self.failure: OSError | None = None
        self._disk = disk
        self._open = dict(found.open)
        self._written = self._end = _End(found.seq, found.hash)

    @property
    def seq(self) -> int:
        """The last record that is written."""
        return self._written.seq

    def seal(self, kind: str, fields: Fields, ts: str, done: asyncio.Future[int] | None = None) -> Entry:
        """The next record of the chain, not written yet. Raises ValueError or TypeError as `chain.seal` does."""
        seq = self._end.seq + 1
        line, digest = seal(kind, fields, seq=seq, prev=self._end.hash, signed=self.signed, ts=ts)
        self._end = _End(seq, digest)
        return Entry(kind, fields, ts, seq, digest, line, done)

    def write(self, entries: list[Entry]) -> list[Entry]:
        """Write what was kept, then these, which were sealed in this order; return those that are refused.

        Of what cannot be written, outcomes of open calls are kept, in places that stay theirs. Raises Broken.
        """
        try:
            if self.kept:
                self._put(self.kept)
                self.kept = []
            if entries:
                self._put(entries)
        except OSError as error:
            return self._refuse(entries, error)
        if self.failure:
            _log.warning("the ledger can be written again")
        self.failure = None
        return []

    def head(self, ts: str) -> Head:
        """The head over all that is written now."""
        oldest = next(iter(self._open.values()), self.seq + 1)  # calls are kept in the order of their records
        return Head(self.seq, self._written.hash, ts, oldest)

    def _put(self, entries: list[Entry]) -> None:
        data = b"\n".join([*(entry.line for entry in entries), b""])
        try:
            self._disk.append(data)
        except OSError as error:
            self._take_back(error)
            raise
        self.size += len(data)
        self._written = _End(entries[-1].seq, entries[-1].hash)
        for entry in entries:
            if entry.kind == ASKED and (call := entry.call) is not None:
                self._open.setdefault(call, entry.seq)
            elif entry.kind == OUTCOME and (call := entry.call) is not None:
                self._open.pop(call, None)

    def _seal_again(self, entry: Entry) -> None:
        """In the next place: those before it are given up."""
        other = self.seal(entry.kind, entry.fields, entry.ts)
        entry.seq, entry.hash, entry.line = other.seq, other.hash, other.line

    def _take_back(self, error: OSError) -> None:
        try:
            self._disk.truncate(self.size)
        except OSError as second:
            raise Broken(f"{error.strerror}; and taking the write back: {second.strerror}") from second

    def _refuse(self, entries: list[Entry], error: OSError) -> list[Entry]:
        if not self.failure:
            _log.error("the ledger cannot be written, calls are refused: %s", error.strerror)
        self.failure = error
        last = self.kept[-1] if self.kept else None
        self._end = _End(last.seq, last.hash) if last else self._written
        waiting = {entry.call for entry in self.kept}
        refused = []
        for entry in entries:
            if entry.kind == OUTCOME and entry.call in self._open and entry.call not in waiting:
                waiting.add(entry.call)
                self._seal_again(entry)
                self.kept.append(entry)
            else:
                refused.append(entry)
        return refused


def unavailable(reason: str) -> Error:
    """Error `ledger_unavailable`: what cannot be recorded does not happen."""
    return Error(
        "ledger_unavailable",
        f"the ledger cannot be written: {reason}",
        hint="nothing was executed; once the relay's state folder can be written again, ask again",
    )
