"""The requirement files are what set-up and reviewers take them for."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("requirements", "tests/clients", "tests/fuzz", "benchmarks")
LOCKS = sorted(lock for folder in FOLDERS for lock in (ROOT / folder).glob("*.txt"))

PACKAGES = sorted(path for folder in ("benchmarks", "tests") for path in (ROOT / folder).rglob("package-lock.json"))


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


@pytest.mark.parametrize("lock", PACKAGES, ids=lambda lock: lock.parent.parent.name)
def test_what_comes_from_npm_is_pinned_and_hashed_and_names_no_registry(lock: Path) -> None:
    packages = json.loads(lock.read_text())["packages"]
    installed = {name: each for name, each in packages.items() if name}

    assert len(installed) > 10
    assert [name for name, each in installed.items() if "integrity" not in each or "resolved" in each] == []
    assert [version for version in packages[""]["dependencies"].values() if not version[0].isdigit()] == []
