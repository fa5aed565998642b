"""Bubblewrap: Isolation by Linux namespaces, our filter of system calls, and limits by cgroup and rlimit."""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import pwd
import resource
import socket
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from arrowslit.sandbox.isolation import argv, cgroups, missing, orphans, probe, runner, system
from arrowslit.sandbox.isolation.argv import FILES, Fd
from arrowslit.sandbox.isolation.cgroups import Cgroups, Group
from arrowslit.sandbox.isolation.isolation import Degradable, Feature, Limits, Report
from arrowslit.sandbox.isolation.missing import Missing
from arrowslit.sandbox.isolation.room import Room
from arrowslit.sandbox.isolation.seccomp import program
from arrowslit.sandbox.isolation.spawn import WITH_THE_WARDEN, Spawner, memory_file
from arrowslit.sandbox.isolation.system import System
from arrowslit.sandbox.isolation.uids import Uids

DEFAULTS = Limits()
START = 10.0  # seconds for a sandbox to become ready; it takes 30 ms
RUNNERS_OWN = 2  # process 1 counts against its own limit; and the kernel counts the one that is being started
RUNNER = Path(runner.__file__).read_bytes()
WATCHDOG = {
    "memory": "a watchdog looks five times a second and kills the largest process; memory files are refused",
    "cpu": "the session stays on its share of the processors, whole ones",
    "pids": "each process's own limit",
    "disk": "nothing",
}


class Bubblewrap:
    """Isolation by bubblewrap.

    `uids` are users that nobody else has, needed when we are root: each session is one of them. `allow_degraded` are
    limits that may be a best effort where the machine does not give them.
    """

    def __init__(
        self,
        limits: Limits = DEFAULTS,
        *,
        uids: range | None = None,
        allow_degraded: Collection[Degradable] = (),
        look: Callable[[], System | Missing] = system.find,
        look_for_cgroups: Callable[[], Cgroups] = cgroups.find,
    ) -> None:
        self._limits = limits
        self._range = uids
        self._uids = None if uids is None or os.geteuid() != 0 else Uids(uids)
        self._allowed = frozenset(allow_degraded)
        self._look = look
        self._look_for_cgroups = look_for_cgroups
        self._stack = AsyncExitStack()
        self._rooms: set[Room] = set()
        self._numbers = itertools.count(1)
        self._report: Report | None = None

    @property
    def report(self) -> Report:
        """Isolation: what was proved."""
        assert self._report is not None, "entered first"
        return self._report

    @property
    def open_sandboxes(self) -> int:
        """How many there are."""
        return len(self._rooms)

    async def __aenter__(self) -> Self:
        self._system, self._cgroups = self._find()
        self._open_files = _share_of_files(self._limits.open_files)
        self._filter = program(self._system.machine, tuple(self._also_refused()))
        orphans.sweep()
        self._cgroups.sweep()
        probe.sweep()
        async with AsyncExitStack() as stack:
            self._spawner = await stack.enter_async_context(Spawner())
            stack.push_async_callback(self._close_all)
            self._report = await self._prove()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def open(self, session: str, *, listen: int | None = None) -> Room:
        """Isolation: a new sandbox."""
        room = await self._open(session, listen)
        room.vouch(self.report)
        return room

    def _find(self) -> tuple[System, Cgroups]:
        """What the machine has. Raises Error `sandbox_unavailable` with all that it lacks."""
        lacking: list[Missing] = []
        found = self._look()
        if isinstance(found, Missing):
            lacking.append(found)
        if (refusal := _refused_uids(self._range)) is not None:
            lacking.append(refusal)
        groups = self._look_for_cgroups()
        lacking += [
            Missing(limit, f"no {limit} cgroup may be used: the {limit} limit is not enforceable")
            for limit in ("memory", "cpu")
            if limit not in groups.controllers and limit not in self._allowed
        ]
        if lacking or isinstance(found, Missing):
            raise missing.error(lacking)
        return found, groups

    def _also_refused(self) -> Iterator[str]:
        """What a best effort rests on."""
        if "memory" not in self._cgroups.controllers:
            yield "memfd_create"  # the pages of such a file belong to no process
        if "cpu" not in self._cgroups.controllers:
            yield "sched_setaffinity"

    async def _prove(self) -> Report:
        """Launch a sandbox and look at it from the inside. Raises Error `sandbox_unavailable`."""
        room = await self._open("probe", None)
        try:
            facts = await probe.ask(room)
        finally:
            await room.close()
        lacking = probe.judge(facts, self._limits)
        refused = [each for each in lacking if each.feature not in self._allowed]
        if refused:
            raise missing.error(refused)
        degraded = {each.feature for each in lacking} | ({"memory", "cpu"} - self._cgroups.controllers.keys())
        return Report(
            isolation="bubblewrap",
            version=self._system.version,
            kernel=self._system.kernel,
            machine=self._system.machine,
            features=(*probe.PROVED, *(self._limit(name, name in degraded) for name in WATCHDOG)),
        )

    def _limit(self, name: str, degraded: bool) -> Feature:
        if degraded:
            return Feature(name, WATCHDOG[name], degraded=True)
        if name == "disk":
            return Feature(name, "tmpfs of a fixed size")
        version = self._cgroups.controllers.get(name)
        return Feature(name, "rlimit" if version is None else f"cgroup v{version}")

    async def _open(self, session: str, listen: int | None) -> Room:
        """Start a sandbox and wait for its runner. Raises Error `sandbox_unavailable`."""
        number = next(self._numbers)
        uid = self._free_uid(number)
        try:
            room = self._launch(session, number, uid, listen)
        except OSError as error:
            self._give_back(uid)
            raise missing.error([Missing("start", f"a sandbox cannot be started: {error}")]) from error
        try:
            async with asyncio.timeout(START):
                ready = await room.ready()
            if ready is not None and ready.uid == (os.geteuid() if uid is None else uid):
                return room
        except TimeoutError:
            pass
        except BaseException:
            await room.close()
            raise
        await room.close()
        raise missing.error([missing.diagnose(room.last_words, _sysctls())])

    def _launch(self, session: str, number: int, uid: int | None, listen: int | None) -> Room:
        """Have the warden start bubblewrap. Raises OSError."""
        groups = self._cgroups.groups(cgroups.name_of(number), self._limits)
        command = argv.bubblewrap(self._system.layout, self._limits, tuple(self._settings(listen)))
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        control.setblocking(False)
        control.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)  # the kernel says who its messages are from
        words, stderr = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        files: dict[int, int] = {Fd.SECCOMP: memory_file(self._filter), Fd.RUNNER: memory_file(RUNNER)}
        files |= {fd: memory_file(text.encode()) for fd, (_, text) in FILES.items()}
        identity = f"{number}"
        try:
            handed = {Fd.CONTROL: theirs.fileno(), **files}
            cpus = self._processors(number)
            gone = self._spawner.start(identity, command, handed, stderr, uid=uid, groups=groups, cpus=cpus)
        except OSError:
            control.close()
            os.close(words)
            raise
        finally:
            theirs.close()
            for fd in (stderr, *files.values()):
                os.close(fd)
        room = Room(session, control, words, groups, gone, lambda: self._spawner.end(identity))
        self._rooms.add(room)
        gone.add_done_callback(lambda ended: self._forget(room, uid, groups, ended.result()))
        return room

    def _settings(self, listen: int | None) -> Iterator[str]:
        """The runner's arguments."""
        limits = self._limits
        yield from (f"pids={limits.pids + RUNNERS_OWN}", f"file={limits.file}")
        yield from (f"open_files={self._open_files}", f"files={limits.files}")
        if listen is not None:
            yield f"listen={listen}"
        if "memory" not in self._cgroups.controllers:
            yield f"memory={limits.memory}"

    def _processors(self, number: int) -> list[int] | None:
        """Which processors a session has to stay on, where no cgroup gives it a share of all."""
        if "cpu" in self._cgroups.controllers:
            return None
        every = sorted(os.sched_getaffinity(0))
        count = min(len(every), math.ceil(self._limits.cpus))
        return [every[(number + index) % len(every)] for index in range(count)]

    def _free_uid(self, number: int) -> int | None:
        """A user for a session; None for our own. Raises Error `sandbox_unavailable`."""
        if self._uids is None or self._range is None:
            return None
        try:
            uid = self._uids.take(number)
        except OSError as error:
            raise missing.error([Missing("uid", f"no user can be kept for a session: {error}")]) from error
        if uid is None:
            raise missing.error([Missing("uid", f"all {len(self._range)} users of the uid range have a session")])
        return uid

    def _give_back(self, uid: int | None) -> None:
        if self._uids is not None and uid is not None:
            self._uids.give_back(uid)

    def _forget(self, room: Room, uid: int | None, groups: Sequence[Group], how: int) -> None:
        """It has ended. If the warden has too, cleaning up is for us."""
        if how == WITH_THE_WARDEN:
            orphans.sweep()
            for group in groups:
                cgroups.remove(group.path)
        self._rooms.discard(room)
        self._give_back(uid)

    async def _close_all(self) -> None:
        for room in list(self._rooms):
            await room.close()


def _refused_uids(uids: range | None) -> Missing | None:
    """Why sessions may not run as they are to."""
    if os.geteuid() != 0:
        return None
    if not uids or uids[0] <= 0:
        return Missing("uid", "refusing: the sandbox would own kernel uid 0")
    taken = next((entry for entry in pwd.getpwall() if entry.pw_uid in uids), None)
    if taken is not None:
        return Missing("uid", f"refusing: uid {taken.pw_uid} of the range is the user {taken.pw_name}")
    return None


def _share_of_files(wanted: int) -> int:
    """How many files a sandboxed process may have open: fewer than we may, and we take all that we can get.

    The kernel counts files that are on their way in messages by user. If we are not root our sandboxes are the same
    user, and a session that sends more than we may have open would keep us from handing commands to all others.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return min(wanted, most // 2)


def _sysctls() -> dict[str, str]:
    found = {}
    for name in missing.SYSCTLS:
        with suppress(OSError):
            found[name] = Path("/proc/sys", *name.split(".")).read_text().strip()
    return found
