"""What processes take, from Linux's /proc (proc(5)): time of the processor, memory now, and memory at most."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
KIB_PER_MIB = 1024
RESET_PEAK = "5"  # written to clear_refs: the peak is from here on


@dataclass(frozen=True, slots=True)
class Stat:
    """What /proc/PID/stat says: the parent, and the seconds of processor time, those of children that ended
    included.
    """

    parent: int
    seconds: float


def parse_stat(text: str, ticks: int) -> Stat:
    """PURE. The second field is the program's name in brackets, which may hold anything; `ticks` make a second."""
    fields = text.rpartition(")")[2].split()
    return Stat(int(fields[1]), sum(map(int, fields[11:15])) / ticks)


def parse_kib(status: str, field: str) -> int:
    """PURE. A field of /proc/PID/status in KiB, 0 where it is missing."""
    for line in status.splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    return 0


def tree(roots: Iterable[int]) -> set[int]:
    """These processes and all below them."""
    parents = {pid: stat.parent for pid, stat in _stats().items()}
    found = set(roots) & parents.keys()
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def seconds(roots: Iterable[int]) -> float:
    """The processor time that these processes and those below them have taken so far."""
    stats = _stats()
    return sum(stats[pid].seconds for pid in tree(roots) if pid in stats)


def resident(roots: Iterable[int]) -> float:
    """Resident memory of these processes and those below them, in MiB. What they share is counted for each."""
    return sum(parse_kib(_status(pid), "VmRSS") for pid in tree(roots)) / KIB_PER_MIB


def proportional(roots: Iterable[int]) -> float | None:
    """Memory of these processes and those below them, in MiB, what is shared divided among those that share it (PSS).
    None where that may not be read.
    """
    try:
        return sum(parse_kib(_rollup(pid), "Pss") for pid in tree(roots)) / KIB_PER_MIB
    except PermissionError:
        return None


def reset_peak(roots: Iterable[int]) -> None:
    """Let `peak` begin anew."""
    for pid in tree(roots):
        (PROC / str(pid) / "clear_refs").write_text(RESET_PEAK)


def peak(roots: Iterable[int]) -> float:
    """The most resident memory that these processes and those below them had since `reset_peak`, in MiB."""
    return sum(parse_kib(_status(pid), "VmHWM") for pid in tree(roots)) / KIB_PER_MIB


def _status(pid: int) -> str:
    with suppress(OSError):
        return (PROC / str(pid) / "status").read_text()
    return ""


def _rollup(pid: int) -> str:
    try:
        return (PROC / str(pid) / "smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        return ""


def _stats() -> dict[int, Stat]:
    ticks = os.sysconf("SC_CLK_TCK")
    found = {}
    for each in PROC.iterdir():
        if each.name.isdecimal():
            with suppress(OSError):  # it ended meanwhile
                found[int(each.name)] = parse_stat((each / "stat").read_text(), ticks)
    return found
