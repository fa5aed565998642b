"""What is planted on this machine for attacks to find: a variable, a file, sockets, shared memory, a process."""

from __future__ import annotations

import ctypes
import os
import secrets
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

SECRET = "CANARY-5f0c91"
SEGMENT = 40_961  # bytes: a size that nobody else asks for
IPC_CREAT, IPC_RMID = 0o1000, 0


@dataclass(frozen=True, slots=True)
class Canaries:
    """Where they are. `environment` is what the worker has in its own."""

    environment: Mapping[str, str]
    file: str
    abstract: str
    local: str
    port: int
    process: subprocess.Popen[bytes]

    def names(self) -> dict[str, str]:
        """For the text of an attack."""
        return {"FILE": self.file, "ABSTRACT": self.abstract, "PORT": str(self.port), "PID": str(self.process.pid)}


@contextmanager
def planted() -> Iterator[Canaries]:
    """Plant them, and take them away."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="arrowslit-canaries-")))
        folder.chmod(0o755)
        (folder / "secret").write_text(SECRET)
        (folder / "secret").chmod(0o644)
        abstract = f"sbxcanary-{secrets.token_hex(8)}"  # two plantings of one process stand side by side
        for name in ("\0" + abstract, f"{folder}/socket"):
            local = stack.enter_context(socket.socket(socket.AF_UNIX))
            local.bind(name)
            local.listen()
        (folder / "socket").chmod(0o666)
        public = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        process = stack.enter_context(subprocess.Popen(["sleep", "600"]))
        stack.callback(process.kill)
        stack.enter_context(_segment())
        environment = {"CANARY": SECRET, "ANTHROPIC_API_KEY": SECRET}
        at = public.getsockname()[1]
        yield Canaries(environment, str(folder / "secret"), abstract, str(folder / "socket"), at, process)


@contextmanager
def _segment() -> Iterator[None]:
    """System V shared memory that anybody may read."""
    libc = ctypes.CDLL(None, use_errno=True)
    identity = libc.shmget(0, SEGMENT, IPC_CREAT | 0o666)
    assert identity >= 0, os.strerror(ctypes.get_errno())
    try:
        yield
    finally:
        libc.shmctl(identity, IPC_RMID, None)
