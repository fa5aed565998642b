"""What runs and lies around because of a worker's process, as the machine sees it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil

from tests.sandbox.hosts import Host
from tests.support.processes import below, of_each

GROUPS = Path("/sys/fs/cgroup")
PATIENCE = 5.0  # seconds; what is promised after a kill


def family(worker: Host) -> list[psutil.Process]:
    """Everything that runs because of a worker: its warden, bubblewrap, runners, commands."""
    return below(worker.process.pid)


def sleepers(worker: Host) -> list[psutil.Process]:
    """Those of its processes that sleep on command."""
    return [each for each in family(worker) if of_each([each], psutil.Process.name) == ["sleep"]]


def groups(worker: Host) -> list[Path]:
    """The cgroups of a worker's sessions."""
    return [path for path in GROUPS.rglob("arrowslit-*") if f"-{worker.process.pid}-" in path.name]


def kill(process: psutil.Process | int) -> None:
    os.kill(process if isinstance(process, int) else process.pid, signal.SIGKILL)
