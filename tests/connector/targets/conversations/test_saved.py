from __future__ import annotations

import os
from pathlib import Path

import pytest

from arrowslit.connector.targets.conversations.saved import TOO_OLD, SavedSession, SavedSessions

NOW = 1_795_000_000.0
ONE = SavedSession("1" * 32, b'{"protocolVersion": "2025-11-25"}', NOW)


def test_a_session_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    sessions = SavedSessions(tmp_path / "a" / "b")
    assert sessions.load(NOW) == []
    sessions.save(ONE)
    sessions.save(ONE)
    assert SavedSessions(tmp_path / "a" / "b").load(NOW) == [ONE]

    sessions.remove(ONE.session_id)
    sessions.remove(ONE.session_id)
    assert sessions.load(NOW) == []


def test_a_session_is_too_old_a_day_after_it_was_used_last(tmp_path: Path) -> None:
    sessions = SavedSessions(tmp_path)
    sessions.save(ONE)
    assert sessions.load(NOW + TOO_OLD) == [ONE]
    sessions.touch(ONE.session_id, NOW + 10)
    assert len(sessions.load(NOW + TOO_OLD + 10)) == 1

    assert sessions.load(NOW + TOO_OLD + 11) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "content"), [("1" * 32 + ".json", b"{torn"), ("1" * 32 + ".new", b"{}"), ("notes.txt", b"{}")]
)
def test_what_is_no_session_is_not_taken_for_one(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    os.utime(tmp_path / name, (NOW, NOW))
    assert SavedSessions(tmp_path).load(NOW) == []


def test_a_full_disk_costs_the_restart_and_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sessions = SavedSessions(tmp_path / "gone")
    sessions.save(ONE)
    sessions.touch(ONE.session_id, NOW)
    sessions.remove(ONE.session_id)
    assert "could not be saved" in caplog.text
