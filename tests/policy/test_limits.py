"""Token bucket: so many at once, then so many a second, whatever the clock does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrowslit.policy.limits import Bucket, take

THREE = Bucket(capacity=3, per_second=2, level=3, at=100.0)


def taken(bucket: Bucket, *times: float) -> list[float]:
    """The waits of takes at these times, one after the other."""
    waits = []
    for now in times:
        bucket, wait = take(bucket, now)
        waits.append(wait)
    return waits


def test_a_full_bucket_gives_its_capacity_at_once_and_then_says_how_long_to_wait() -> None:
    assert taken(THREE, 100, 100, 100, 100) == [0, 0, 0, 0.5]


def test_who_waits_as_long_as_told_gets_one() -> None:
    assert taken(THREE, 100, 100, 100, 100, 100.25, 100.5, 100.5) == [0, 0, 0, 0.5, 0.25, 0, 0.5]


def test_a_bucket_fills_no_further_than_its_capacity() -> None:
    assert taken(THREE, *[1_000_000] * 4) == [0, 0, 0, 0.5]


def test_a_clock_that_goes_back_gives_nothing_away() -> None:
    assert taken(THREE, 100, 100, 100, 50, 100) == [0, 0, 0, 0.5, 0.5]


@pytest.mark.promise("P15")
@given(st.lists(st.floats(0, 100), max_size=60))
def test_no_more_pass_than_capacity_and_time_allow(times: list[float]) -> None:
    passed = taken(Bucket(3, 2, 3, 0.0), *sorted(times)).count(0)
    assert passed <= 3 + 2 * max(times, default=0) + 1e-6
