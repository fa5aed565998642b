from __future__ import annotations

import pytest

from arrowslit.cli import options
from arrowslit.errors import Error


@pytest.mark.parametrize(
    ("text", "expected"), [("500ms", 0.5), ("30s", 30), ("1.5s", 1.5), ("10m", 600), ("1h", 3600), ("7d", 604_800)]
)
def test_a_duration_is_a_number_and_a_unit(text: str, expected: float) -> None:
    assert options.seconds(text) == expected


@pytest.mark.parametrize("text", ["", "10", "s", "-1s", "1 h", "1w", "1e3s", "٣s", "1h30m"])
def test_anything_else_is_not_guessed_at(text: str) -> None:
    with pytest.raises(Error, match="usage"):
        options.seconds(text)


@pytest.mark.parametrize("text", ["internal-inventory", "tnl_internal_inventory"])
def test_a_tunnel_is_named_by_its_name_or_its_id(text: str) -> None:
    assert options.tunnel(text) == "tnl_internal_inventory"


def test_a_bad_name_never_leaves_this_machine() -> None:
    with pytest.raises(Error, match="validation_error"):
        options.tunnel("Not a name")
