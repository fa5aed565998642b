"""H6: a worker that is killed at any moment leaves no process, mount, cgroup or file."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from arrowslit.sandbox.isolation import cgroups
from arrowslit.sandbox.isolation.probe import CANARY
from tests.harness import until
from tests.sandbox.families import PATIENCE, family, groups, kill, sleepers
from tests.sandbox.hosts import Half, Host, host
from tests.sandbox.worker.kit import WALLS
from tests.support.processes import alive, below, words

BOMB = "bomb(){ bomb | bomb & }; bomb; sleep 60"


def in_a_command(script: str, count: int = 1) -> Callable[[Host], None]:
    """While a line of bash runs: once so many processes of its own are there."""

    def bring(worker: Host) -> None:
        before = len(family(worker))
        worker.begin("/bin/bash", "-c", script, timeout=None, max_output=None)
        until(lambda: len(family(worker)) >= before + count, "it runs")

    return bring


def opening(worker: Host) -> None:
    """Some are half way there."""
    before = len(family(worker))
    for number in range(8):
        worker._send({"open": f"more {number}"})
    until(lambda: len(family(worker)) > before + 2, "some are starting")


def closing(worker: Host) -> None:
    """Some are gone, some are not."""
    for number in range(6):
        worker.open(f"more {number}")
        worker.start("sleep 60", name=f"more {number}")
    before = len(family(worker))
    for number in range(6):
        worker._send({"close": f"more {number}"})
    until(lambda: len(family(worker)) < before, "the first is gone")


def reading(worker: Host) -> None:
    """A command has its input before it."""
    worker.begin("/bin/sh", "-c", "head -c 100 >/dev/null; sleep 60", stdin=bytes(1 << 20), timeout=None)
    until(lambda: sleepers(worker), "it has read a little")


def getting_out(worker: Host) -> None:
    """A connection from inside is open."""
    with worker.open_with_egress("out", 3128) as listener:
        worker.begin("/bin/bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/3128; cat <&3", name="out", timeout=None)
        listener.settimeout(PATIENCE)
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"a little")


def held(worker: Host) -> None:
    """Process 1 of a sandbox cannot do anything."""
    in_a_command("sleep 60")(worker)
    for each in family(worker):
        if "/run/arrowslit/runner.py" in words(each)[1:6]:
            each.suspend()


def after_one(worker: Host) -> None:
    """A command has ended, and no other has begun."""
    assert worker.shell("echo done > f; cat f").stdout == "done\n"


MOMENTS: dict[str, Callable[[Host], None]] = {
    "nothing runs": lambda worker: worker.close(),
    "a sandbox is open": lambda worker: None,
    "sandboxes open": opening,
    "sandboxes close": closing,
    "a command runs": in_a_command("sleep 60"),
    "a command runs that ignores signals, and another session": in_a_command(
        "trap '' TERM HUP INT; setsid sleep 60 & sleep 60", 3
    ),
    "a command forks and forks": in_a_command(BOMB, 20),
    "a command floods the worker": in_a_command("yes"),
    "a command fills its workspace": in_a_command("cat /dev/zero > f; sleep 60", 2),
    "a command reads its input": reading,
    "a command gets out": getting_out,
    "two commands are over and to come": after_one,
    "process 1 is held": held,
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_h6_a_worker_killed_while(moment: str, half: Half) -> None:
    mounts = Path("/proc/self/mountinfo").read_text()
    with host(half) as worker:
        assert worker.error is None, worker.error
        worker.open()
        MOMENTS[moment](worker)
        before = family(worker)
        assert before

        kill(worker.process.pid)

        until(lambda: not alive(before), "no process left", patience=PATIENCE)
        until(lambda: not groups(worker), "no cgroup left", patience=PATIENCE)
    assert Path("/proc/self/mountinfo").read_text() == mounts
    assert files(worker.process.pid) == []


def test_h6_a_worker_killed_while_it_proves_its_isolation_leaves_nothing_after_the_next_start() -> None:
    """Not even the file that its probe must not see."""
    command = [sys.executable, "-m", "arrowslit", "sandbox", "doctor", *WALLS]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as doctor:
        until(lambda: files(doctor.pid), "it looks")
        before = below(doctor.pid)
        doctor.kill()
    left = files(doctor.pid)
    until(lambda: not alive(before), "no process left", patience=PATIENCE)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=20)

    assert len(left) == 1
    assert not left[0].exists()


def files(worker: int) -> list[Path]:
    """What the probe of this worker made on this machine, and nobody else's."""
    return list(Path(tempfile.gettempdir()).glob(f"{cgroups.PREFIX}*-{worker}-*{CANARY}"))
