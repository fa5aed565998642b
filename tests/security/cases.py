"""The known attacks by their ids: every test that plays one carries its id, and a word for which variant it is."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
FINISHED = {
    "API abuse",
    "SSRF via http target",
    "TLS",
    "authn",
    "authz / allowlist bypass",
    "protocol abuse / fuzz",
    "resource exhaustion",
    "sandbox egress / escape",
    "tenant spoofing",
}
"""The groups of which every case is tested, or listed in `not_in_the_plan.toml`."""


def case(ident: str, arguments: str, rows: Mapping[str, object]) -> pytest.MarkDecorator:
    """Plays the case `ident` once with each of `rows`; their names follow the id in the test's own."""
    many = "," in arguments
    values = [row if many else (row,) for row in rows.values()]
    names = [f"{ident} {name}" for name in rows]
    return pytest.mark.parametrize(arguments.split(","), values, ids=names)


@cache
def known() -> Mapping[str, Mapping[str, str]]:
    """Every case there is: its group and title by its id."""
    return {each["id"]: each for each in json.loads((HERE / "ids.json").read_text())}


def not_in_the_plan() -> Mapping[str, Any]:
    """The cases that speak of something else, each with the sentence that it disagrees with."""
    return tomllib.loads((HERE / "not_in_the_plan.toml").read_text())
