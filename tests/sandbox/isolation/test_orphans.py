from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from arrowslit.sandbox.isolation import orphans, warden
from arrowslit.sandbox.isolation.argv import RUNNER

SLEEP = "import time; print('on', flush=True); time.sleep(60)"
START = f"import subprocess, sys; subprocess.run(['bwrap', '-c', *sys.argv[1:3]], executable={sys.executable!r})"


@contextmanager
def called(name: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Python that goes by another name; something in it sleeps."""
    with subprocess.Popen((name, *arguments), executable=sys.executable, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def test_a_bubblewrap_without_its_warden_is_killed() -> None:
    with called("/usr/bin/bwrap", "-c", SLEEP, RUNNER) as orphan:
        assert orphan.pid in orphans.sweep()
        assert orphan.wait(5) == -9


def test_one_with_its_warden_is_not() -> None:
    with called("python", "-c", START, SLEEP, RUNNER, warden.__file__) as parent:
        swept = orphans.sweep()
        assert parent.poll() is None
        child = int(subprocess.run(["pgrep", "-P", str(parent.pid)], capture_output=True, check=True).stdout)
        assert child not in swept

        parent.kill()
        parent.wait()
        assert child in orphans.sweep()


def test_what_is_not_ours_is_nobody_we_know() -> None:
    with called("bwrap", "-c", SLEEP, "/run/somebody/else.py") as one, called("vim", "-c", SLEEP, RUNNER) as two:
        assert not {one.pid, two.pid} & set(orphans.sweep())
        assert one.poll() is two.poll() is None
