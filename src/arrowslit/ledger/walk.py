"""Follow the chain through its files, line by line, and stop at the first record that is not what was written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from arrowslit.errors import Error
from arrowslit.ledger.chain import GENESIS, STOPPED, Fault, Link, Record, blame, check, hash_of, read
from arrowslit.ledger.disk import Segment, Stored, segment_name
from arrowslit.ledger.head import Head

HEAD_FILE = "ledger.head"


@dataclass(frozen=True, slots=True)
class Good:
    """A record that holds: in which segment, on which line (from 1), and where in the file it ends (bytes)."""

    link: Link
    segment: int
    line: int
    end: int


@dataclass(frozen=True, slots=True)
class Torn:
    """The end of the last segment is no whole line: `size` bytes from offset `at`."""

    segment: int
    at: int
    size: int


@dataclass(frozen=True, slots=True)
class Bad:
    """The first thing that is wrong. `seq` and `line` are None where it is the head; `line` where a file is missing."""

    seq: int | None
    reason: str
    file: str = HEAD_FILE
    line: int | None = None

    @property
    def sentence(self) -> str:
        """For a person: `record 7 of the ledger was changed … (00000000000000000001.jsonl, line 7)`."""
        what = "the head of the ledger" if self.seq is None else f"record {self.seq} of the ledger"
        where = self.file if self.line is None else f"{self.file}, line {self.line}"
        return f"{what} {self.reason} ({where})"

    def error(self) -> Error:
        """Error `ledger_broken`."""
        return Error(
            "ledger_broken",
            self.sentence,
            hint="somebody or something changed the files: keep the state folder as it is and look at it with: "
            "arrowslit ledger verify. To go on with a new chain, move the folder `ledger` and `ledger.head` elsewhere",
            seq=self.seq,
            file=self.file,
            line=self.line,
        )


Step = Good | Torn | Bad


def follow(stored: Stored, segments: Sequence[Segment], head: Head | None, seq: int = 1) -> Iterator[Step]:
    """Every record of these segments, which begin with record `seq`; at most one Torn or Bad, and then nothing more.

    The record that the head names must be there and be the one that was signed. In the middle of the chain the `prev`
    of the first record is taken as it stands.
    """
    prev = None if seq > 1 else GENESIS
    before: _Line | None = None
    lines = _lines(stored, segments)
    for line in lines:
        if line.number == 1 and line.segment.first != seq:
            yield Bad(seq, f"is missing: the next file begins with record {line.segment.first}", line.segment.name)
            return
        if not line.whole:
            yield _unfinished(line, seq, segments, head)
            return
        found = check(line.body, seq, prev)
        if isinstance(found, Fault):
            number, reason = blame(found, seq, vouched=_vouched(line, next(lines, None), head))
            place = before if before and number < seq else line
            yield Bad(number, reason, place.segment.name, place.number)
            return
        if head and seq == head.seq and found.hash != head.hash:
            yield Bad(seq, "is not the one that the head signed", line.segment.name, line.number)
            return
        yield Good(found, line.segment.first, line.number, line.end)
        seq, prev, before = seq + 1, found.hash, line
    yield from _missing(seq, segments, head)


def objection(head: Head, record: Record) -> Bad | None:
    """What a record after the head, written before the head was read, says against it: it is an older one put back."""
    if record.seq <= head.seq:
        return None
    if record.signed > head.seq:
        return Bad(None, f"covers {head.seq} records, but record {record.seq} was written when {record.signed} were")
    if record.kind == STOPPED and head.state == "open":
        return Bad(None, f"covers {head.seq} records, but the relay closed the ledger with record {record.seq}")
    if head.state == "closed" or (head.state == "closing" and record.kind != STOPPED):
        return Bad(record.seq, "was added after the relay had closed the ledger")
    return None


@dataclass(frozen=True, slots=True)
class _Line:
    """A line, or what there is of it; `end` is the offset behind it."""

    segment: Segment
    number: int
    end: int
    raw: bytes

    @property
    def whole(self) -> bool:
        return self.raw.endswith(b"\n")

    @property
    def body(self) -> bytes:
        return self.raw[:-1]


def _lines(stored: Stored, segments: Sequence[Segment]) -> Iterator[_Line]:
    for segment in segments:
        end = 0
        for number, raw in enumerate(stored.lines(segment.first), 1):
            end += len(raw)
            yield _Line(segment, number, end, raw)


def _vouched(line: _Line, following: _Line | None, head: Head | None) -> bool:
    """Whether the record after this line, or the head, carries this line's hash."""
    own = hash_of(line.body)
    record = read(following.body) if following else None
    return (record is not None and record.prev == own) or (head is not None and head.hash == own)


def _unfinished(line: _Line, seq: int, segments: Sequence[Segment], head: Head | None) -> Step:
    """A line without its end: power was lost while it was written, unless something says that it was whole."""
    if line.segment is not segments[-1] or (head and (head.seq >= seq or head.state == "closed")):
        return Bad(seq, "is incomplete", line.segment.name, line.number)
    return Torn(line.segment.first, line.end - len(line.raw), len(line.raw))


def _missing(seq: int, segments: Sequence[Segment], head: Head | None) -> Iterator[Bad]:
    """What the end of the files lacks, when `seq` would be the next record."""
    last = segments[-1].name if segments else segment_name(1)
    if head and head.seq >= seq:
        yield Bad(seq, f"is missing: the head covers {head.seq} records", last)
    elif segments and not segments[-1].size and segments[-1].first != seq:
        yield Bad(seq, "is missing: an empty file begins with another number", last)
