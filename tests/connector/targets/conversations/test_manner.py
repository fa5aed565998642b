from __future__ import annotations

import pytest

from arrowslit.connector.targets.conversations.manner import Manner, legacy_manner, modern_manner

JSON, EVENTS = Manner(), Manner(events=True)


@pytest.mark.parametrize(
    ("accept", "legacy", "modern"),
    [
        ("application/json, text/event-stream", JSON, JSON),
        ("text/event-stream, application/json", EVENTS, JSON),
        ("text/event-stream;q=0.9 , Application/JSON", EVENTS, JSON),
        ("text/event-stream", EVENTS, EVENTS),
        ("*/*", JSON, JSON),
        ("text/html, */*;q=0.1", JSON, JSON),
        ("text/event-stream, */*", EVENTS, JSON),
        (None, JSON, JSON),
        ("application/json", JSON, JSON),
        ("text/html", JSON, JSON),
    ],
)
def test_what_is_named_first_is_the_wish_of_those_who_can_resume(
    accept: str | None, legacy: Manner, modern: Manner
) -> None:
    assert (legacy_manner(accept, None), modern_manner(accept)) == (legacy, modern)


@pytest.mark.parametrize(
    ("version", "primes"), [("2025-11-25", True), ("2025-06-18", False), ("2024-11-05", False), (None, False)]
)
def test_only_clients_that_know_empty_events_get_one(version: str | None, primes: bool) -> None:
    assert legacy_manner("*/*", version) == Manner(primes=primes)
