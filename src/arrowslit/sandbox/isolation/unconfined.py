"""Unconfined: no isolation at all, behind the same port, for a machine that is itself the sandbox.

Code runs as the worker's user, with its files, its network and its credentials. Whoever uses it has said so with a flag
that names the danger, and every record says it again.
"""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self

from arrowslit.errors import Error
from arrowslit.sandbox.isolation.isolation import (
    BASE_ENVIRONMENT,
    WORKSPACE,
    Command,
    Ended,
    Feature,
    Output,
    Report,
    Why,
)
from arrowslit.sandbox.isolation.process import Running

NOTHING = "nothing: code runs as the worker, with its files, its network and its credentials"


class Unconfined:
    """An Isolation that isolates nothing."""

    def __init__(self) -> None:
        self._places: set[Place] = set()
        self._report = Report(
            isolation="none",
            version="",
            kernel=platform.release(),
            machine=platform.machine(),
            features=(Feature("isolation", NOTHING, degraded=True),),
        )

    @property
    def report(self) -> Report:
        """Isolation: that there is none."""
        return self._report

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for place in list(self._places):
            await place.close()

    async def open(self, session: str, *, listen: int | None = None) -> Place:
        """Isolation: a folder. A listener would be the only way out of something that has a wall: there is none."""
        if listen is not None:
            raise Error(
                "sandbox_unavailable",
                "without isolation no egress rule can be kept",
                hint="allow no hosts for this environment, or use a worker with isolation",
            )
        place = Place(session, self._report)
        self._places.add(place)
        return place


class Place:
    """A Sandbox that is a folder, which stands for /workspace."""

    def __init__(self, session: str, report: Report) -> None:
        self.session = session
        self.report = report
        self.listener: socket.socket | None = None
        self.alive = True
        self._folder = Path(tempfile.mkdtemp(prefix="arrowslit-none-"))
        self._loop = asyncio.get_running_loop()
        self._running: dict[int, Running] = {}
        self._groups: set[int] = set()

    async def start(self, command: Command) -> Running:
        """Sandbox: start a command, as a group of processes of its own."""
        if not self.alive:
            raise Error("sandbox_ended", f"the sandbox of {self.session} has ended", hint="open another")
        running = Running(command, lambda: self._kill(child))
        stdout, stderr, *stdin = running.hand_out()
        child = None
        try:
            child = subprocess.Popen(  # noqa: ASYNC220 a millisecond
                command.argv,
                cwd=self._outside(command.cwd),
                env={**BASE_ENVIRONMENT, "HOME": str(self._folder), **command.env},
                stdin=stdin[0] if stdin else subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        except (OSError, ValueError, IndexError) as error:
            status = 127 if isinstance(error, FileNotFoundError) else 126
            running.ended(Ended(why=Why.NOT_STARTED, status=status, reason=str(error)))
        else:
            self._watch(child, running, command.leftovers == "keep")
        finally:
            running.handed_out()
        return running

    async def run(self, command: Command) -> AsyncGenerator[Output | Ended, None]:
        """Sandbox: run a command."""
        process = await self.start(command)
        try:
            while (output := await process.read()) is not None:
                yield output
            yield await process.wait()
        finally:
            process.kill()
            process.release()

    async def close(self) -> None:
        """Sandbox: kill every group that was started, wait for the commands, remove the folder."""
        self.alive = False
        for group in self._groups:
            _kill_group(group)
        for running in list(self._running.values()):
            await running.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _outside(self, path: str) -> Path:
        """What stands for a folder below /workspace."""
        inside = PurePosixPath(path)
        return self._folder / inside.relative_to(WORKSPACE) if inside.is_relative_to(WORKSPACE) else Path(path)

    def _watch(self, child: subprocess.Popen[bytes], running: Running, keep: bool) -> None:
        self._running[child.pid] = running
        self._groups.add(child.pid)
        process = os.pidfd_open(child.pid)

        def over() -> None:
            self._loop.remove_reader(process)
            os.close(process)
            if not keep:
                self._groups.discard(child.pid)
                _kill_group(child.pid)  # before it is collected: until then the number is its own
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            del self._running[child.pid]
            running.ended(
                Ended(
                    why=Why.SIGNAL if child.returncode < 0 else Why.EXIT,
                    status=128 - child.returncode if child.returncode < 0 else child.returncode,
                    cpu=usage.ru_utime + usage.ru_stime,
                    memory=usage.ru_maxrss * 1024,
                )
            )

        self._loop.add_reader(process, over)

    def _kill(self, child: subprocess.Popen[bytes] | None) -> None:
        if child is not None and child.returncode is None:
            _kill_group(child.pid)


def _kill_group(group: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
