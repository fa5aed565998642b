"""Watchdog: a small process that kills the targets when the connector died without a chance to do so (kill -9)."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from contextlib import suppress
from types import TracebackType
from typing import Self

from arrowslit.connector.targets.processes import child

logger = logging.getLogger(__name__)

# Reads "+ID" and "-ID" for process groups until its input ends, which it does however the connector ends, and kills
# those that are left. A parent-death signal (prctl) would need code between fork and exec, knows only the direct child
# and only Linux; this covers the whole group and costs nothing when a target starts.
_SCRIPT = """
import os, signal, sys
groups = set()
for line in sys.stdin:
    (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except OSError:
        pass
"""

EXIT_LIMIT = 2.0  # seconds; it has nothing to do but to end


class Watchdog:
    """Knows the process groups that must not outlive this process."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        self._process = child.spawn((sys.executable, "-I", "-S", "-c", _SCRIPT), {}, output=subprocess.DEVNULL)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is None or self._process.stdin is None:
            return
        self._process.stdin.close()
        try:
            async with asyncio.timeout(EXIT_LIMIT):
                await child.ended(self._process)
        except TimeoutError:
            self._process.kill()
        self._process.wait()

    def watch(self, group: int) -> None:
        """Kill this process group when we are gone."""
        if not self._say(f"+{group}\n"):
            logger.warning("the watchdog is gone: a target may outlive a connector that is killed")

    def forget(self, group: int) -> None:
        """The group is empty; its number may be given to others."""
        self._say(f"-{group}\n")

    def _say(self, line: str) -> bool:
        """Whether the watchdog could be told; it reads at once, so that a few bytes never wait."""
        with suppress(OSError, ValueError):
            if self._process is not None and self._process.stdin is not None:
                os.write(self._process.stdin.fileno(), line.encode())
                return True
        return False
