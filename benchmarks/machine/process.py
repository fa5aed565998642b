"""Program: a process that is bound to our life. What it prints is kept for the case that it fails."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from arrowslit.demo.process import bound

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 30.0
STOP_SECONDS = 5.0
LOG_LINES = 12  # of what a program said, in an error


class Failed(Exception):
    """A program did not do what it was started for; the text holds the end of what it said."""


def find(program: str) -> str | None:
    """The whole path of a program; those for administrators too, which are not on everybody's PATH."""
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin")


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Program:
    """A command that runs while the block does. It gets SIGINT when we die (arrowslit.demo.become), however we do.

    One that `speaks` has lines of stdout for us; what the others print there is kept with what they say on stderr.
    """

    def __init__(
        self, folder: Path, command: Sequence[str], env: Mapping[str, str] | None = None, *, speaks: bool = False
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._speaks = speaks
        self._command = bound(os.geteuid(), os.getegid(), *command)
        self._name = Path(command[0]).name
        self._log = folder / f"{self._name}.log"
        self._environment = _clean() | dict(env or {})
        self._said = b""
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it."""
        self._said = b""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if self._speaks else log,
                stderr=log,
                bufsize=0,
                start_new_session=True,  # a Ctrl-C in the terminal is for us
            )

    @property
    def pid(self) -> int:
        """Its id."""
        return self._running.pid

    def line(self, patience: float = START_SECONDS) -> str:
        """The next line of its stdout. Raises Failed if it ends before, or says nothing for `patience` seconds."""
        assert self._running.stdout is not None
        pipe = self._running.stdout.fileno()
        while b"\n" not in self._said:
            if not select.select([pipe], [], [], patience)[0]:
                raise Failed(f"{self._name} said nothing for {patience:.0f} s:\n{self._last_words()}")
            if not (more := os.read(pipe, 4096)):
                raise Failed(f"{self._name} ended before it was ready:\n{self._last_words()}")
            self._said += more
        line, _, self._said = self._said.partition(b"\n")
        return line.decode().strip()

    def say(self, line: str) -> None:
        """Write a line to its stdin."""
        assert self._running.stdin is not None
        self._running.stdin.write(f"{line}\n".encode())

    def answers_at(self, port: int) -> None:
        """Wait until something listens on that port of loopback; raises Failed if nothing does."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self._running.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            time.sleep(0.02)
        raise Failed(f"{self._name} does not listen:\n{self._last_words()}")

    def kill(self) -> None:
        """End it with SIGKILL, of which it learns nothing."""
        self._running.kill()
        self._running.wait()
        self._close()

    def stop(self) -> None:
        """Ask it to end, and see that it does, with all that it started. Nothing happens to one that has ended."""
        process = self._running
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self._close()

    def _close(self) -> None:
        for pipe in (self._running.stdin, self._running.stdout):
            if pipe is not None:
                with suppress(OSError):  # what was not read by a process that is gone
                    pipe.close()

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        return "\n".join(f"    {line}" for line in lines)


def python(module: str, *arguments: str) -> list[str]:
    """The command that runs one of our modules."""
    return [sys.executable, "-m", module, *arguments]


def _clean() -> dict[str, str]:
    """Our environment without what would lead a program elsewhere: a proxy, or the user's own relay."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ARROWSLIT_", "CLAUDE_")) and not name.lower().endswith("_proxy")
    }
