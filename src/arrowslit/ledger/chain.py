"""One record of the chain, without I/O: seal it into a line, read a line back, and say what is wrong with it.

A record is one line of canonical JSON: sorted keys, no spaces, and everything but printable ASCII escaped, as Python's
own `json.dumps` does it (and U+007F). Its hash is the SHA-256 of the line without its newline, and the next record
carries it as `prev`: who changes a line breaks the link after it. So a record is one line whatever its strings hold,
and steers no terminal that it is shown on.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

GENESIS = "0" * 64
"""`prev` of the first record."""

ASKED = "asked"  # a call is about to leave; opens it
OUTCOME = "outcome"  # how a call ended; closes it
RECOVERED = "recovered"  # the relay before this one died; what was found
STOPPED = "stopped"  # the relay closed its ledger in order

RESERVED = frozenset({"kind", "prev", "seq", "signed", "ts"})
"""Names that a record has of itself, and no field may take."""


class Record(msgspec.Struct, frozen=True, gc=False):
    """What the chain itself knows of a record; its other fields are the business of whoever wrote them.

    `seq` counts from 1. `signed` is the last record that a head on disk covered when this one was sealed: a head that
    covers less than some record says is an older one put back. `ts` is RFC 3339. `call` and `outcome` pair records.
    """

    kind: str
    prev: str
    seq: int
    signed: int
    ts: str
    call: object = None


@dataclass(frozen=True, slots=True)
class Link:
    """A record in its place: it carries the number and the `prev` that were expected there."""

    record: Record
    hash: str


@dataclass(frozen=True, slots=True)
class Fault:
    """A line that is not what belongs in its place: the number it claims (None if it cannot be read), and why."""

    claims: int | None
    reason: str


_encode = msgspec.json.Encoder(order="sorted").encode  # which escapes what is below U+0020
_UNPLAIN = re.compile(r"[^\x00-\x7e]+")
_decode = msgspec.json.Decoder(Record).decode


def seal(
    kind: str, fields: Mapping[str, object], *, seq: int, prev: str, signed: int = 0, ts: str = ""
) -> tuple[bytes, str]:
    """The line of a record, without newline, and its hash (64 hex digits).

    Raises ValueError if a field has a reserved name or a string cannot be UTF-8, TypeError if a value is not JSON.
    """
    record = {**fields, "kind": kind, "prev": prev, "seq": seq, "signed": signed, "ts": ts}
    if len(record) != len(fields) + len(RESERVED):
        raise ValueError(f"a field has a name of the ledger's own: {sorted(RESERVED.intersection(fields))}")
    line = _encode(record)
    if not line.isascii() or b"\x7f" in line:
        line = _in_printable_ascii(line)
    return line, hash_of(line)


def _in_printable_ascii(line: bytes) -> bytes:
    """JSON of the same value."""
    return _UNPLAIN.sub(_escaped, line.decode()).encode()


def _escaped(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be").hex()  # RFC 8259, 7: what is beyond U+FFFF as two
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def hash_of(line: bytes) -> str:
    """SHA-256 of a line without its newline, in hex."""
    digest = _SHA256.copy()  # which is faster than to ask OpenSSL each time what SHA-256 is
    digest.update(line)
    return digest.hexdigest()


_SHA256 = hashlib.sha256()


def read(line: bytes) -> Record | None:
    """The record in a line; None if it holds none."""
    try:
        return _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def check(line: bytes, seq: int, prev: str | None) -> Link | Fault:
    """Whether `line` is the record number `seq` that follows the one with the hash `prev` (None: whatever it says)."""
    record = read(line)
    if record is None:
        return Fault(None, "cannot be read")
    if record.seq > seq:
        return Fault(record.seq, f"is missing: record {record.seq} stands in its place")
    if record.seq < seq:
        return Fault(record.seq, f"is not in its place: record {record.seq} stands there again")
    if prev is not None and record.prev != prev:
        return Fault(record.seq, "does not follow from the record before it")
    return Link(record, hash_of(line))


def blame(fault: Fault, seq: int, *, vouched: bool) -> tuple[int, str]:
    """The number and the fault of the first bad record, when `fault` was found where record `seq` was expected.

    A change shows one line later, where the next `prev` no longer fits. `vouched` says that the record after this line,
    or the head, carries this line's hash: then the line is as it was written and the one before it is the changed one.
    """
    if vouched and fault.claims == seq and seq > 1:
        return seq - 1, "was changed: the record after it was chained to another"
    if vouched and fault.claims == seq - 1:
        return seq - 1, "stands here twice"
    return seq, fault.reason
