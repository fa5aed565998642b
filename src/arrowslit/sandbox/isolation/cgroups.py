"""Cgroups: which of this machine's control groups we may use, how a session's are set, what an earlier life left."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from arrowslit.sandbox.isolation.isolation import Limits

CONTROLLERS = ("memory", "cpu", "pids")
PREFIX = "arrowslit-"
PERIOD = 100_000  # microseconds, the kernel's own default
BUBBLEWRAP = 1  # processes of ours beside process 1 that are counted in a session's group
TRIES = 200  # times 5 ms: how long what an earlier life left may take to die
OPTIONAL = {"memory.swappiness", "memory.swap.max", "memory.kmem.tcp.limit_in_bytes"}  # not every kernel has them
SOCKETS = 64 << 20  # bytes that may wait in sockets: the whole machine shares what there is for them


@dataclass(frozen=True, slots=True)
class Group:
    """One control group of a session: its folder, and what its files are set to before anything runs in it."""

    path: Path
    values: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Cgroups:
    """Where sessions' groups are made. `places` are (version, folder, controllers that work there)."""

    places: tuple[tuple[int, Path, tuple[str, ...]], ...] = ()

    @property
    def controllers(self) -> dict[str, int]:
        """Each controller that can be used, with the version of its hierarchy."""
        return {controller: version for version, _, found in self.places for controller in found}

    def groups(self, name: str, limits: Limits) -> tuple[Group, ...]:
        """The groups of one session, not made yet. PURE."""
        return tuple(
            Group(path / name, tuple(pair for each in found for pair in VALUES[version](each, limits)))
            for version, path, found in self.places
        )

    def sweep(self, proc: Path = Path("/proc")) -> list[str]:
        """Remove groups whose worker is gone, with all that still runs in them. Returns what could not be removed."""
        found = [path for _, place, _ in self.places for path in place.glob(f"{PREFIX}*")]
        return [str(path) for path in found if not owner_lives(path.name, proc) and not remove(path)]


def name_of(session: int, proc: Path = Path("/proc")) -> str:
    """A name for the groups of this process's n-th session: says whose they are, so that a later worker can tell."""
    return f"{PREFIX}{_namespace(proc)}-{os.getpid()}-{started(os.getpid(), proc)}-{session}"


def owner_lives(name: str, proc: Path = Path("/proc")) -> bool:
    """Whether the worker that made a group may still run. Of one in another process namespace we cannot know."""
    parts = name.removeprefix(PREFIX).split("-")
    if len(parts) != 4 or not all(part.isdigit() for part in parts):
        return True
    namespace, pid, begin, _ = parts
    return int(namespace) != _namespace(proc) or started(int(pid), proc) == int(begin)


def started(pid: int, proc: Path = Path("/proc")) -> int:
    """When a process started, in ticks since the machine did; 0 if it has ended. With its number it is unique."""
    try:
        state, *fields = (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if state in "ZX" else int(fields[18])


def _namespace(proc: Path) -> int:
    return (proc / "self" / "ns" / "pid").stat().st_ino


def _memory(limits: Limits) -> int:
    """The files of a session lie in memory, and a session whose files fill its memory could not even delete them."""
    return limits.memory + limits.workspace + limits.tmp + limits.shm


def _v1(controller: str, limits: Limits) -> Iterator[tuple[str, str]]:
    match controller:
        case "memory":
            yield "memory.limit_in_bytes", str(_memory(limits))
            yield "memory.swappiness", "0"
            yield "memory.kmem.tcp.limit_in_bytes", str(SOCKETS)  # version 2 counts them as memory
        case "cpu":
            yield "cpu.cfs_period_us", str(PERIOD)
            yield "cpu.cfs_quota_us", str(int(limits.cpus * PERIOD))
        case "pids":
            yield "pids.max", str(limits.pids + BUBBLEWRAP)


def _v2(controller: str, limits: Limits) -> Iterator[tuple[str, str]]:
    match controller:
        case "memory":
            yield "memory.max", str(_memory(limits))
            yield "memory.swap.max", "0"
        case "cpu":
            yield "cpu.max", f"{int(limits.cpus * PERIOD)} {PERIOD}"
        case "pids":
            yield "pids.max", str(limits.pids + BUBBLEWRAP)


VALUES = {1: _v1, 2: _v2}


def hits(groups: Sequence[Group]) -> dict[str, int]:
    """How often each limit has been hit: `memory` (processes killed for it), `pids` (processes refused)."""
    found = {}
    for group in groups:
        for limit, file, word in (
            ("memory", "memory.events", "oom_kill"),
            ("memory", "memory.oom_control", "oom_kill"),
            ("pids", "pids.events", "max"),
        ):
            with suppress(OSError):
                pairs = (line.split() for line in (group.path / file).read_text().splitlines())
                found[limit] = sum(int(value) for key, value in pairs if key == word)
    return found


def remove(path: Path) -> bool:
    """Kill all that is in a group and remove it. Whether it is gone."""
    for _ in range(TRIES):
        try:
            path.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            with suppress(OSError):
                for pid in (path / "cgroup.procs").read_text().split():
                    with suppress(OSError):
                        os.kill(int(pid), signal.SIGKILL)
            time.sleep(0.005)
        else:
            return True
    return False


def find(proc: Path = Path("/proc")) -> Cgroups:
    """What this process may use: makes and removes a group in each place to be sure. May move this process, and nobody
    else, into a leaf of its own group (version 2 allows no processes beside groups).
    """
    wanted = list(CONTROLLERS)
    places = []
    for version, path, offered in _candidates(proc):
        found = tuple(each for each in wanted if each in offered)
        usable = found and (_delegated(path, found) if version == 2 else True) and _writable(version, path, found)
        if usable:
            places.append((version, path, found))
            wanted = [each for each in wanted if each not in found]
    return Cgroups(tuple(places))


def _candidates(proc: Path) -> Iterator[tuple[int, Path, tuple[str, ...]]]:
    """(version, folder, controllers) where our groups might be: our own group, then the root of version 2."""
    own = {}
    for line in (proc / "self" / "cgroup").read_text().splitlines():
        _, names, group = line.split(":", 2)
        own[names] = group.lstrip("/")
    for kind, mount, options in _mounts(proc):
        if kind == "cgroup2":
            for path in dict.fromkeys((mount / own.get("", ""), mount)):
                with suppress(OSError):
                    yield 2, path, tuple((path / "cgroup.controllers").read_text().split())
        else:
            for names, group in own.items():
                if names and set(names.split(",")) <= options:
                    yield 1, mount / group, tuple(names.split(","))


def _mounts(proc: Path) -> Iterator[tuple[str, Path, set[str]]]:
    for line in (proc / "self" / "mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            yield kind, Path(before.split()[4]), set(options.split(","))


def _delegated(path: Path, found: Sequence[str]) -> bool:
    """Whether groups below may have these controllers; enabled here if they are not yet and it is ours to do."""
    control = path / "cgroup.subtree_control"
    with suppress(OSError):
        if set(found) <= set(control.read_text().split()):
            return True
        if (path / "cgroup.procs").read_text().split() == [str(os.getpid())]:
            leaf = path / f"{PREFIX}worker"
            leaf.mkdir(exist_ok=True)
            (leaf / "cgroup.procs").write_text("0")
        control.write_text(" ".join(f"+{each}" for each in found))
        return True
    return False


def _writable(version: int, path: Path, found: Sequence[str]) -> bool:
    """Whether a group can be made here and limited. It is tried."""
    trial = path / name_of(0)
    try:
        trial.mkdir()
    except OSError:
        return False
    try:
        for controller in found:
            for name, value in VALUES[version](controller, Limits()):
                if name not in OPTIONAL or (trial / name).exists():
                    (trial / name).write_text(value)
        (trial / "cgroup.procs").open("w").close()
    except OSError:
        return False
    else:
        return True
    finally:
        with suppress(OSError):
            trial.rmdir()
