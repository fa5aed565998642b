"""Sandbox: the worker that runs the code of the story's agent, with the walls that this machine and user can have."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from arrowslit.demo.child import Child
from arrowslit.errors import Error

UIDS = "1910000000-1910000009"  # of sessions, for root: below are real users, and the ranges that systemd gives away
BEST_EFFORT = "memory,cpu,pids"  # what an ordinary user's worker may be allowed to keep only as well as it can
OPTIONS = ("--capacity", "4", "--idle", "200ms")
POSSIBLE = sys.platform == "linux"  # elsewhere the story is told without it


class Sandbox:
    """`arrowslit sandbox` for one environment. Where it refuses to start the rest of the story goes on without it."""

    def __init__(self, folder: Path, relay: str, environment: str, key: str) -> None:
        self._walls = ("--uid-range", UIDS) if os.geteuid() == 0 else ("--allow-degraded", BEST_EFFORT)
        words = ("sandbox", "--environment", environment, "--state", str(folder / "sandbox"), "--json")
        variables = {"ARROWSLIT_RELAY": relay, "ARROWSLIT_ENVIRONMENT_KEY": key}
        self._worker = Child((*words, *OPTIONS, *self._walls), folder / "sandbox.log", variables)
        self.refused: Error | None = None

    async def start(self) -> str:
        """Start it; a sentence about it. What stands in its way is kept in `refused`."""
        try:
            said = json.loads(await self._worker.start())
        except Error as error:
            self.refused = error
            return f"does not start here: {error.message.splitlines()[-1]}"
        found = said["sandbox"]
        told = f"runs agents' code, isolated by {found['isolation']} {found['version']}, with no way out"
        if found["degraded"]:
            limits = ", ".join(found["degraded"])
            return f"{told}; best effort, as {' '.join(self._walls)} allows: {limits}"
        return f"{told}; each session is a user of its own ({' '.join(self._walls)})"

    async def stop(self) -> None:
        """Stop it."""
        await self._worker.stop()
