from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.machine import usage
from benchmarks.machine.process import ROOT, Failed, Program, python
from benchmarks.scenarios.scenario import delay_line, fast
from tests.harness import until

STARTS_ONE = """
import sys, time
from pathlib import Path
from benchmarks.machine.process import Program
deaf = "import time; print('ready', flush=True); time.sleep(60)"
with Program(Path(sys.argv[1]), [sys.executable, "-c", deaf], speaks=True) as program:
    program.line()
    print(program.pid, flush=True)
    time.sleep(60)
"""


def test_the_stat_of_a_process_is_read_whatever_its_name_is() -> None:
    fields = "S 41 7 7 0 -1 4194560 5 0 0 0 250 150 60 40 20 0 1 0 99 0 0"

    assert usage.parse_stat(f"42 (a (b) 1 2 c) {fields}", 100) == usage.Stat(parent=41, seconds=5.0)


def test_memory_is_read_in_kib_and_missing_is_none_at_all() -> None:
    status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n"

    assert usage.parse_kib(status, "VmRSS") == 1024
    assert usage.parse_kib(status, "VmSwap") == 0


def test_the_children_of_a_process_are_counted_with_it() -> None:
    with subprocess.Popen([sys.executable, "-c", "x = input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in usage.tree([os.getpid()])
        assert usage.resident([os.getpid()]) > usage.resident([child.pid])


def test_the_peak_of_a_process_is_above_what_it_holds_afterwards() -> None:
    pids = [os.getpid()]
    usage.reset_peak(pids)
    held = bytearray(os.urandom(1)) * (64 << 20)
    del held

    assert usage.peak(pids) > usage.resident(pids) + 40


def test_nothing_is_left_running_when_the_run_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STARTS_ONE, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        pid = int(run.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        run.send_signal(signal.SIGKILL)

    until(lambda: not usage.resident([pid]), "the program has ended with the run")


def test_a_program_that_ends_before_it_is_ready_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    ends = [sys.executable, "-c", "import sys; sys.exit('no luck')"]

    with Program(tmp_path, ends, speaks=True) as program, pytest.raises(Failed, match="no luck"):
        program.line()


def test_a_program_that_says_nothing_is_not_waited_for_longer_than_told(tmp_path: Path) -> None:
    with Program(tmp_path, python("benchmarks.upstreams.fast"), speaks=True) as program:
        program.line()
        with pytest.raises(Failed, match="said nothing"):
            program.line(patience=0.01)


def test_what_takes_the_long_way_is_late_and_whole(tmp_path: Path) -> None:
    request = b"GET / HTTP/1.1\r\n\r\n"
    with (
        fast(tmp_path) as port,
        delay_line(tmp_path, port, 60) as far,
        socket.create_connection(("127.0.0.1", far), timeout=5) as caller,
    ):
        begun = time.monotonic()
        caller.sendall(request)
        first = caller.recv(4096)
        took = time.monotonic() - begun
        caller.sendall(request * 3)
        rest = b""
        while len(rest) < 3 * len(first):
            rest += caller.recv(4096)

    assert first.startswith(b"HTTP/1.1 405")
    assert took >= 0.058
    assert rest == first * 3
