"""The requirement files are what set-up and reviewers take them for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted([*(ROOT / "requirements").glob("*.txt"), *(ROOT / "tests" / "clients").glob("*.txt")])


def pins(lock: str) -> dict[str, str]:
    """Name and exact version of everything that requirements/`lock`.txt lists."""
    text = (ROOT / "requirements" / f"{lock}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9-]+)(?:\[[a-z,]+\])?==([^ ;\\]+)", text, re.MULTILINE))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_names_no_host_and_no_place(lock: Path) -> None:
    assert not re.search(r"://|--index|--find-links|file:|\.org\b|\.com\b| @ ", lock.read_text())


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_everything_in_a_lock_has_an_exact_version_and_a_hash(lock: Path) -> None:
    logical = lock.read_text().replace("\\\n", " ").splitlines()
    entries = [line for line in logical if line.strip() and not line.lstrip().startswith("#")]

    assert entries
    assert [entry for entry in entries if "==" not in entry or "--hash=sha256:" not in entry] == []


def test_each_set_is_part_of_the_next_in_the_same_versions() -> None:
    assert {"uvicorn", "picows", "hatchling"} <= pins("run").keys()
    assert pins("run").items() < pins("demo").items() < pins("dev").items()
