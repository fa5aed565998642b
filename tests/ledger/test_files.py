"""The ledger on real files: what a kill, a full disk and a second relay do to it."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from arrowslit.clock import SystemClock
from arrowslit.errors import Error
from arrowslit.ledger.disk import FileDisk
from arrowslit.ledger.verify import Report, verify
from arrowslit.ledger.writer import Sync, open_ledger
from tests.ledger import writes_until_killed
from tests.ledger.scene import KEYS, PUBLIC, stored

ROOT = Path(__file__).parents[2]


def disk_in(state: Path) -> FileDisk:
    return FileDisk(state / "ledger", state / "ledger.head")


def look(state: Path) -> Report:
    return verify(state / "ledger", state / "ledger.head", PUBLIC)


async def test_only_the_relays_user_can_read_the_ledger(tmp_path: Path) -> None:
    state = tmp_path / "state"
    before = os.umask(0)
    try:
        with disk_in(state) as disk:
            async with open_ledger(disk, KEYS, SystemClock()) as ledger:
                await ledger.append("asked", {"call": "call_1"})
    finally:
        os.umask(before)

    assert (state / "ledger").stat().st_mode & 0o777 == 0o700
    files = [path for path in state.rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"lock", "00000000000000000001.jsonl", "ledger.head"}
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


@pytest.mark.parametrize("sync", ["soon", "always"])
async def test_what_was_appended_is_in_the_files(tmp_path: Path, sync: Sync) -> None:
    with disk_in(tmp_path) as disk:
        async with open_ledger(disk, KEYS, SystemClock(), sync=sync, segment_bytes=5000) as ledger:
            for round_of_ten in range(6):
                calls = [f"call_{round_of_ten}_{number}" for number in range(10)]
                await asyncio.gather(*(ledger.append("asked", {"call": call, "tool": "check_stock"}) for call in calls))

    assert look(tmp_path) == Report(records=61, first_bad=None, head=61, newer=0, torn=0)
    assert [record["seq"] for record in stored(tmp_path)] == list(range(1, 62))


async def test_a_second_relay_cannot_write_the_same_ledger(tmp_path: Path) -> None:
    with disk_in(tmp_path):
        with pytest.raises(Error, match="another relay writes the ledger") as refused:
            disk_in(tmp_path)
        assert refused.value.code == "state_unusable"

    with disk_in(tmp_path):
        pass  # the first one has let go


async def test_a_closed_disk_leaves_no_file_open(tmp_path: Path) -> None:
    gc.collect()  # what other tests left behind is closed now, and not meanwhile
    before = psutil.Process().num_fds()

    with disk_in(tmp_path) as disk:
        async with open_ledger(disk, KEYS, SystemClock(), sync="always", segment_bytes=100) as ledger:
            for number in range(3):
                await ledger.append("asked", {"call": f"call_{number}"})

    assert len(list(tmp_path.glob("ledger/*.jsonl"))) > 1
    assert psutil.Process().num_fds() == before


def test_a_folder_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    (tmp_path / "ledger").write_text("a file, where the folder should be")

    with pytest.raises(Error, match="cannot be used") as refused:
        disk_in(tmp_path)

    assert refused.value.code == "state_unusable"


@contextmanager
def relay(state: Path, name: str) -> Iterator[subprocess.Popen[str]]:
    """`writes_until_killed` in a process of its own; killed at the end."""
    program = [sys.executable, "-m", writes_until_killed.__name__, str(state), name]
    with subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.promise("P2")
@pytest.mark.promise("P12")
async def test_after_each_kill_all_that_was_acknowledged_is_there_and_all_that_was_open_is_ended(
    tmp_path: Path,
) -> None:
    acknowledged: list[tuple[str, int, str]] = []
    for life in ("a", "b", "c"):
        with relay(tmp_path, life) as process:
            assert process.stdout
            lines = [process.stdout.readline() for _ in range(700)]
            process.kill()
            lines += process.stdout.readlines()
        whole = [line.split() for line in lines if line.endswith("\n")]
        acknowledged += [(kind, int(seq), call) for kind, seq, call in whole]
        assert look(tmp_path).ok

    with disk_in(tmp_path) as disk:
        started = time.monotonic()
        async with open_ledger(disk, KEYS, SystemClock()):
            assert time.monotonic() - started < 5
            records = stored(tmp_path)

    by_seq = {record["seq"]: record for record in records}
    assert [(by_seq[seq]["kind"], by_seq[seq]["call"]) for _, seq, _ in acknowledged] == [
        (kind, call) for kind, _, call in acknowledged
    ]
    asked = [record["call"] for record in records if record["kind"] == "asked"]
    ended = [record["call"] for record in records if record["kind"] == "outcome"]
    assert sorted(map(str, asked)) == sorted(map(str, ended))
    died = {record["call"] for record in records if record.get("reason") == "relay_died"}
    assert {f"call_{life}_never_ends" for life in "abc"} <= died
    assert [record["kind"] for record in records].count("recovered") == 3
    assert look(tmp_path).ok


@contextmanager
def files_no_longer_than(size: int) -> Iterator[None]:
    """What a full disk does, without one: a write goes as far as it may, and the next fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.promise("P12")
async def test_a_real_write_that_stops_halfway_leaves_nothing(tmp_path: Path) -> None:
    segment = tmp_path / "ledger" / "00000000000000000001.jsonl"
    with disk_in(tmp_path) as disk:
        async with open_ledger(disk, KEYS, SystemClock()) as ledger:
            await ledger.append("asked", {"call": "call_1", "tool": "x" * 1000})
            size = segment.stat().st_size
            with files_no_longer_than(size + 50):
                kept = await ledger.append("outcome", {"call": "call_1", "outcome": "result"})
                with pytest.raises(Error, match="File too large"):
                    await ledger.append("asked", {"call": "call_2"})
                assert segment.stat().st_size == size

            assert await ledger.append("asked", {"call": "call_3"}) == kept + 1

    assert [record.get("call") for record in stored(tmp_path)] == ["call_1", "call_1", "call_3", None]
    assert look(tmp_path).ok
