"""What runs and lies around because of a worker's process, as the machine sees it."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import psutil

from tests.sandbox.hosts import Host

GROUPS = Path("/sys/fs/cgroup")
PATIENCE = 5.0  # seconds; what is promised after a kill


def family(worker: Host) -> list[psutil.Process]:
    """Everything that runs because of a worker: its warden, bubblewrap, runners, commands."""
    return psutil.Process(worker.process.pid).children(recursive=True)


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [each for each in processes if runs(each)]


def runs(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def sleepers(worker: Host) -> list[psutil.Process]:
    """Those of its processes that sleep on command."""
    found = []
    for each in family(worker):
        with suppress(psutil.NoSuchProcess):
            if each.name() == "sleep":
                found.append(each)
    return found


def groups(worker: Host) -> list[Path]:
    """The cgroups of a worker's sessions."""
    return [path for path in GROUPS.rglob("arrowslit-*") if f"-{worker.process.pid}-" in path.name]


def kill(process: psutil.Process | int) -> None:
    os.kill(process if isinstance(process, int) else process.pid, signal.SIGKILL)
