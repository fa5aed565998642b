from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conformance.checks import (
    Allowed,
    Check,
    Difference,
    Found,
    compare,
    failed,
    passed,
    read_allowed,
    read_results,
    unexplained,
)

PING = Check("ping", "ping-answers", "Ping", 1)
NOTE = Check("ping", "outgoing-request", "Note", 2)
LIST = Check("tools-list", "lists", "List", 1)
ALLOWED = Allowed("2025-11-25", "ping", "ping-answers", "SUCCESS", "INFO", "a pipe cannot do it")


def test_every_check_of_every_scenario_is_read(tmp_path: Path) -> None:
    made = {"server-ping-2026-01-02T03-04-05-678Z": ["SUCCESS", "FAILURE"], "initialize-2026-01-02T03-04-05-678Z": []}
    for name, statuses in made.items():
        (tmp_path / name).mkdir()
        checks = [{"id": "ping-answers", "name": "Ping", "status": status} for status in statuses]
        (tmp_path / name / "checks.json").write_text(json.dumps(checks))

    found = read_results(tmp_path)

    again = Check("ping", "ping-answers", "Ping", 2)
    assert found == {PING: "SUCCESS", again: "FAILURE"}
    assert (passed(found), failed(found)) == (1, [again])


@pytest.mark.parametrize(
    ("tunnel", "differ"),
    [
        ({PING: "SUCCESS", LIST: "INFO"}, []),
        ({PING: "WARNING", LIST: "INFO"}, [Difference(PING, "SUCCESS", "WARNING")]),
        ({PING: "SUCCESS"}, [Difference(LIST, "INFO", None)]),
        (
            {PING: "SUCCESS", Check("tools-list", "lists", "List", 2): "INFO"},
            [Difference(LIST, "INFO", None), Difference(Check("tools-list", "lists", "List", 2), None, "INFO")],
        ),
    ],
)
def test_checks_are_compared_one_by_one_and_not_by_their_number(tunnel: Found, differ: list[Difference]) -> None:
    assert compare({PING: "SUCCESS", LIST: "INFO"}, tunnel) == differ


@pytest.mark.parametrize(
    ("seen", "unknown", "idle"),
    [
        ([Difference(PING, "SUCCESS", "INFO")], 0, 0),
        ([Difference(PING, "SUCCESS", "FAILURE")], 1, 1),
        ([Difference(PING, "SUCCESS", None)], 1, 1),
        ([Difference(LIST, "SUCCESS", "INFO")], 1, 1),
        ([Difference(PING, "SUCCESS", "INFO"), Difference(NOTE, "INFO", None)], 1, 0),
        ([], 0, 1),
    ],
)
def test_an_explanation_is_good_for_one_difference_that_is_there(
    seen: list[Difference], unknown: int, idle: int
) -> None:
    left, unused = unexplained(seen, [ALLOWED])

    assert (len(left), len(unused)) == (unknown, idle)


@pytest.mark.parametrize(("number", "reason"), [(4, "a pipe cannot do it"), (1, " ")])
def test_a_list_of_excuses_has_three_at_most_and_each_a_reason(tmp_path: Path, number: int, reason: str) -> None:
    one = f'[[difference]]\nversion = "1"\nscenario = "s"\nid = "i"\ndirect = "a"\ntunnel = "b"\nreason = "{reason}"\n'
    (tmp_path / "list.toml").write_text(one * number)

    with pytest.raises(ValueError, match=r"list\.toml"):
        read_allowed(tmp_path / "list.toml")
