"""Every way to tamper with a ledger, at every place; `killed` is a relay that died between a write and a head."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from arrowslit.errors import Error
from arrowslit.ledger.chain import hash_of, seal
from arrowslit.ledger.disk import Folder, Segment
from arrowslit.ledger.resume import resume
from arrowslit.ledger.verify import Report, audit, verify
from arrowslit.testing.disk import MemoryDisk
from tests.ledger.scene import PUBLIC, TS, chain, head_at, lay

STARTS = (1, 9, 17)  # the first records of the three segments
LAST = 20
HEAD = 15  # of the relay that was killed

Lines = dict[int, list[bytes]]
Tamper = Callable[[Lines, int], None]


def cut(lines: list[bytes]) -> Lines:
    ends = (*STARTS[1:], len(lines) + 1)
    return {first: lines[first - 1 : end - 1] for first, end in zip(STARTS, ends, strict=True)}


def stopped() -> tuple[Lines, bytes]:
    lines = chain(LAST, stopped=True)
    return cut(lines), head_at(lines, LAST, "closed")


def killed() -> tuple[Lines, bytes]:
    lines = chain(LAST, signed=[min(max(0, seq - 3), HEAD) for seq in range(1, LAST + 1)])
    return cut(lines), head_at(lines, HEAD)


def look(state: Path) -> Report:
    return verify(state / "ledger", state / "ledger.head", PUBLIC)


def home(seq: int) -> tuple[int, int]:
    """The segment of a record, and its index there."""
    first = max(start for start in STARTS if start <= seq)
    return first, seq - first


def rewritten(line: bytes, **change: object) -> bytes:
    return json.dumps(json.loads(line) | change, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def edit(lines: Lines, seq: int) -> None:
    first, at = home(seq)
    lines[first][at] = rewritten(lines[first][at], tool="drop_tables")


def edit_prev(lines: Lines, seq: int) -> None:
    first, at = home(seq)
    lines[first][at] = rewritten(lines[first][at], prev="e" * 64)


def edit_number(lines: Lines, seq: int) -> None:
    first, at = home(seq)
    lines[first][at] = rewritten(lines[first][at], seq=seq + 100)


def edit_space(lines: Lines, seq: int) -> None:
    first, at = home(seq)
    lines[first][at] = lines[first][at].replace(b":", b": ", 1)


def garble(lines: Lines, seq: int) -> None:
    first, at = home(seq)
    lines[first][at] = b"\x1b[2Jnot a record\n"


def blank(lines: Lines, seq: int) -> None:
    first, at = home(seq)
    lines[first].insert(at, b"\n")


def delete(lines: Lines, seq: int) -> None:
    first, at = home(seq)
    del lines[first][at]


def insert_copy(lines: Lines, seq: int) -> None:
    first, at = home(seq)
    lines[first].insert(at, lines[first][at])


def insert_forged(lines: Lines, seq: int) -> None:
    """A record that follows from the one before it as it should."""
    first, at = home(seq)
    here = json.loads(lines[first][at])
    forged, _ = seal("outcome", {"call": "call_9"}, seq=seq, prev=here["prev"], signed=here["signed"], ts=TS)
    lines[first].insert(at, forged + b"\n")


def swap(lines: Lines, seq: int) -> None:
    (first, at), (second, there) = home(seq), home(seq + 1)
    lines[first][at], lines[second][there] = lines[second][there], lines[first][at]


def swap_renumbered(lines: Lines, seq: int) -> None:
    (first, at), (second, there) = home(seq), home(seq + 1)
    one, two = lines[first][at], lines[second][there]
    lines[first][at], lines[second][there] = rewritten(two, seq=seq), rewritten(one, seq=seq + 1)


CHANGES: list[Tamper] = [edit, edit_prev, edit_number, edit_space, garble, blank, delete, insert_copy, insert_forged]
SWAPS: list[Tamper] = [swap, swap_renumbered]
PLACES = [1, 2, 8, 9, 12, LAST - 1]  # first, second, both sides of a segment's border, middle, last but one


@pytest.mark.promise("P12")
@pytest.mark.parametrize("seq", [*PLACES, LAST])
@pytest.mark.parametrize("tamper", CHANGES)
def test_every_change_on_a_stopped_relay_is_found_and_named(tmp_path: Path, tamper: Tamper, seq: int) -> None:
    lines, head = stopped()
    tamper(lines, seq)
    lay(tmp_path, lines, head)

    report = look(tmp_path)

    assert report.first_bad
    assert report.first_bad.seq == seq


@pytest.mark.promise("P12")
@pytest.mark.parametrize("seq", PLACES)
@pytest.mark.parametrize("tamper", SWAPS)
def test_every_swap_on_a_stopped_relay_is_found_and_named(tmp_path: Path, tamper: Tamper, seq: int) -> None:
    lines, head = stopped()
    tamper(lines, seq)
    lay(tmp_path, lines, head)

    report = look(tmp_path)

    assert report.first_bad
    assert report.first_bad.seq == seq


@pytest.mark.promise("P12")
@pytest.mark.parametrize("seq", [1, 8, 12, HEAD - 1, HEAD, HEAD + 1, HEAD + 2])
@pytest.mark.parametrize("tamper", [*CHANGES, *SWAPS])
def test_after_a_kill_changes_are_found_on_both_sides_of_the_head(tmp_path: Path, tamper: Tamper, seq: int) -> None:
    lines, head = killed()
    tamper(lines, seq)
    lay(tmp_path, lines, head)

    report = look(tmp_path)

    assert report.first_bad
    assert report.first_bad.seq == seq


def test_after_a_kill_the_very_end_is_not_signed_and_the_report_says_so(tmp_path: Path) -> None:
    lines, head = killed()
    delete(lines, LAST)
    lay(tmp_path, lines, head)

    assert look(tmp_path) == Report(records=LAST - 1, first_bad=None, head=HEAD, newer=LAST - 1 - HEAD, torn=0)


@pytest.mark.parametrize("state", [stopped, killed])
def test_an_untouched_ledger_is_well(tmp_path: Path, state: Callable[[], tuple[Lines, bytes]]) -> None:
    lines, head = state()
    lay(tmp_path, lines, head)

    covered = LAST if state is stopped else HEAD
    assert look(tmp_path) == Report(records=LAST, first_bad=None, head=covered, newer=LAST - covered, torn=0)


@pytest.mark.promise("P12")
@pytest.mark.parametrize(("gone", "bad"), [((1,), 1), ((9,), 9), ((17,), 17), ((9, 17), 9), ((1, 9, 17), 1)])
@pytest.mark.parametrize("state", [stopped, killed])
def test_a_segment_that_is_missing_is_found(
    tmp_path: Path, state: Callable[[], tuple[Lines, bytes]], gone: tuple[int, ...], bad: int
) -> None:
    lines, head = state()
    lay(tmp_path, {first: kept for first, kept in lines.items() if first not in gone}, head)

    report = look(tmp_path)

    if state is killed and gone == (17,):
        assert report.ok  # all of it was newer than the head
    else:
        assert report.first_bad
        assert report.first_bad.seq == bad


@pytest.mark.promise("P12")
def test_a_ledger_that_is_gone_altogether_is_found(tmp_path: Path) -> None:
    _, head = stopped()
    (tmp_path / "ledger.head").write_bytes(head)

    bad = look(tmp_path).first_bad

    assert bad
    assert bad.seq == 1


@pytest.mark.promise("P12")
def test_a_record_added_to_a_closed_ledger_is_found(tmp_path: Path) -> None:
    lines, head = stopped()
    last = hash_of(lines[17][-1].removesuffix(b"\n"))
    added, _ = seal("asked", {"call": "call_9"}, seq=LAST + 1, prev=last, signed=LAST, ts=TS)
    lines[17].append(added + b"\n")
    lay(tmp_path, lines, head)

    bad = look(tmp_path).first_bad

    assert bad
    assert bad.seq == LAST + 1


HEADS: list[tuple[str, Callable[[list[bytes]], bytes | None], str]] = [
    ("removed", lambda lines: None, "is missing"),
    ("emptied", lambda lines: b"", "cannot be read"),
    ("edited", lambda lines: head_at(lines, LAST).replace(b'"seq":20', b'"seq":19'), "signature that does not fit"),
    ("of another key", lambda lines: head_at(lines, LAST, signer=Ed25519PrivateKey.generate()), "another key"),
    ("older", lambda lines: head_at(lines, 7), "covers 7 records, but record 11 was written when 8 were"),
    ("the last but one", lambda lines: head_at(lines, LAST - 1), "the relay closed the ledger with record 20"),
    ("the very first", lambda lines: head_at(lines, 0), "covers 0 records, but record 4 was written when 1 were"),
]


@pytest.mark.promise("P12")
@pytest.mark.parametrize(("head", "reason"), [row[1:] for row in HEADS], ids=[row[0] for row in HEADS])
def test_another_head_on_a_stopped_relay_is_found(
    tmp_path: Path, head: Callable[[list[bytes]], bytes | None], reason: str
) -> None:
    lines = chain(LAST, stopped=True)
    lay(tmp_path, cut(lines), head(lines))

    bad = look(tmp_path).first_bad

    assert bad
    assert (bad.seq, bad.file) == (None, "ledger.head")
    assert reason in bad.sentence


@pytest.mark.promise("P12")
@pytest.mark.parametrize("seq", [1, 12, LAST])
def test_a_bad_record_is_named_even_if_the_head_is_gone(tmp_path: Path, seq: int) -> None:
    lines, _ = stopped()
    garble(lines, seq)
    lay(tmp_path, lines, None)

    bad = look(tmp_path).first_bad

    assert bad
    assert bad.seq == seq


@pytest.mark.promise("P12")
def test_an_older_head_is_found_after_a_kill_too(tmp_path: Path) -> None:
    lines, _ = killed()
    lay(tmp_path, lines, head_at([line for part in lines.values() for line in part], 8))

    bad = look(tmp_path).first_bad

    assert bad
    assert bad.file == "ledger.head"


def test_a_chain_made_anew_from_a_changed_record_does_not_reach_the_head(tmp_path: Path) -> None:
    """Whoever has no key cannot repair what he broke."""
    _, head = stopped()
    lines = chain(LAST - 1)
    last, _ = seal("stopped", {"forged": True}, seq=LAST, prev=hash_of(lines[-1][:-1]), ts=TS)
    lay(tmp_path, cut([*lines, last + b"\n"]), head)

    bad = look(tmp_path).first_bad

    assert bad
    assert (bad.seq, bad.reason) == (LAST, "is not the one that the head signed")


def test_the_place_of_the_first_bad_record_is_named(tmp_path: Path) -> None:
    lines, head = stopped()
    edit(lines, 8)  # shows at record 9, in the next file
    lay(tmp_path, lines, head)

    bad = look(tmp_path).first_bad

    assert bad
    assert (bad.seq, bad.file, bad.line) == (8, "00000000000000000001.jsonl", 8)
    assert re.fullmatch(r"record 8 of the ledger was changed: .* \(0{19}1\.jsonl, line 8\)", bad.sentence)


def test_a_line_that_is_being_written_is_not_a_fault(tmp_path: Path) -> None:
    lines, head = killed()
    lines[17].append(b'{"call":"call_9","ki')
    lay(tmp_path, lines, head)

    report = look(tmp_path)

    assert report.ok
    assert (report.records, report.torn) == (LAST, 20)


@pytest.mark.promise("P12")
@pytest.mark.parametrize("seq", [8, LAST])
def test_a_signed_record_without_its_end_is_a_fault(tmp_path: Path, seq: int) -> None:
    lines, head = stopped()
    first, at = home(seq)
    lines[first][at] = lines[first][at][:-1]
    lay(tmp_path, lines, head)

    bad = look(tmp_path).first_bad

    assert bad
    assert (bad.seq, bad.reason) == (seq, "is incomplete")


@pytest.mark.promise("P12")
@given(st.integers(1, LAST), st.data())
def test_no_byte_of_a_signed_record_can_be_changed(seq: int, data: st.DataObject) -> None:
    lines, head = stopped()
    first, at = home(seq)
    line = bytearray(lines[first][at])
    place = data.draw(st.integers(0, len(line) - 1))
    line[place] = data.draw(st.integers(0, 255).filter(lambda byte: byte != line[place]))
    lines[first][at] = bytes(line)

    disk = MemoryDisk.holding({first: b"".join(kept) for first, kept in lines.items()}, head)
    bad = audit(disk, PUBLIC).first_bad

    assert bad
    assert bad.seq == seq


@pytest.mark.promise("P12")
@pytest.mark.parametrize("tamper", [*CHANGES, *SWAPS])
@pytest.mark.parametrize("seq", [12, HEAD, HEAD + 1])
def test_a_start_refuses_a_ledger_that_was_changed_where_it_reads(tmp_path: Path, tamper: Tamper, seq: int) -> None:
    lines, head = killed()
    tamper(lines, seq)
    lay(tmp_path, lines, head)

    with pytest.raises(Error) as refused:
        resume(Folder(tmp_path / "ledger", tmp_path / "ledger.head"), PUBLIC)

    assert refused.value.code == "ledger_broken"
    assert refused.value.details["seq"] == seq
    assert "arrowslit ledger verify" in (refused.value.hint or "")


@pytest.mark.promise("P12")
@pytest.mark.parametrize(("gone", "bad"), [((9,), 9), ((1, 9), HEAD), ((1, 9, 17), HEAD)])
def test_a_start_refuses_a_ledger_without_the_segment_of_its_head(
    tmp_path: Path, gone: tuple[int, ...], bad: int
) -> None:
    lines, head = killed()
    lay(tmp_path, {first: kept for first, kept in lines.items() if first not in gone}, head)

    with pytest.raises(Error, match="ledger_broken") as refused:
        resume(Folder(tmp_path / "ledger", tmp_path / "ledger.head"), PUBLIC)

    assert refused.value.details["seq"] == bad


@pytest.mark.promise("P12")
@pytest.mark.parametrize("first", [5, LAST, LAST + 2])
def test_an_empty_file_that_begins_nowhere_is_found(tmp_path: Path, first: int) -> None:
    """A writer would go on in it."""
    lines, head = killed()
    lay(tmp_path, lines | {first: []}, head)

    report = look(tmp_path)

    assert report.ok == (first == 5)  # between others it changes nothing
    if report.first_bad:
        assert report.first_bad.seq == LAST + 1


class Growing(MemoryDisk):
    """A ledger whose relay writes many records, and heads over them, right after its segments were counted."""

    later: MemoryDisk

    def segments(self) -> list[Segment]:
        counted = MemoryDisk.segments(self)
        self._files = self.later._files
        return counted


def test_a_relay_that_writes_on_while_it_is_read_is_not_at_fault() -> None:
    lines = chain(LAST)
    growing = Growing.holding({1: b"".join(lines[:10])}, head_at(lines, 8))
    growing.later = MemoryDisk.holding({1: b"".join(lines[:14]), 15: b"".join(lines[14:])}, head_at(lines, 17))

    assert audit(growing, PUBLIC) == Report(records=10, first_bad=None, head=8, newer=2, torn=0)


@pytest.mark.promise("P12")
@pytest.mark.parametrize("head", [row[1] for row in HEADS], ids=[row[0] for row in HEADS])
def test_a_start_refuses_another_head(tmp_path: Path, head: Callable[[list[bytes]], bytes | None]) -> None:
    lines = chain(LAST, stopped=True)
    lay(tmp_path, cut(lines), head(lines))

    with pytest.raises(Error, match="the head of the ledger"):
        resume(Folder(tmp_path / "ledger", tmp_path / "ledger.head"), PUBLIC)


def test_a_relay_killed_between_its_last_record_and_its_last_head_may_start(tmp_path: Path) -> None:
    lines = chain(LAST, stopped=True)
    lay(tmp_path, cut(lines), head_at(lines, LAST - 1, "closing"))

    found = resume(Folder(tmp_path / "ledger", tmp_path / "ledger.head"), PUBLIC)

    assert (found.seq, found.newer, found.stopped) == (LAST, 1, True)
    assert look(tmp_path) == Report(records=LAST, first_bad=None, head=LAST - 1, newer=1, torn=0)


@pytest.mark.promise("P12")
def test_while_it_is_closed_nothing_but_the_last_record_may_follow(tmp_path: Path) -> None:
    lines = chain(LAST)
    lay(tmp_path, cut(lines), head_at(lines, LAST - 1, "closing"))

    bad = look(tmp_path).first_bad

    assert bad
    assert bad.seq == LAST
