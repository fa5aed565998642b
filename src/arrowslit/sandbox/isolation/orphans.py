"""Orphans: bubblewraps of ours whose warden is gone.

They follow it into death, except in the first milliseconds: the inner one waits for the outer, and asks to die with it
only afterwards. Killed in between, it waits forever. A later worker finds it by its command line.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path, PurePath

from arrowslit.sandbox.isolation import warden
from arrowslit.sandbox.isolation.argv import RUNNER

WARDEN = "/".join(PurePath(warden.__file__).parts[-2:])  # whatever installation it is of


def sweep(proc: Path = Path("/proc")) -> list[int]:
    """Kill them. Returns which."""
    found = [int(each.name) for each in proc.iterdir() if each.name.isdigit() and _is_orphan(proc, each.name)]
    for pid in found:
        with suppress(OSError):  # it has ended; or it is somebody else's, who will find it too
            os.kill(pid, signal.SIGKILL)
    return found


def _is_orphan(proc: Path, pid: str) -> bool:
    """Whether this is a bubblewrap of ours, and its parent is neither another nor a warden."""
    if not _is_ours(_arguments(proc, pid)):
        return False
    with suppress(OSError):
        parent = (proc / pid / "stat").read_text().rpartition(")")[2].split()[1]
        arguments = _arguments(proc, parent)
        return bool(arguments) and not _is_ours(arguments) and not any(each.endswith(WARDEN) for each in arguments)
    return False


def _is_ours(arguments: list[str]) -> bool:
    return PurePath(arguments[0]).name == "bwrap" and RUNNER in arguments if arguments else False


def _arguments(proc: Path, pid: str) -> list[str]:
    """A process's command line; empty if it has ended or we may not see it."""
    with suppress(OSError):
        text = (proc / pid / "cmdline").read_text(errors="replace")
        return text.rstrip("\0").split("\0") if text else []
    return []
