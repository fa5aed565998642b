"""Host: a process that has sandboxes, as root or as an ordinary user, and what the tests ask of it."""

from __future__ import annotations

import base64
import itertools
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import arrowslit

Half = Literal["root", "ordinary"]
SYSTEM_PYTHON = "/usr/bin/python3"
SESSION_UIDS = (1_900_000_000, 1_900_000_100)
ORDINARY_UID = 1_900_001_000
LIMITS = {"memory": 192 << 20, "workspace": 300 << 20, "files": 20_000}  # smaller, so that the attacks end sooner

NEEDED = ("__init__.py", "errors.py", "outcome.py", "sandbox/__init__.py")

PRELUDE = """
import ctypes, errno, os, socket, struct, sys
NUMBERS = %r
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
def sc(name, *arguments):
    "A system call by its name: what it returns, and the number of the error"
    ctypes.set_errno(0)
    number = NUMBERS[name] if isinstance(name, str) else name
    given = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    return _libc.syscall(ctypes.c_long(number), *given), ctypes.get_errno()
def t(name, *arguments, ok=lambda r, e: r >= 0):
    r, e = sc(name, *arguments)
    print("ESCAPED" if ok(r, e) else "blocked", name, r, errno.errorcode.get(e, e))
def refused(name, *arguments):
    "As t, for calls that fail anyway: the filter has to be what refuses"
    t(name, *arguments, ok=lambda r, e: e not in (errno.EPERM, errno.ENOSYS))
def op(path, flags=os.O_RDWR):
    try:
        os.close(os.open(path, flags))
        print("ESCAPED", path)
    except OSError as error:
        print("blocked", path, errno.errorcode[error.errno])
"""


def numbers() -> dict[str, int]:
    """The numbers of this machine's system calls."""
    text = (Path(__file__).parent / "isolation" / f"syscalls_{platform.machine()}.txt").read_text()
    return {name: int(number) for number, name in (line.split() for line in text.splitlines())}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command printed (as latin-1), how it ended, which limits it hit."""

    stdout: str
    stderr: str
    why: str
    status: int
    limits: tuple[str, ...]
    seconds: float
    cpu: float
    reason: str

    @property
    def text(self) -> str:
        """Both streams."""
        return self.stdout + self.stderr


class Host:
    """A running host.py."""

    def __init__(self, process: subprocess.Popen[str], half: Half, hand: socket.socket) -> None:
        self.process = process
        self.half = half
        self._hand = hand
        self._numbers = itertools.count(1)
        self._answers: dict[int, dict[str, Any]] = {}
        self._prelude = PRELUDE % numbers()
        first = self._line()
        self.error: str | None = first["error"][0] if "error" in first else None
        self.report: Mapping[str, Any] = first.get("report", {})

    def open(self, name: str = "one") -> None:
        """A new sandbox of that name."""
        self._ask({"open": name})

    def refusal(self, name: str) -> str:
        """Try for a new sandbox: why there is none, empty if there is."""
        return str(self._wait(self._send({"open": name})).get("error", ""))

    def open_with_egress(self, name: str, port: int) -> socket.socket:
        """A new sandbox of that name, and a copy of its listener at that port inside."""
        self._ask({"open": name, "listen": port})
        _, (fd,), _, _ = socket.recv_fds(self._hand, 64, 1)
        return socket.socket(fileno=fd)

    def close(self, name: str = "one") -> None:
        """End it."""
        self._ask({"close": name})

    def run(self, *argv: str, name: str = "one", **command: Any) -> Answer:
        """Run a command in a sandbox to its end."""
        return self.answer(self.begin(*argv, name=name, **command))

    def begin(self, *argv: str, name: str = "one", **command: Any) -> int:
        """Run a command; `answer` waits for it. Its input may be bytes."""
        if "stdin" in command:
            command["stdin"] = base64.b64encode(command["stdin"]).decode()
        return self._send({"run": name, "command": {"argv": argv, "timeout": 20, **command}})

    def answer(self, number: int) -> Answer:
        """What became of what `begin` began."""
        found = self._wait(number)
        return Answer(**{field: found[field] for field in Answer.__slots__} | {"limits": tuple(found["limits"])})

    def shell(self, script: str, name: str = "one", **command: Any) -> Answer:
        """Run a line of bash."""
        return self.run("/bin/bash", "-c", script, name=name, **command)

    def python(self, script: str, name: str = "one", **command: Any) -> Answer:
        """Run Python, with helpers for system calls: `sc`, `t`, `refused`, `op`."""
        return self.run("python3", "-I", "-S", "-c", self._prelude + script, name=name, **command)

    def start(self, script: str, name: str = "one") -> None:
        """Start a line of bash that may go on, and do not wait for it."""
        argv = ("/bin/bash", "-c", script)
        self._ask({"start": name, "command": {"argv": argv, "timeout": None, "leftovers": "keep"}})

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        found = self._wait(self._send(question))
        assert "error" not in found, found
        return found

    def _send(self, question: dict[str, Any]) -> int:
        number = next(self._numbers)
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(question | {"number": number}) + "\n")
        self.process.stdin.flush()
        return number

    def _wait(self, number: int) -> dict[str, Any]:
        while number not in self._answers:
            found = self._line()
            self._answers[found["number"]] = found
        return self._answers.pop(number)

    def _line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the host has ended"
        found: dict[str, Any] = json.loads(line)
        return found


@contextmanager
def host(
    half: Half, *, environment: Mapping[str, str] | None = None, through: Sequence[str] = (), **settings: Any
) -> Iterator[Host]:
    """A host of one kind. As root, the ordinary one is a user that nobody is, and runs on the system's Python.

    `through` is a command that becomes it.
    """
    becoming = half == "ordinary" and os.geteuid() == 0
    given = {
        "limits": LIMITS,
        "uids": SESSION_UIDS if half == "root" else None,
        "allow_degraded": [] if half == "root" else ["memory", "cpu", "pids"],
        **settings,
    }
    ours, theirs = socket.socketpair()
    with sources() as folder, ours, theirs:
        process = subprocess.Popen(
            [
                *through,
                SYSTEM_PYTHON if becoming else sys.executable,
                "-I",
                f"{folder}/host.py",
                str(folder),
                json.dumps(given),
                str(theirs.fileno()),
            ],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PATH": os.defpath, **(environment or {})},
            cwd="/",
            user=ORDINARY_UID if becoming else None,
            group=ORDINARY_UID if becoming else None,
            extra_groups=[] if becoming else None,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        with process.stdout:
            try:
                yield Host(process, half, ours)
            finally:
                with process.stdin:
                    pass
                try:
                    process.wait(10)
                finally:
                    process.kill()
                    process.wait()


@contextmanager
def sources() -> Iterator[Path]:
    """A copy of what a host needs of our sources, which any user may read."""
    with tempfile.TemporaryDirectory(prefix="arrowslit-host-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        ours = Path(arrowslit.__file__).parent
        shutil.copytree(ours / "sandbox" / "isolation", folder / "arrowslit" / "sandbox" / "isolation")
        for name in NEEDED:
            shutil.copy(ours / name, folder / "arrowslit" / name)
        shutil.copy(Path(__file__).with_name("host.py"), folder)
        yield folder
