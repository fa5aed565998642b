from __future__ import annotations

import pytest

from arrowslit.store.token import Tokens
from tests.store.kit import DAY, HOUR

FRESH = Tokens(1, "one", issued_at=0.0)
USED = FRESH.used(1, now=HOUR)
ROTATED = USED.rotated("two", now=2 * DAY, grace=HOUR)


@pytest.mark.parametrize(
    ("tokens", "presented", "now", "generation"),
    [
        (FRESH, "one", DAY - 1, 1),
        (FRESH, "one", DAY, None),  # nobody used it for a day
        (FRESH, "other", 0.0, None),
        (USED, "one", 365 * DAY, 1),
        (ROTATED, "one", 2 * DAY + HOUR - 1, 1),
        (ROTATED, "one", 2 * DAY + HOUR, None),  # its grace is over
        (ROTATED, "two", 2 * DAY, 2),
        (ROTATED, "two", 3 * DAY, None),  # the new one has to be used as well
        (USED.rotated("two", 2 * DAY, 0), "one", 2 * DAY, None),
        (ROTATED.rotated("three", 2 * DAY, HOUR), "one", 2 * DAY, None),  # two generations, not three
        (ROTATED.rotated("three", 2 * DAY, HOUR), "two", 2 * DAY, 2),
    ],
)
def test_a_token_opens_while_its_generation_is_valid(
    tokens: Tokens, presented: str, now: float, generation: int | None
) -> None:
    assert tokens.valid(presented, now) == generation


def test_grace_does_not_prolong_a_token_that_nobody_used() -> None:
    tokens = FRESH.rotated("two", now=DAY - 60, grace=HOUR)

    assert tokens.valid("one", DAY - 1) == 1
    assert tokens.valid("one", DAY) is None


def test_only_the_current_generation_is_marked_as_used() -> None:
    assert ROTATED.used(1, 3 * DAY) == ROTATED
    assert ROTATED.used(2, 3 * DAY).expires_at() is None
    assert ROTATED.used(2, 3 * DAY).used(2, 4 * DAY).used_at == 3 * DAY
