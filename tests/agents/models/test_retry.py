from __future__ import annotations

from typing import get_args

import pytest

from arrowslit.agents.models.model import FailureKind, ModelFailed
from arrowslit.agents.models.retry import ATTEMPTS, LONGEST_PAUSE, next_try

KINDS: tuple[FailureKind, ...] = get_args(FailureKind)


def lowest(count: int) -> bytes:
    """The smallest of all chances."""
    return bytes(count)


def highest(count: int) -> bytes:
    """The greatest."""
    return b"\xff" * count


def waits(failure: ModelFailed) -> list[float]:
    """The least waits after attempt 1, 2 and so on, until it is given up."""
    found: list[float] = []
    while (wait := next_try(failure, len(found) + 1, lowest)) is not None:
        found.append(wait)
    return found


def test_waits_double_and_have_an_end() -> None:
    assert waits(ModelFailed("overloaded", "")) == [0.5, 1, 2, 4, 8]


def test_chance_makes_a_wait_up_to_twice_as_long() -> None:
    longest = next_try(ModelFailed("failed", ""), 3, highest)

    assert longest is not None
    assert 3.9 < longest <= 4


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_may_pass_is_asked_again(kind: FailureKind) -> None:
    tries = 1 + len(waits(ModelFailed(kind, "")))

    assert tries == {"refused": 1, "context_too_long": 1, "malformed": 2}.get(kind, 6) == ATTEMPTS.get(kind, 1)


def test_a_server_that_asks_for_a_pause_gets_it() -> None:
    asked = ModelFailed("rate_limited", "", retry_after=20)

    assert next_try(asked, 1, lowest) == 20
    assert next_try(asked, 1, highest) == pytest.approx(22)
    assert next_try(ModelFailed("rate_limited", "", retry_after=0), 3, lowest) == 2  # no pause is no invitation


def test_a_pause_that_nobody_would_wait_for_is_no_retry() -> None:
    assert next_try(ModelFailed("rate_limited", "", retry_after=LONGEST_PAUSE), 1, lowest) == LONGEST_PAUSE
    assert next_try(ModelFailed("rate_limited", "", retry_after=LONGEST_PAUSE + 1), 1, lowest) is None
