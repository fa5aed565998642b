"""`arrowslit sandbox` in a process of its own, with the walls that whoever runs the tests can have."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from tests.harness import Program
from tests.support.lines import records
from tests.support.processes import below, words

UIDS = "1900003000-1900003099"
WALLS = ("--uid-range", UIDS) if os.geteuid() == 0 else ("--allow-degraded", "memory,cpu,pids")
"""Root gives each session a user that nobody is; others do without limits that this machine does not delegate."""

GROUPS = Path("/sys/fs/cgroup")


class Sandboxes(Program):
    """A worker for an environment at `url`. Its state and output are in `folder`."""

    def __init__(
        self,
        folder: Path,
        url: str,
        environment: str,
        key: str,
        *options: str,
        walls: Sequence[str] = WALLS,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.state = folder / "state"
        words = ["sandbox", "--environment", environment, "--state", str(self.state), "--idle", "300ms", *options]
        use = {"ARROWSLIT_RELAY": url, "ARROWSLIT_ENVIRONMENT_KEY": key}
        super().__init__(folder, words if "--isolation" in options else [*words, *walls], {**use, **(env or {})})

    def wait_ready(self) -> None:
        """Returns once it has printed its name: the isolation is proved."""
        self.wait_for_out(".")

    @property
    def records(self) -> list[dict[str, Any]]:
        """Its own ledger."""
        return records(sorted((self.state / "ledger").glob("*.jsonl")))

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Its records of one kind."""
        return [each for each in self.records if each["kind"] == kind]

    @property
    def family(self) -> list[psutil.Process]:
        """Everything that runs because of it."""
        return below(self.pid)

    def sleeping(self, seconds: str) -> list[psutil.Process]:
        """Those of its processes that sleep so long."""
        return [each for each in self.family if words(each) == ["sleep", seconds]]

    @property
    def groups(self) -> list[Path]:
        """The cgroups of its sessions."""
        return [path for path in GROUPS.rglob("arrowslit-*") if f"-{self.pid}-" in path.name]
