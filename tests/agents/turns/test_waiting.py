"""Which session is next."""

from __future__ import annotations

from arrowslit.agents.turns.waiting import Waiting
from arrowslit.principal import Tenant

A, B, C = Tenant("a"), Tenant("b"), Tenant("c")


def filled(places: int, each: int, **sessions: int) -> Waiting:
    """So many sessions of each tenant, those of the first one first."""
    waiting = Waiting(places, each)
    for tenant, count in sessions.items():
        for number in range(count):
            waiting.add(f"{tenant}{number}", Tenant(tenant))
    return waiting


def taken(waiting: Waiting) -> list[str]:
    found = []
    while (session_id := waiting.take()) is not None:
        found.append(session_id)
    return found


def test_tenants_take_turns_however_many_sessions_one_of_them_has() -> None:
    assert taken(filled(6, 6, a=100, b=2, c=1)) == ["a0", "b0", "c0", "a1", "b1", "a2"]


def test_no_more_are_taken_than_there_are_places() -> None:
    waiting = filled(2, 2, a=1, b=1, c=1)

    assert taken(waiting) == ["a0", "b0"]
    waiting.leave("a0")
    assert taken(waiting) == ["c0"]


def test_one_tenant_leaves_places_for_those_who_come_later() -> None:
    waiting = filled(4, 3, a=10)
    assert taken(waiting) == ["a0", "a1", "a2"]

    waiting.add("b0", B)

    assert taken(waiting) == ["b0"]


def test_whoever_holds_the_fewest_is_next() -> None:
    waiting = filled(4, 4, a=3)
    taken(waiting)
    for each in ("a8", "a9"):
        waiting.add(each, A)
    waiting.add("b0", B)

    assert taken(waiting) == ["b0"]


def test_a_session_waits_once() -> None:
    waiting = filled(4, 4, a=1)
    waiting.add("a0", A)

    assert taken(waiting) == ["a0"]
    assert waiting.knows("a0")
    waiting.leave("a0")
    assert not waiting.knows("a0")


def test_sessions_without_a_tenant_are_one_more_party() -> None:
    waiting = filled(3, 3, c=2)
    waiting.add("none", None)

    assert taken(waiting) == ["c0", "none", "c1"]
