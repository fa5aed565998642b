"""Calls that are left open wait for their answer until their time is over, and not without bound."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from arrowslit.outcome import Outcome
from arrowslit.relay.pending import MOST, Key, Pending
from arrowslit.relay.sessions import Session

FAR = 1e9  # loop time


def key(number: int) -> Key:
    return Key("tnl_a", None, Session("s", "c"), number)


@pytest.mark.promise("P15")
async def test_the_oldest_of_an_owner_ends_when_it_leaves_too_many_open() -> None:
    ended: list[tuple[object, Outcome]] = []

    def ends(name: object) -> Callable[[Outcome], None]:
        return lambda outcome: ended.append((name, outcome))

    pending = Pending()
    pending.leave_open(key(-1), FAR, ends("other"), "globex")
    for number in range(MOST + 2):
        pending.leave_open(key(number), FAR, ends(number), "acme")
    assert ended == [(0, Outcome.OUTCOME_UNKNOWN), (1, Outcome.OUTCOME_UNKNOWN)]

    pending.seen(key(2))
    pending.leave_open(key(MOST + 2), FAR, ends("last"), "acme")
    assert ended[2:] == [(2, Outcome.RESULT)], "there was room again"

    pending.close()
    assert len(ended) == MOST + 4
    assert ended.count(("other", Outcome.OUTCOME_UNKNOWN)) == 1
