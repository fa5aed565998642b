"""The life of `arrowslit sandbox run`, one command in a fresh sandbox; and of `arrowslit sandbox doctor`."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from arrowslit.app.build.surroundings import open_surroundings
from arrowslit.app.config import IsolationConfig
from arrowslit.errors import Error
from arrowslit.policy.egress import Rule
from arrowslit.sandbox.egress.attempt import Attempt, Record
from arrowslit.sandbox.egress.variables import environment_for_sandbox
from arrowslit.sandbox.isolation.isolation import Command, Ended, Limits, Output, Report, Sandbox, Why
from arrowslit.sandbox.place import PROXY, PROXY_PORT, Surroundings, serve_egress

LARGEST = Limits().file  # bytes of a file that is put into the workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """What `arrowslit sandbox run` was told. `files` are put into the workspace under their names; `max_output` is
    bytes of both streams together, None for no bound.
    """

    argv: tuple[str, ...]
    isolation: IsolationConfig
    rules: tuple[Rule, ...] = ()
    files: tuple[Path, ...] = ()
    timeout: float | None = None
    max_output: int | None = None


@dataclass(slots=True)
class Ran:
    """How a command ended, and what it tried to reach."""

    report: Report
    ended: Ended
    attempts: list[Attempt] = field(default_factory=list)


async def run(config: RunConfig, show: Callable[[Output], None]) -> Ran:
    """Run one command in a fresh sandbox; `show` gets its output as it comes.

    Raises Error `sandbox_unavailable`, `sandbox_ended`; `usage` for a file that cannot be put there.
    """
    attempts: list[Attempt] = []

    async def keep(attempt: Attempt) -> None:
        attempts.append(attempt)

    async with open_surroundings(config.isolation, config.rules) as around, _sandbox(around) as sandbox:
        for path in config.files:
            await _put(sandbox, path)
        async with _way_out(sandbox, around, keep) as variables:
            command = Command(argv=config.argv, env=variables, timeout=config.timeout, max_output=config.max_output)
            ended = await _follow(sandbox, command, show)
    return Ran(around.isolation.report, ended, attempts)


@asynccontextmanager
async def _sandbox(around: Surroundings) -> AsyncIterator[Sandbox]:
    sandbox = await around.isolation.open("run", listen=PROXY_PORT if around.egress else None)
    try:
        yield sandbox
    finally:
        await sandbox.close()


@asynccontextmanager
async def _way_out(sandbox: Sandbox, around: Surroundings, record: Record) -> AsyncIterator[Mapping[str, str]]:
    """Let out what the rules allow, meanwhile; gives the environment that leads there."""
    if sandbox.listener is None:
        yield {}
        return
    serving = asyncio.create_task(serve_egress(sandbox, around, record))  # a group would wrap what the block raises
    try:
        yield environment_for_sandbox(PROXY, around.rules)
    finally:
        serving.cancel()
        await asyncio.wait({serving})
    if not serving.cancelled():
        serving.result()


async def _follow(sandbox: Sandbox, command: Command, show: Callable[[Output], None]) -> Ended:
    process = await sandbox.start(command)
    try:
        while (output := await process.read()) is not None:
            show(output)
        return await process.wait()
    finally:
        process.kill()


async def _put(sandbox: Sandbox, path: Path) -> None:
    """Write a file of this machine into the workspace, under its name. It keeps its permission to be executed."""
    try:
        content, mode = await asyncio.to_thread(_read, path)
    except OSError as error:
        raise Error("usage", f"{path} cannot be read: {error.strerror}", hint="--file takes a file") from error
    script = f'cat > "./$1" && chmod {0o755 if mode else 0o644:o} "./$1"'
    ended = await _follow(sandbox, Command(argv=("/bin/sh", "-c", script, "sh", path.name), stdin=content), _nothing)
    if ended.why is not Why.EXIT or ended.status:
        raise Error("usage", f"{path} does not fit into the workspace", hint=f"a file may have {LARGEST >> 20} MiB")


def _read(path: Path) -> tuple[bytes, int]:
    """A regular file of at most the size that a sandbox takes, and its bits for executing. A device or a pipe, which
    may have no end, is not read. Raises OSError; Error `usage`.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise Error("usage", f"{path} is no regular file", hint="--file takes a file")
        if found.st_size > LARGEST:
            raise Error("usage", f"{path} is too large", hint=f"a file may have {LARGEST >> 20} MiB")
        return file.read(LARGEST), found.st_mode & 0o111


def _nothing(_: Output) -> None:
    """What is said when all goes well."""


async def doctor(config: IsolationConfig) -> Report:
    """What the isolation keeps, proved in a probe. Raises Error `sandbox_unavailable` with what is missing."""
    async with open_surroundings(config) as around:
        return around.isolation.report
