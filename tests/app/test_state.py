from __future__ import annotations

import os
from pathlib import Path

import pytest

from arrowslit.app import state
from arrowslit.errors import Error


def test_a_secret_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    made = state.secret(tmp_path / "root.key", os.urandom)
    assert state.secret(tmp_path / "root.key", os.urandom) == made
    assert len(made) == 32
    assert (tmp_path / "root.key").stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [tmp_path / "root.key"]


def test_a_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    assert state.folder(tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_a_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "root.key"
    state.secret(path, os.urandom)
    path.chmod(0o644)
    with pytest.raises(Error, match="state_unusable"):
        state.secret(path, os.urandom)


@pytest.mark.parametrize("text", ["", "zz", "00" * 31, "not hex at all"])
def test_a_file_that_holds_no_key_is_refused_and_kept(tmp_path: Path, text: str) -> None:
    path = tmp_path / "root.key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(Error, match="state_unusable"):
        state.secret(path, os.urandom)
    assert path.read_text() == text


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    state.write(tmp_path / "x", "one")
    with pytest.raises(Error, match="state_unusable"):
        state.write(tmp_path / "missing" / "x", "two")
    assert (tmp_path / "x").read_text() == "one"
