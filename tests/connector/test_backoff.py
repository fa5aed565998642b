from __future__ import annotations

import random

import pytest

from arrowslit.connector.backoff import bound, wait


@pytest.mark.parametrize(
    ("attempt", "outage", "expected"),
    [
        (0, 0, 1),
        (1, 1, 2),
        (2, 3, 4),
        (9, 30, 4),
        (30, 59.9, 4),
        (31, 60, 8),
        (32, 95, 16),
        (33, 125, 30),
        (99, 9999, 30),
    ],
)
def test_the_bound_stays_low_for_a_minute_and_then_doubles_to_half_a_minute(
    attempt: int, outage: float, expected: float
) -> None:
    assert bound(attempt, outage) == expected


def test_the_wait_has_full_jitter() -> None:
    chance = random.Random(1)
    waits = [wait(2, 10, chance.random()) for _ in range(2000)]
    assert min(waits) < 0.1
    assert 3.9 < max(waits) <= 4.0
    assert sum(waits) / len(waits) == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("outage", [2.0, 10.0, 30.0])
def test_after_an_outage_of_any_of_these_lengths_the_next_try_comes_within_five_seconds(outage: float) -> None:
    for seed in range(300):
        chance, now, attempt = random.Random(seed), 0.0, 0
        while now < outage:
            now += wait(attempt, now, chance.random())
            attempt += 1
        assert now - outage <= 4.0
