"""Resume: what a start finds in the ledger, and whether it may go on from there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from arrowslit.ledger.chain import ASKED, GENESIS, OUTCOME, STOPPED, Record
from arrowslit.ledger.disk import Segment, Stored, segment_name
from arrowslit.ledger.head import Head, read_head
from arrowslit.ledger.walk import Bad, Good, Torn, follow, objection


@dataclass(frozen=True, slots=True)
class Found:
    """Where the chain ends and what its last writer left behind.

    `segment` is the first record of the last segment and `size` how many of its bytes are whole lines; `torn` bytes
    follow them. `newer` records came after the last head. `open` maps each call without an outcome to its record.
    `stopped` says that the writer closed the ledger in order, or that there was none yet.
    """

    seq: int = 0
    hash: str = GENESIS
    segment: int = 1
    size: int = 0
    torn: int = 0
    newer: int = 0
    open: Mapping[str, int] = field(default_factory=dict)
    stopped: bool = True


def resume(stored: Stored, key: Ed25519PublicKey) -> Found:
    """Read from the oldest open call, or the head, to the end; older records are left to `verify`.

    Raises Error `ledger_broken` with the first record that does not hold, or if the head does not. Where the relay was
    killed, records after the head are taken if they hold. Changes nothing.
    """
    segments = stored.segments()
    content = stored.head()
    if content is None:
        if any(segment.size for segment in segments):
            raise Bad(None, "is missing").error()
        return Found()
    head = read_head(content, key)
    if not isinstance(head, Head):
        raise Bad(None, head.reason).error()
    return _read(stored, _recent(segments, head), head)


def _recent(segments: Sequence[Segment], head: Head) -> Sequence[Segment]:
    """The segments from the one on that holds the oldest record still needed. Raises Error `ledger_broken`."""
    needed = min(head.open_from, max(head.seq, 1))
    begin = sum(segment.first <= needed for segment in segments) - 1
    if begin < 0 < head.seq:
        raise Bad(needed, "is missing, and the file that held it", segment_name(needed)).error()
    return segments[max(begin, 0) :]


def _read(stored: Stored, segments: Sequence[Segment], head: Head) -> Found:
    seq, digest, size, torn = head.seq, head.hash, 0, 0
    open_calls: dict[str, int] = {}
    stopped = head.state == "closed"
    last = segments[-1].first if segments else head.seq + 1
    for step in follow(stored, segments, head, segments[0].first if segments and head.seq else 1):
        match step:
            case Bad():
                raise step.error()
            case Torn(size=torn):
                pass
            case Good(link=link):
                if bad := objection(head, link.record):
                    raise bad.error()
                seq, digest = link.record.seq, link.hash
                size = step.end if step.segment == last else 0
                stopped = stopped or (seq > head.seq and link.record.kind == STOPPED)
                _note(open_calls, link.record)
    return Found(seq, digest, last, size, torn, seq - head.seq, open_calls, stopped)


def _note(open_calls: dict[str, int], record: Record) -> None:
    """Keep `open_calls` as this record leaves it."""
    if not isinstance(record.call, str):
        return
    if record.kind == ASKED:
        open_calls.setdefault(record.call, record.seq)
    elif record.kind == OUTCOME:
        open_calls.pop(record.call, None)
