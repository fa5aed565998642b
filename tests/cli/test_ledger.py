from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Scene
from tests.cli.kit import at, invoke


@pytest.fixture
def copy(scene: Scene, tmp_path: Path) -> Path:
    """A copy of the relay's state folder, with at least one call in the ledger."""
    invoke("call", "stock", "inventory", "echo", "canary=1", **at(scene.relay, scene.key)).ok()
    return Path(shutil.copytree(scene.relay.state, tmp_path / "copy"))


def test_the_ledger_of_a_relay_that_runs_is_whole(scene: Scene) -> None:
    invoke("call", "stock", "inventory", "echo", "canary=1", **at(scene.relay, scene.key)).ok()

    found = invoke("ledger", "verify", "--state", str(scene.relay.state), "--json").ok().json

    assert found["ok"] is True
    assert found["records"] >= 6  # two for each of discover, list and call
    text = invoke("ledger", "verify", "--state", str(scene.relay.state)).ok().out
    assert "every one as it was written" in text


def test_a_changed_record_is_named(copy: Path) -> None:
    (segment,) = (copy / "ledger").glob("*.jsonl")
    lines = segment.read_bytes().splitlines(keepends=True)
    assert b'"tenant":"acme"' in lines[2]
    lines[2] = lines[2].replace(b'"tenant":"acme"', b'"tenant":"evil"')
    segment.write_bytes(b"".join(lines))

    done = invoke("ledger", "verify", "--state", str(copy))
    found = invoke("ledger", "verify", "--state", str(copy), "--json")

    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("arrowslit: record 3 of the ledger was changed")
    assert f"({segment.name}, line 3)" in done.err
    assert "code: ledger_broken" in done.err
    assert (found.status, found.err) == (1, "")
    assert found.json["ok"] is False
    assert found.json["first_bad"]["seq"] == 3
    assert found.json["error"]["code"] == "ledger_broken"


def test_a_missing_head_is_named(copy: Path) -> None:
    (copy / "ledger.head").unlink()

    found = invoke("ledger", "verify", "--state", str(copy), "--json")

    assert found.status == 1
    assert found.json["first_bad"]["seq"] is None
    assert found.json["head"] is None


def test_where_no_relay_was_there_is_nothing_to_verify(home: Path) -> None:
    done = invoke("ledger", "verify")

    assert done.status == 1
    assert f"no relay keeps a ledger in {home}" in done.err
    assert "--state" in done.err
    assert not home.exists()


def test_it_looks_into_the_usual_folder(copy: Path, home: Path) -> None:
    copy.rename(home)

    assert invoke("ledger", "verify", "--json").ok().json["ok"] is True
