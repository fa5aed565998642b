from __future__ import annotations

import os

import pytest

from arrowslit.clock import rfc3339
from arrowslit.errors import Error
from arrowslit.ids import PREFIXES, check_name, is_id, new_id, tunnel_id


@pytest.mark.parametrize("prefix", PREFIXES)
def test_an_id_says_what_it_is_of(prefix: str) -> None:
    made = new_id(prefix, os.urandom)
    assert is_id(prefix, made)
    assert made != new_id(prefix, os.urandom)
    assert not any(is_id(other, made) for other in PREFIXES if other != prefix)


def test_a_prefix_that_nobody_declared_is_a_defect() -> None:
    with pytest.raises(ValueError, match="no such id prefix"):
        new_id("thing", os.urandom)


def test_a_tunnels_id_comes_from_its_name() -> None:
    assert tunnel_id("internal-inventory") == "tnl_internal_inventory"


@pytest.mark.parametrize("name", ["a", "0", "a-b", "a" * 63, "x--y"])
def test_a_name_is_a_dns_label(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a_b", "a.b", "a" * 64, "ä", "a b", "a\n", "../etc"])
def test_what_is_no_dns_label_is_no_name(name: str) -> None:
    with pytest.raises(Error, match="validation_error"):
        check_name(name)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1.9996, "1970-01-01T00:00:02.000Z"),
        (1795341600.123, "2026-11-22T10:00:00.123Z"),
    ],
)
def test_a_time_is_written_as_rfc_3339_in_utc(seconds: float, text: str) -> None:
    assert rfc3339(seconds) == text
