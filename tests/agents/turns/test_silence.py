"""The words in which nobody guesses."""

from __future__ import annotations

import pytest

from arrowslit.agents.turns.silence import sentence


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{tool} on {server} is silent.", "check on stock is silent."),
        ("Call the desk.", "Call the desk."),
        ("{tool}{tool}", "checkcheck"),
        ("{0} {} {server.__class__} {other} {{tool}}", "{0} {} {server.__class__} {other} {check}"),
    ],
)
def test_two_holes_are_filled_and_nothing_else_is_touched(template: str, expected: str) -> None:
    assert sentence(template, "stock", "check") == expected


def test_a_name_from_outside_that_looks_like_a_hole_stays_what_it_is() -> None:
    assert sentence("{tool} on {server}", "{tool}", "{server}") == "{server} on {tool}"
