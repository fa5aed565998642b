"""Isolation and Sandbox: what the worker needs of the walls around a session's code, whoever builds them; and Limits,
Report, Command and what comes back from one.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType, TracebackType
from typing import Literal, Protocol, Self

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

WORKSPACE = "/workspace"

BASE_ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": WORKSPACE,
        "USER": "sandbox",
        "TMPDIR": "/tmp",  # noqa: S108 the sandbox's own
        "LANG": "C.UTF-8",
    }
)
"""What every command finds in its environment. Nothing of the worker's own is handed on."""

Degradable = Literal["memory", "cpu", "pids", "disk"]
DEGRADABLE: tuple[Degradable, ...] = ("memory", "cpu", "pids", "disk")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one session may use. Sizes are bytes.

    `memory` is for processes; the files of a session lie in memory too, and their own limits are added to it. `cpus` is
    processor time per time. `pids` counts threads. `files` is how many files `/workspace` holds without a memory
    cgroup to bound them; `file` the largest one, `open_files` per process.
    """

    cpus: float = 1.0
    memory: int = GIB
    pids: int = 128
    workspace: int = GIB
    tmp: int = 64 * MIB
    shm: int = 16 * MIB
    file: int = 256 * MIB
    files: int = 100_000
    open_files: int = 1024


@dataclass(frozen=True, slots=True)
class Feature:
    """One thing that isolation promises, what keeps it, and whether that is only a best effort."""

    name: str
    kept_by: str
    degraded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What stands between the code and this machine, as it was found from the inside. It is part of every record."""

    isolation: str
    version: str
    kernel: str
    machine: str
    features: tuple[Feature, ...] = ()

    @property
    def degraded(self) -> tuple[str, ...]:
        """The names of the features that are a best effort."""
        return tuple(feature.name for feature in self.features if feature.degraded)

    def record(self) -> dict[str, object]:
        """The same as JSON values."""
        return {
            "isolation": self.isolation,
            "version": self.version,
            "kernel": self.kernel,
            "machine": self.machine,
            "features": {
                each.name: f"best effort: {each.kept_by}" if each.degraded else each.kept_by for each in self.features
            },
            "degraded": list(self.degraded),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One program to run inside. `env` is added to BASE_ENVIRONMENT.

    `stdin` None is an empty input; `interactive` keeps it open for `Process.write`. `timeout` is seconds, `max_output`
    bytes of both streams together, None for no bound. `leftovers`: whether processes that it leaves behind are killed
    when it ends, or may go on until the sandbox is closed; after a timeout or too much output they always are.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = WORKSPACE
    stdin: bytes | None = None
    interactive: bool = False
    timeout: float | None = 120.0
    max_output: int | None = MIB
    leftovers: Literal["kill", "keep"] = "kill"


@dataclass(frozen=True, slots=True)
class Output:
    """A piece of what a command printed: bytes as they came, unfit for a terminal."""

    stream: Literal["stdout", "stderr"]
    data: bytes


class Why(StrEnum):
    """How a command came to its end. DIED: the sandbox around it did, and nobody knows how far it got."""

    EXIT = "exit"
    SIGNAL = "signal"
    NOT_STARTED = "not_started"
    TIMEOUT = "timeout"
    OUTPUT_LIMIT = "output_limit"
    KILLED = "killed"
    DIED = "died"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The end of a command. `status` as a shell has it: 128 + n for signal n, 126 or 127 if it could not be started.

    `limits` names the limits that were hit while it ran ("memory", "pids", "files"), as far as that is known. `cpu` is
    seconds of processor time and `memory` the largest process in bytes, of the command and the children it waited for;
    `seconds` of the wall clock; `output` bytes printed. `reason` is a sentence for NOT_STARTED.
    """

    why: Why
    status: int
    limits: tuple[str, ...] = ()
    cpu: float = 0.0
    memory: int = 0
    seconds: float = 0.0
    output: int = 0
    reason: str = ""


class Process(Protocol):
    """A command that runs."""

    async def read(self) -> Output | None:
        """The next piece of its output, None after the last. Nobody reads ahead: a command waits for its reader."""
        ...

    async def write(self, data: bytes) -> None:
        """Write to the input of an interactive command. Raises BrokenPipeError if it reads no more."""
        ...

    def end_input(self) -> None:
        """Close the input of an interactive command."""
        ...

    def kill(self) -> None:
        """End it and all that it started. `wait` then says KILLED."""
        ...

    async def wait(self) -> Ended:
        """Its end. What is still to be read is lost."""
        ...


class Sandbox(Protocol):
    """The place of one session."""

    @property
    def session(self) -> str:
        """Whose place it is."""
        ...

    @property
    def report(self) -> Report:
        """What it keeps."""
        ...

    @property
    def alive(self) -> bool:
        """Whether commands can run, as far as is known."""
        ...

    @property
    def listener(self) -> socket.socket | None:
        """A listening socket on the loopback address inside, if one was asked for: the only way out there is."""
        ...

    async def start(self, command: Command) -> Process:
        """Start a command beside those that run. Raises Error `sandbox_ended`."""
        ...

    def run(self, command: Command) -> AsyncGenerator[Output | Ended, None]:
        """Run a command: its output as it comes, then its end. Left early, it is killed. Raises Error
        `sandbox_ended`.
        """
        ...

    async def close(self) -> None:
        """End all that runs inside. When it returns nothing is left: no process, mount, cgroup or file."""
        ...


class Isolation(Protocol):
    """Makes sandboxes. Entered before the first; leaving it closes all."""

    @property
    def report(self) -> Report:
        """What every sandbox keeps: proved from the inside when this was entered."""
        ...

    async def __aenter__(self) -> Self:
        """Sweep what an earlier life left, prove the promises. Raises Error `sandbox_unavailable`."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def open(self, session: str, *, listen: int | None = None) -> Sandbox:
        """A new sandbox without a network. `listen`: a TCP port to listen on inside, see `Sandbox.listener`.

        Raises Error `sandbox_unavailable`.
        """
        ...
