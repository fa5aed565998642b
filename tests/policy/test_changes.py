"""Which lines of two texts are shown as changed."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrowslit.policy.changes import changes


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        ("", "", ""),
        ("abc", "abc", " a b c"),
        ("abc", "", "-a-b-c"),
        ("", "ab", "+a+b"),
        ("abc", "abxc", " a b+x c"),
        ("abc", "ac", " a-b c"),
        ("abcde", "xbcdy", "-a+x b c d-e+y"),
        ("abc", "bca", "-a b c+a"),
        ("{a}{b}", "{a}{x}{b}", " { a } {+x+}+{ b }"),
        ("{a}{b}{c}", "{c}{b}{a}", None),
        ("aab", "aaab", " a a+a b"),
    ],
)  # fmt: skip
def test_what_both_have_in_the_same_order_is_not_shown_as_changed(before: str, after: str, shown: str | None) -> None:
    lines = list(changes(before, after))
    assert "".join(line[2:] for line in lines if line[0] in " -") == before
    assert "".join(line[2:] for line in lines if line[0] in " +") == after
    assert shown is None or "".join(line[0] + line[2:] for line in lines) == shown


@given(st.text("abcdefgh", max_size=60), st.text("abcdefgh", max_size=60))
def test_nothing_is_lost_or_turned_round(before: str, after: str) -> None:
    lines = list(changes(before, after))
    assert "".join(line[2:] for line in lines if line[0] in " -") == before
    assert "".join(line[2:] for line in lines if line[0] in " +") == after


def test_one_line_among_thousands_is_found() -> None:
    before = [f"line {number}" for number in range(20_000)]
    after = [*before[:7], "new", *before[7:12_000], *before[12_001:]]
    assert [line for line in changes(before, after) if line[0] != " "] == ["+ new", "- line 12000"]


class Counted(str):
    """A line that counts how often one was compared with another, or looked up."""

    __slots__ = ()
    steps = 0

    def __eq__(self, other: object) -> bool:
        Counted.steps += 1
        return str.__eq__(self, other)

    def __hash__(self) -> int:
        Counted.steps += 1
        return str.__hash__(self)


LINES = 2000


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["x"] * LINES, ["x"] * (LINES // 2) + ["y"] + ["x"] * (LINES // 2)),
        (range(LINES), range(LINES, 0, -1)),
        ([each % 7 for each in range(LINES)], [each % 5 for each in range(LINES)]),
        ([each // 2 for each in range(LINES)], [each * each % LINES for each in range(LINES)]),
        ([0, *range(LINES), *range(LINES)], [1, *range(LINES - 1, 0, -1), *range(LINES)]),
    ],
)
def test_twice_as_many_lines_are_not_four_times_the_work(before: Sequence[object], after: Sequence[object]) -> None:
    Counted.steps = 0
    shown = sum(1 for _ in changes([Counted(each) for each in before], [Counted(each) for each in after]))
    assert max(len(before), len(after)) <= shown <= len(before) + len(after)
    assert Counted.steps < 100 * (len(before) + len(after))  # each with each: 1,000 times as many lines as there are
