"""Version 2 is played with plain files here: this shows which files are chosen and what is written, not the kernel."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from arrowslit.sandbox.isolation import cgroups
from arrowslit.sandbox.isolation.cgroups import Cgroups, Group
from arrowslit.sandbox.isolation.isolation import Limits

LIMITS = Limits(cpus=0.5, memory=1000, pids=20, workspace=200, tmp=30, shm=4)


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A /proc of a process in the group /ours, with a version 2 hierarchy below tmp_path/v2."""
    own = tmp_path / "proc" / "self"
    (own / "ns").mkdir(parents=True)
    (own / "ns" / "pid").touch()
    (own / "cgroup").write_text("0::/ours\n")
    (own / "mountinfo").write_text(f"30 24 0:26 / {tmp_path}/v2 rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n")
    return tmp_path / "proc"


def group(path: Path, controllers: str, enabled: str, processes: str = "") -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "cgroup.controllers").write_text(controllers)
    (path / "cgroup.subtree_control").write_text(enabled)
    (path / "cgroup.procs").write_text(processes)
    return path


def usable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group made of plain files cannot be removed with them in it: take its trial for granted."""
    monkeypatch.setattr(cgroups, "_writable", lambda version, path, found: True)


def test_groups_are_made_beside_us_where_the_controllers_are_delegated(
    proc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usable(monkeypatch)
    ours = group(tmp_path / "v2" / "ours", "cpu memory pids io", "cpu memory pids")

    found = cgroups.find(proc)

    assert found.places == ((2, ours, ("memory", "cpu", "pids")),)
    assert found.controllers == {"memory": 2, "cpu": 2, "pids": 2}


def test_a_worker_alone_in_its_group_moves_into_a_leaf_and_enables_them(
    proc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usable(monkeypatch)
    ours = group(tmp_path / "v2" / "ours", "cpu memory pids", "", f"{os.getpid()}\n")
    group(ours / "arrowslit-worker", "", "")

    found = cgroups.find(proc)

    assert found.controllers == {"memory": 2, "cpu": 2, "pids": 2}
    assert (ours / "arrowslit-worker" / "cgroup.procs").read_text() == "0"
    assert (ours / "cgroup.subtree_control").read_text() == "+memory +cpu +pids"


def test_others_in_its_group_are_not_moved(proc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usable(monkeypatch)
    ours = group(tmp_path / "v2" / "ours", "cpu memory pids", "", f"{os.getpid()}\n1\n")

    cgroups.find(proc)

    assert not (ours / "arrowslit-worker").exists()


def test_without_any_there_are_none(proc: Path, tmp_path: Path) -> None:
    group(tmp_path / "v2" / "ours", "hugetlb", "hugetlb")

    assert cgroups.find(proc).controllers == {}


def test_what_a_session_is_set_to() -> None:
    """Files lie in memory, so their room is added to the memory of processes."""
    both = Cgroups(((2, Path("/two"), ("memory", "cpu", "pids")), (1, Path("/one"), ("memory", "cpu", "pids"))))

    assert both.groups("s", LIMITS) == (
        Group(
            Path("/two/s"),
            (
                ("memory.max", "1234"),
                ("memory.swap.max", "0"),
                ("cpu.max", "50000 100000"),
                ("pids.max", "21"),
            ),
        ),
        Group(
            Path("/one/s"),
            (
                ("memory.limit_in_bytes", "1234"),
                ("memory.swappiness", "0"),
                ("memory.kmem.tcp.limit_in_bytes", "67108864"),
                ("cpu.cfs_period_us", "100000"),
                ("cpu.cfs_quota_us", "50000"),
                ("pids.max", "21"),
            ),
        ),
    )


def test_hits_are_counted(tmp_path: Path) -> None:
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 7\noom 3\noom_kill 2\noom_group_kill 0\n")
    (tmp_path / "pids.events").write_text("max 5\n")

    assert cgroups.hits([Group(tmp_path, ())]) == {"memory": 2, "pids": 5}


def test_only_what_belongs_to_a_dead_worker_is_swept(tmp_path: Path) -> None:
    own = Path("/proc/self/ns/pid").stat().st_ino
    begun = cgroups.started(os.getpid())
    names = {
        f"arrowslit-{own}-{os.getpid()}-{begun}-1": True,
        f"arrowslit-{own}-{os.getpid()}-{begun + 1}-1": False,  # the number was given to another
        f"arrowslit-{own}-4194305-77-2": False,
        f"arrowslit-{own + 1}-4194305-77-2": True,  # of another container: nobody can tell
        "arrowslit-worker": True,
        "arrowslit-something-else": True,
        "user.slice": True,
    }
    for name in names:
        (tmp_path / name).mkdir()

    left = Cgroups(((1, tmp_path, ("pids",)),)).sweep()

    assert left == []
    assert {name: (tmp_path / name).exists() for name in names} == names
