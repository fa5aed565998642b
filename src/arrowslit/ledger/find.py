"""What the ledger's files say of one call: a search through bytes, newest file first. It is not on the way of a call.

Nothing is parsed but the few lines that hold the id. Reading and searching happen on another thread, in pieces of which
each is over in well under a millisecond, so that the relay's own loop does not wait for it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from arrowslit.record import CallRecord, fold

PIECE = 1 << 20  # bytes that are read and searched at once
_CALL_ID = re.compile(r"call_[0-9a-f]{24}")  # as ids.new_id makes it
_SEGMENT = "[0-9]" * 20 + ".jsonl"
_BEGINNINGS = ("asked", "denied")

Visible = Callable[[CallRecord], bool]
"""Whether a call is one that whoever asks may see."""

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class CallFinder:
    """The port CallRecords over the segments in a ledger's folder. One search runs at a time, the others wait."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._one = asyncio.Lock()

    async def call(self, call_id: str, visible: Visible) -> CallRecord | None:
        """As the port says. What no id can be is not searched for."""
        if not _CALL_ID.fullmatch(call_id):
            return None
        async with self._one:
            call = fold(await asyncio.to_thread(find_call, self._folder, call_id, visible))
        return call if call is not None and visible(call) else None


def find_call(folder: Path, call_id: str, visible: Visible) -> Sequence[dict[str, Any]]:
    """The records of that call, in their order; none if there are none, or no ledger.

    May be called while a relay writes: a line that is not whole yet is passed over. What stands before the record that
    began the call is not looked at, unless the call is not `visible`: one that there never was is looked for
    everywhere, and whoever asks may have a watch.
    """
    found: list[dict[str, Any]] = []
    needle = b'"call":"%b"' % call_id.encode()  # a record's line is canonical JSON: see chain.py
    for segment in sorted(folder.glob(_SEGMENT), reverse=True):
        found = [*_records(segment, needle, call_id), *found]
        if any(record["kind"] in _BEGINNINGS for record in found):
            call = fold(found)
            if call is not None and visible(call):
                break
    return found


def _records(segment: Path, needle: bytes, call_id: str) -> list[dict[str, Any]]:
    records = [record for line in _lines(segment, needle) if (record := _read(line)) is not None]
    return [record for record in records if record.get("call") == call_id]


def _lines(segment: Path, needle: bytes) -> Iterator[bytes]:
    """The whole lines with `needle` in them. A line longer than PIECE is none of the ledger's, and is let go."""
    rest = b""
    with segment.open("rb") as file:
        while piece := file.read(PIECE):
            held = rest + piece
            whole = held.rfind(b"\n") + 1
            at = held.find(needle, 0, whole)
            while at >= 0:
                end = held.index(b"\n", at)
                yield held[held.rfind(b"\n", 0, at) + 1 : end]
                at = held.find(needle, end, whole)
            rest = held[whole:] if len(held) - whole <= PIECE else b""


def _read(line: bytes) -> dict[str, Any] | None:
    try:
        record = _decode(line)
    except (msgspec.MsgspecError, ValueError):
        return None
    return record if isinstance(record.get("kind"), str) else None
