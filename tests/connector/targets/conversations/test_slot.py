from __future__ import annotations

from arrowslit.connector.targets.conversations.slot import Backoff


def test_the_wait_doubles_up_to_half_a_minute_and_begins_anew_after_a_long_life() -> None:
    backoff, waits = Backoff(), []
    for _ in range(9):
        backoff = backoff.after_death(lived=9.9, now=100.0)
        waits.append(backoff.wait(100.0))

    assert waits == [0, 1, 2, 4, 8, 16, 30, 30, 30]
    assert (backoff.wait(120.0), backoff.wait(131.0)) == (10, 0)
    assert backoff.after_death(lived=10.0, now=100.0) == Backoff()
