from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from arrowslit.ledger import find
from arrowslit.ledger.chain import GENESIS, seal
from arrowslit.ledger.disk import segment_name
from arrowslit.ledger.find import CallFinder, find_call
from arrowslit.record import CallRecord, fold
from tests.ledger.scene import TS

ID, OTHER = "call_" + "a" * 24, "call_" + "b" * 24
WHO: dict[str, Any] = {
    "principal": "key_1",
    "tenant": "acme",
    "agent": "agent_1",
    "agent_version": 3,
    "server": "inventory",
    "tunnel": "tnl_inventory",
    "method": "tools/call",
    "tool": "look",
}
ENDED: dict[str, Any] = {
    "outcome": "result",
    "code": None,
    "reason": None,
    "status": 200,
    "answer_bytes": 40,
    "ms": 12.5,
}


def line(kind: str, call: str | None = ID, **fields: object) -> bytes:
    """A line as the relay writes it."""
    named = {} if call is None else {"call": call}
    return seal(kind, {**named, **fields}, seq=1, prev=GENESIS, ts=TS)[0] + b"\n"


def lay(folder: Path, *segments: bytes) -> Path:
    """A ledger of these segments."""
    for number, content in enumerate(segments):
        (folder / segment_name(1 + number * 100)).write_bytes(content)
    (folder / "lock").touch()
    return folder


def anybodys(_: CallRecord) -> bool:
    """Whoever asks may see it."""
    return True


def nobodys(_: CallRecord) -> bool:
    """Nobody may."""
    return False


def kinds(records: Any) -> list[object]:
    return [record["kind"] for record in records]


def test_the_records_of_a_call_are_found_in_their_order_across_files(tmp_path: Path) -> None:
    folder = lay(tmp_path, line("asked", **WHO), line("asked", OTHER, **WHO), line("outcome", **ENDED))

    assert kinds(find_call(folder, ID, anybodys)) == ["asked", "outcome"]
    assert kinds(find_call(folder, OTHER, anybodys)) == ["asked"]
    assert find_call(folder, "call_" + "c" * 24, anybodys) == []


def test_a_ledger_that_is_not_there_has_no_calls(tmp_path: Path) -> None:
    assert find_call(tmp_path / "nowhere", ID, anybodys) == []


def test_files_before_the_one_in_which_a_call_began_are_not_read(tmp_path: Path) -> None:
    folder = lay(tmp_path, b"", line("asked", **WHO), line("outcome", **ENDED))
    oldest = folder / segment_name(1)
    oldest.unlink()
    oldest.mkdir()  # who opened it would fail

    assert kinds(find_call(folder, ID, anybodys)) == ["asked", "outcome"]


def test_records_that_only_mention_the_id_are_not_the_calls(tmp_path: Path) -> None:
    mentions = line("model_request", None, results=[ID], inner={"call": ID})
    folder = lay(tmp_path, line("asked", **WHO) + mentions + line("asked", OTHER, **WHO | {"tool": ID}))

    assert kinds(find_call(folder, ID, anybodys)) == ["asked"]


@pytest.mark.parametrize("torn", [b"", b"{", line("outcome", **ENDED)[:-1], b"\xff\xfe", b"\n\n"])
def test_a_line_that_is_not_whole_yet_is_passed_over(tmp_path: Path, torn: bytes) -> None:
    folder = lay(tmp_path, line("asked", **WHO) + torn)

    assert kinds(find_call(folder, ID, anybodys)) == ["asked"]


@pytest.mark.parametrize("piece", [64, 100, 333, 1000])
def test_a_record_is_found_wherever_the_pieces_of_a_file_are_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr(find, "PIECE", max(piece, 600))  # a record has some 400 bytes
    filler = [line("asked", f"call_{number:024x}", **WHO) for number in range(20)]
    for place in range(20):
        lines = [*filler[:place], line("asked", **WHO), line("outcome", **ENDED), *filler[place:]]
        (tmp_path / segment_name(1)).write_bytes(b"x" * piece + b"\n" + b"".join(lines))

        assert kinds(find_call(tmp_path, ID, anybodys)) == ["asked", "outcome"]


def test_a_line_without_end_takes_no_memory_and_hides_nothing_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find, "PIECE", 1000)
    folder = lay(tmp_path, b"x" * 10_000 + b"\n" + line("asked", **WHO))

    assert kinds(find_call(folder, ID, anybodys)) == ["asked"]


# ---------------------------------------------------------------- what they say


def record(kind: str, **fields: Any) -> Mapping[str, Any]:
    found: dict[str, Any] = json.loads(line(kind, **fields))
    return found


def test_an_open_call_has_no_outcome() -> None:
    call = fold([record("asked", **WHO)])

    assert call is not None
    assert (call.id, call.tenant, call.agent, call.agent_version) == (ID, "acme", "agent_1", 3)
    assert (call.server, call.tunnel, call.tool, call.method) == ("inventory", "tnl_inventory", "look", "tools/call")
    assert call.asked_at == TS
    assert (call.outcome, call.ended_at, call.ms) == (None, None, None)


def test_a_call_that_ended_has_its_outcome_and_what_was_measured() -> None:
    call = fold([record("asked", **WHO), record("outcome", **ENDED)])

    assert call is not None
    assert (call.outcome, call.status, call.answer_bytes, call.ms, call.ended_at) == ("result", 200, 40, 12.5, TS)


def test_a_denied_call_ended_when_it_was_asked() -> None:
    call = fold([record("denied", **WHO, code="tool_not_allowed", skipped=0)])

    assert call is not None
    assert (call.outcome, call.code, call.asked_at, call.ended_at) == ("denied", "tool_not_allowed", TS, TS)


def test_a_call_that_a_dead_relay_left_open_is_unknown() -> None:
    ending = {"asked": 1, "outcome": "outcome_unknown", "reason": "relay_died"}  # as writer.py leaves it
    call = fold([record("asked", **WHO), record("outcome", **ending)])

    assert call is not None
    assert (call.outcome, call.reason, call.code, call.ms) == ("outcome_unknown", "relay_died", None, None)


def test_a_later_record_never_changes_the_outcome_that_was_given() -> None:
    first, late = record("outcome", **{**ENDED, "outcome": "outcome_unknown"}), record("outcome", **ENDED)
    call = fold([record("asked", **WHO), first, late])

    assert call is not None
    assert call.outcome == "outcome_unknown"


def test_records_without_a_beginning_are_no_call() -> None:
    assert fold([record("outcome", **ENDED)]) is None
    assert fold([]) is None


async def test_the_front_answers_with_the_call(tmp_path: Path) -> None:
    finder = CallFinder(lay(tmp_path, line("asked", **WHO) + line("outcome", **ENDED)))

    call = await finder.call(ID, anybodys)

    assert isinstance(call, CallRecord)
    assert call.outcome == "result"
    assert await finder.call(OTHER, anybodys) is None


@pytest.mark.parametrize("text", ["", "x", "call_", "call_" + "A" * 24, ID + '"', ID + "\n", "../../etc/passwd"])
async def test_what_no_id_can_be_is_not_searched_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(find, "find_call", None)

    assert await CallFinder(tmp_path).call(text, anybodys) is None


async def test_a_call_of_others_is_searched_for_like_one_that_there_never_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = line("asked", **WHO) + line("outcome", **ENDED)
    finder = CallFinder(lay(tmp_path, line("asked", OTHER, **WHO), line("outcome", OTHER, **ENDED), newest))
    looked_at: list[str] = []
    lines = find._lines

    def watched(segment: Path, needle: bytes) -> Iterator[bytes]:
        looked_at.append(segment.name)
        return lines(segment, needle)

    monkeypatch.setattr(find, "_lines", watched)
    searches = []
    for ident, visible in ((ID, anybodys), (ID, nobodys), ("call_" + "c" * 24, anybodys)):
        looked_at.clear()
        found = await finder.call(ident, visible)
        searches.append((found is not None, len(looked_at)))

    assert searches == [(True, 1), (False, 3), (False, 3)]
