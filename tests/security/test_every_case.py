"""Every known attack of a finished group is played here, or speaks of something that is not in the plan."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

from tests.security.cases import FINISHED, known, not_in_the_plan

ROOT = Path(__file__).parents[2]
PLAYED_IN = ("tests/security", "tests/bad_input", "tests/agents/api/test_openapi.py")
MOST = 15  # cases that may be left out, over all groups


@cache
def played() -> set[str]:
    """The ids in the names of the tests, as pytest itself lists them: all go through the real doors."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *PLAYED_IN]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=240).stdout
    return set(re.findall(r"^tests/\S+\[(?:[^\[]*-)?([A-Z]+-\d{2}) ", listed, re.MULTILINE))


def test_every_case_of_a_finished_group_is_played_or_listed() -> None:
    wanted = {ident for ident, each in known().items() if each["group"] in FINISHED}

    assert {each["group"] for each in known().values()} >= FINISHED
    assert wanted - played() == wanted & set(not_in_the_plan())


def test_no_case_is_played_that_nobody_knows() -> None:
    assert played() <= set(known())


def test_what_is_left_out_is_little_and_each_has_its_reason() -> None:
    left_out = not_in_the_plan()
    documented = re.sub(r"\s+", " ", (ROOT / "docs" / "security-model.md").read_text())

    assert len(left_out) <= MOST
    for ident, reason in left_out.items():
        assert ident in known()
        assert set(reason) == {"quote", "page", "docs"}
        assert len(reason["quote"]) > 20
        assert reason["page"].partition(",")[0] in ("product.md", "tunnel.md")
        assert reason["docs"] in documented, "what the docs say of it has changed"
        line = re.search(rf"- [^:]*\b{ident}\b[^:]*: “([^”]*)” \(([^)]*)\)", documented)
        assert line is not None, "the docs do not say why this is left out"
        assert line.groups() == (reason["quote"], reason["page"]), "a sentence is quoted word for word, or not at all"
