"""Verify: read a whole ledger and say whether it is what the relay wrote; the relay may be stopped, or running."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from arrowslit.ledger.disk import Folder, Segment, Stored
from arrowslit.ledger.head import Head, read_head
from arrowslit.ledger.walk import Bad, Good, Torn, follow, objection

_TRIES = 3  # a relay that runs may move the head, or take back a failed write, while it is read


@dataclass(frozen=True, slots=True)
class Report:
    """What was found.

    `records` hold, counted from the first up to the first bad one. `first_bad` is None if all is well. `head` is the
    last record that the signed head covers (None: there is no valid head). `newer` records came after it: their order
    is chained, but nobody signed it yet, so a change at the very end would not show. `torn` bytes at the end are no
    whole line: the relay is writing it, or was killed while it did.
    """

    records: int
    first_bad: Bad | None
    head: int | None
    newer: int
    torn: int

    @property
    def ok(self) -> bool:
        """Whether every record is in its place."""
        return self.first_bad is None


def verify(folder: Path, head_path: Path, key: Ed25519PublicKey) -> Report:
    """Read the segments in `folder` against the head, which must be signed with `key`. Changes nothing."""
    return audit(Folder(folder, head_path), key)


def audit(stored: Stored, key: Ed25519PublicKey) -> Report:
    """The same for any place that a ledger is stored in."""
    for _ in range(_TRIES):
        content = stored.head()
        report = _read_all(stored, key)
        if report.ok or content == stored.head():
            return report
    return _read_all(stored, key)


def _read_all(stored: Stored, key: Ed25519PublicKey) -> Report:
    """One pass. Whatever was there before the head was read cannot know of a later head; what comes after may."""
    before = stored.segments()
    head, wrong_head = _head(stored, key)
    covered = head.seq if head else 0
    records = newer = torn = 0
    bad: Bad | None = None
    for step in follow(stored, stored.segments(), head):
        match step:
            case Torn(size=torn):
                pass
            case Bad():
                bad = step
            case Good(link=link):
                if link.record.seq > covered and not _was_there(step, before):
                    break
                bad = objection(head, link.record) if head else None
                records += bad is None
                newer += bad is None and link.record.seq > covered
        if bad:
            break
    return Report(records, bad or wrong_head, head.seq if head else None, newer, torn)


def _head(stored: Stored, key: Ed25519PublicKey) -> tuple[Head | None, Bad | None]:
    content = stored.head()
    if content is None:
        return None, Bad(None, "is missing")
    head = read_head(content, key)
    return (head, None) if isinstance(head, Head) else (None, Bad(None, head.reason))


def _was_there(step: Good, before: Sequence[Segment]) -> bool:
    return bool(before) and (step.segment, step.end) <= (before[-1].first, before[-1].size)
