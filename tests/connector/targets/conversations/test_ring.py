from __future__ import annotations

import pytest

from arrowslit.connector.targets.conversations.ring import Cursor, Ring, read_cursor


@pytest.mark.parametrize(
    ("text", "cursor"),
    [
        ("ab12-3-45", Cursor("ab12", 3, 45)),
        ("0-0-0", Cursor("0", 0, 0)),
        ("", None),
        ("45", None),
        ("ab12-3", None),
        ("ab12-3-45-6", None),
        ("AB-3-45", None),
        ("ab12--45", None),
        ("ab12-3-٤", None),
        ("ab12-3-" + "9" * 5000, None),
        ("ab12-3-45\n", None),
    ],
)
def test_an_event_id_is_read_in_one_way_or_not_at_all(text: str, cursor: Cursor | None) -> None:
    assert read_cursor(text) == cursor
    assert cursor is None or str(cursor) == text


def after(ring: Ring, event_id: str) -> list[bytes]:
    cursor = read_cursor(event_id)
    assert cursor is not None
    return [sent.message for sent in ring.after(cursor)]


def test_what_followed_on_the_same_stream_can_be_had_again() -> None:
    ring = Ring("aa")
    first, other, second = ring.add(1, b"1"), ring.add(2, b"other"), ring.add(1, b"2")

    assert (after(ring, first), after(ring, second), after(ring, other)) == ([b"2"], [], [])
    assert after(ring, "aa-1-0") == [b"1", b"2"]
    assert after(ring, "bb-1-0") == [], "of an earlier life"


@pytest.mark.parametrize(("events", "size", "kept"), [(2, 100, [b"33", b"4"]), (9, 3, [b"33", b"4"]), (9, 0, [])])
def test_the_oldest_make_room(events: int, size: int, kept: list[bytes]) -> None:
    ring = Ring("aa", events=events, size=size)
    for message in (b"1", b"22", b"33", b"4"):
        ring.add(1, message)
    assert after(ring, "aa-1-0") == kept


def test_ids_are_never_used_again() -> None:
    ring = Ring("aa")
    before = ring.add(1, b"1")
    ring.clear()
    assert (ring.add(1, b"2"), after(ring, before)) == ("aa-1-2", [b"2"])
