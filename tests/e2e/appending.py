"""A tunnel to the server `append`, which keeps a log of its own of everything that it executed."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import programs
import psutil

from tests.e2e.door import MODERN, Door
from tests.e2e.stage import Stage, served
from tests.harness import Relay
from tests.support import processes
from tests.support.lines import whole_lines

LONG = 60_000
"""Milliseconds that a tool works: longer than any test waits."""


@dataclass(frozen=True, slots=True)
class Appending:
    """`stage` with the tools `append` (a write) and `read` (which leaves a line `read TEXT` as well)."""

    stage: Stage
    log: Path

    @property
    def lines(self) -> list[str]:
        """What was executed, in order."""
        return [line.decode() for line in whole_lines(self.log)]

    @property
    def server(self) -> psutil.Process:
        """The server's process."""
        found = processes.below(program="append.py")
        return next(each for each in found if processes.variable(each, "APPEND_LOG") == str(self.log))

    def client(self) -> AbstractAsyncContextManager[Door]:
        """A client of the modern era: on stdio all of them share one process, over HTTP they have no sessions."""
        return self.stage.door("acme", MODERN)


@contextmanager
def appending(relay: Relay, kind: str, folder: Path, *options: str) -> Iterator[Appending]:
    """Serve it over `stdio` or `http`; `options` are the connector's."""
    log = folder / "executed"
    with _target(kind, log) as target:
        words = [*(["--pass-env", "APPEND_LOG"] if kind == "stdio" else []), *options]
        with served(relay, target, ["append", "read"], *words, env={"APPEND_LOG": str(log)}) as stage:
            yield Appending(stage, log)


@contextmanager
def _target(kind: str, log: Path) -> Iterator[str]:
    if kind == "stdio":
        yield f"stdio:{shlex.join(programs.command('append'))}"
    else:
        with programs.over_http("append", {"APPEND_LOG": str(log)}) as url:
            yield url
