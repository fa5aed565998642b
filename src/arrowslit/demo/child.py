"""Child: a command of arrowslit in a process of its own, started as its user types it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from arrowslit.app import config
from arrowslit.demo.process import bound, stop
from arrowslit.errors import Error

START_SECONDS = 60.0  # two are usual; the rest is for a machine that is busy with something else
STOP_SECONDS = 30.0  # one is usual; a relay lets running calls finish
LOG_LINES = 12  # of the log that an error shows

_OURS = ("ARROWSLIT_", "CLAUDE_TUNNEL_TOKEN")  # variables of the user's own relay are not for the demo's


class Child:
    """`python -m arrowslit WORDS`. What it says on stderr is added to the file `log`, over all of its lives.

    `variables` are added to the environment. It ends when we do (process.bound), and a Ctrl-C in our terminal is not
    for it: we stop it when we are done.
    """

    def __init__(self, words: Sequence[str], log: Path, variables: Mapping[str, str] | None = None) -> None:
        ours = {name: value for name, value in config.environment().items() if not name.startswith(_OURS)}
        self._command = (sys.executable, "-P", "-m", "arrowslit", *words)  # -P: nothing is imported from where we are
        self._log = log
        self._environment = {**ours, **(variables or {})}
        self._process: Process | None = None

    async def start(self, *more: str) -> str:
        """Start it, with `more` words, and return the first line that it prints: then it is ready.

        Raises Error `demo_failed`, with the end of its log, if there is none.
        """
        self._process = process = await self._spawn(*more)
        assert process.stdout is not None
        line = b""
        with suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                line = await process.stdout.readline()
        if not line:
            raise self._failed()
        return line.decode().strip()

    async def stop(self) -> None:
        """Ask it to end, as Ctrl-C does, and see that it does. Nothing happens to one that does not run."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGINT)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """End it with SIGKILL, of which it learns nothing."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)
            await self._process.wait()

    async def run(self) -> tuple[int, str]:
        """Run it to its end: exit status, and what it printed on stdout."""
        process = await self._spawn()
        try:
            said, _ = await process.communicate()
        finally:
            await stop(process)
        return process.returncode or 0, said.decode()

    async def _spawn(self, *more: str) -> Process:
        with self._log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *bound(os.geteuid(), os.getegid(), *self._command, *more),
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )

    def _failed(self) -> Error:
        words = "\n".join(self._log.read_text(errors="replace").splitlines()[-LOG_LINES:])
        command = " ".join(self._command[3:6])
        return Error("demo_failed", f"`{command} …` did not start; its last words:\n{words}", hint=f"read {self._log}")
