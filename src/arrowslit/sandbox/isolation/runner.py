"""Process 1 of a sandbox: it is handed each command with its pipes, starts it, says how it ended, and reaps orphans.

It runs inside as a file of its own, under the system's Python and without ours; what it imports is little, because each
session waits for it and keeps it in memory (`_socket` is `socket` without 10 ms and 2 MiB of conveniences). Sandboxed
code can neither kill nor stop it (process 1 of its namespace), nor look into it (not dumpable).

Messages are packets on a socket, fields divided by NUL:
  to it    run, id, leftovers, cwd, number of arguments, arguments…, NAME=value…  with the files stdout, stderr[, stdin]
           kill, id
  from it  ready  with the listening socket, if one was asked for
           ended, id, exit|signal, status or signal, cpu seconds, peak memory in KiB, limits that were hit
           ended, id, no_folder|no_program, errno
Its arguments are settings, name=value: see `Settings`.
"""

from __future__ import annotations

import _socket
import array
import ctypes
import errno
import os
import resource
import select
import signal
import sys
import time

CONTROL = 3
PACKET = 1 << 18  # bytes; the largest packet that a socket takes by default is smaller
FILES_PER_COMMAND = 3
WATCH_EVERY = 0.2  # seconds
ROOM = ("/workspace", "/tmp", "/dev/shm")  # noqa: S108 the sandbox's own
PR_SET_DUMPABLE = 4
SOCKETS = 64 << 20  # bytes that may wait in sockets: the whole machine shares what there is for them
NAMELESS = "/dev/zero (deleted)"  # how the kernel calls shared anonymous memory
EXPENDABLE = 500  # how much rather than the runner the kernel should kill a command when memory runs out
DEATH = 1000  # times 1 ms at most, for processes that were killed to be gone
NO_PROCESS_LEFT = 50  # times 10 ms: how long a new command waits for what a fork bomb left to die
PAGE = os.sysconf("SC_PAGE_SIZE")


class Settings:
    """`pids`, `file`, `open_files`: limits of each process. `files`: how many may lie in the sandbox.

    `listen`: a TCP port, 0 for none. `memory`: bytes that the watchdog defends where no cgroup does, 0 for none.
    """

    def __init__(self, arguments: list[str]) -> None:
        given = dict(argument.split("=", 1) for argument in arguments)
        self.pids = int(given["pids"])
        self.file = int(given["file"])
        self.open_files = int(given["open_files"])
        self.files = int(given["files"])
        self.memory = int(given.get("memory", "0"))
        self.listen = int(given.get("listen", "0"))


class Command:
    """One that runs: its id, its process (which leads a session of its own), what becomes of what it leaves behind."""

    def __init__(self, identity: str, pid: int, keep: bool) -> None:
        self.identity = identity
        self.pid = pid
        self.keep = keep
        self.limits: set[str] = set()


class Runner:
    """All commands of a sandbox."""

    def __init__(self, control: _socket.socket, settings: Settings, wakeup: int) -> None:
        self._control = control
        self._settings = settings
        self._wakeup = wakeup
        self._commands: dict[int, Command] = {}
        self._next_watch = 0.0
        self._kept = False  # whether something may be running that a command was allowed to leave behind
        self._files = 0
        # opened now: once the runner is not dumpable, its own file is no longer its own
        self._expendable = os.open("/proc/self/oom_score_adj", os.O_RDWR)
        self._score = int(os.read(self._expendable, 16))

    def serve(self) -> None:
        """Until the other end is gone; then the process ends, and with it the whole sandbox."""
        events = select.poll()
        events.register(self._control.fileno(), select.POLLIN)
        events.register(self._wakeup, select.POLLIN)
        while True:
            ready = [fd for fd, _ in events.poll(WATCH_EVERY * 1000 if self._commands or self._kept else None)]
            if self._wakeup in ready:
                os.read(self._wakeup, 512)
            self._reap()
            if self._control.fileno() in ready and not self._receive():
                return
            self._watch()

    def _receive(self) -> bool:
        """Take one message. False if there will be none any more."""
        data, files = receive(self._control)
        if not data:
            return False
        what, identity, *fields = data.decode("utf-8", "surrogateescape").split("\0")
        if what == "run":
            self._run(identity, fields, files)
        elif what == "kill":
            for command in [each for each in self._commands.values() if each.identity == identity]:
                kill(command.pid)
                self._purge(command, by_force=True)
        for fd in files:
            os.close(fd)
        return True

    def _run(self, identity: str, fields: list[str], files: list[int]) -> None:
        leftovers, cwd, count, *rest = fields
        argv, environment = rest[: int(count)], dict(pair.split("=", 1) for pair in rest[int(count) :])
        try:
            os.chdir(cwd)
        except OSError as error:
            self._say("ended", identity, "no_folder", str(error.errno))
            return
        try:
            pid = self._start(argv, environment, files)
        except OSError as error:
            self._say("ended", identity, "no_program", str(error.errno))
            return
        finally:
            os.chdir("/")
        self._commands[pid] = Command(identity, pid, leftovers == "keep")
        self._kept |= leftovers == "keep"

    def _start(self, argv: list[str], environment: dict[str, str], files: list[int]) -> int:
        """Raises OSError. If too many processes run for one more, those that nobody waits for are killed first."""
        stdout, stderr, *stdin = files
        actions = [
            (os.POSIX_SPAWN_DUP2, stdin[0], 0) if stdin else (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, stdout, 1),
            (os.POSIX_SPAWN_DUP2, stderr, 2),
        ]
        for attempt in range(NO_PROCESS_LEFT):
            try:
                self._set_score(min(1000, self._score + EXPENDABLE))
                return os.posix_spawn(
                    program(argv[0], environment),
                    argv,
                    environment,
                    file_actions=actions,
                    setsid=True,
                    setsigmask=(),
                    setsigdef=(signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGCHLD),
                )
            except OSError as error:
                if error.errno != errno.EAGAIN or attempt == NO_PROCESS_LEFT - 1:
                    raise
            finally:
                self._set_score(self._score)
            self._kill_strays()
            time.sleep(0.01)
            self._reap()
        raise OSError(errno.EAGAIN, "too many processes")

    def _set_score(self, score: int) -> None:
        try:  # noqa: SIM105 contextlib is a millisecond more for each session
            os.pwrite(self._expendable, str(score).encode(), 0)
        except OSError:
            pass  # a kernel that was told otherwise: then a command is as likely to be killed as the runner

    def _reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                self._kept &= any(command.keep for command in self._commands.values())
                return
            if pid == 0:
                return
            command = self._commands.get(pid)
            if command is not None:
                if not command.keep and self._purge(command, by_force=False):
                    wait_for_all()
                del self._commands[pid]
                kind, value = (
                    ("exit", os.WEXITSTATUS(status)) if os.WIFEXITED(status) else ("signal", os.WTERMSIG(status))
                )
                cpu, limits = usage.ru_utime + usage.ru_stime, ",".join(sorted(command.limits))
                self._say("ended", command.identity, kind, str(value), f"{cpu:.6f}", str(usage.ru_maxrss), limits)

    def _purge(self, command: Command, *, by_force: bool) -> bool:
        """Kill what a command leaves behind: everything, if nothing else may run here (returns True); else what is of
        its session.
        """
        alone = all(each is command for each in self._commands.values())
        if alone and (by_force or not self._kept):
            kill(-1)
            self._kept = False
            return True
        for pid in processes():
            if session_of(pid) == command.pid:
                kill(pid)
        return False

    def _kill_strays(self) -> None:
        """Kill all that is not of a running command's own session."""
        for pid in processes():
            if session_of(pid) not in self._commands:
                kill(pid)

    def _watch(self) -> None:
        """Defend what no kernel limit holds, every now and then."""
        now = time.monotonic()  # noqa: TID251 there is no other clock in here
        if now < self._next_watch or not (self._commands or self._kept):
            return
        self._next_watch = now + WATCH_EVERY
        files = sum(used_files(path) for path in ROOM)
        if files > self._settings.files and files > self._files:
            self._note("files")
            kill(-1)
        self._files = files
        if self._settings.memory:
            if waiting_in_sockets() > SOCKETS:
                self._note("memory")
                kill(-1)
            own = {pid: memory_of(pid) for pid in processes()}
            mapped = {pid: nameless(pid) for pid in own}
            common: dict[str, int] = {}
            for each in mapped.values():
                common.update({inode: max(size, common.get(inode, 0)) for inode, size in each.items()})
            if own and sum(own.values()) + sum(common.values()) + shared() > self._settings.memory:
                self._note("memory")
                kill(max(own, key=lambda pid: own[pid] + sum(mapped[pid].values())))

    def _note(self, limit: str) -> None:
        for command in self._commands.values():
            command.limits.add(limit)

    def _say(self, *fields: str) -> None:
        self._control.send("\0".join(fields).encode("utf-8", "surrogateescape"))


def receive(control: _socket.socket) -> tuple[bytes, list[int]]:
    """One packet and the files that came with it, closed on exec (`socket.recv_fds` of Python 3.11 forgets that)."""
    files = array.array("i")
    space = _socket.CMSG_LEN(FILES_PER_COMMAND * files.itemsize)
    data, ancillary, _, _ = control.recvmsg(PACKET, space, _socket.MSG_CMSG_CLOEXEC)
    for level, kind, content in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            files.frombytes(content[: len(content) - len(content) % files.itemsize])
    return data, list(files)


def program(name: str, environment: dict[str, str]) -> str:
    """Where a program is, by the PATH that it is to have."""
    if "/" not in name:
        for folder in environment.get("PATH", "").split(":"):
            if os.access(f"{folder}/{name}", os.X_OK):
                return f"{folder}/{name}"
    return name


def processes() -> list[int]:
    """All but the runner."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and name != "1"]  # noqa: PTH208 no pathlib here


def kill(pid: int) -> None:
    """SIGKILL to a process, or with -1 to all but the runner."""
    try:  # noqa: SIM105
        os.kill(pid, signal.SIGKILL)
    except OSError:
        pass  # it has ended


def wait_for_all() -> None:
    """Collect everybody, after all were killed."""
    for _ in range(DEATH):
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            time.sleep(0.001)


def session_of(pid: int) -> int:
    """The session of a process, 0 if it has ended."""
    try:
        return os.getsid(pid)
    except OSError:
        return 0


def read(path: str) -> str:
    """A file of /proc, empty if its process has ended or keeps it to itself."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:  # noqa: PTH123
            return file.read()
    except OSError:
        return ""


def memory_of(pid: int) -> int:
    """Bytes of a process: its share of what it shares, or all that is resident where it does not let us see that.

    What is `nameless` is counted there.
    """
    which = "smaps" if nameless(pid) else "smaps_rollup"
    total, found, counts = 0, False, True
    for line in read(f"/proc/{pid}/{which}").splitlines():
        if line.startswith("Pss:"):
            found = True
            total += int(line.split()[1]) * 1024 if counts else 0
        elif not line.split()[0].endswith(":"):  # the head of a mapping
            counts = not line.endswith(NAMELESS)
    resident = [] if found else read(f"/proc/{pid}/statm").split()
    return int(resident[1]) * PAGE if resident else total


def nameless(pid: int) -> dict[str, int]:
    """Bytes, by inode, of the files without a name (shared anonymous memory) that a process maps.

    Their whole length up to the end of what is mapped: pages that no process has in its table any more are still there.
    """
    found: dict[str, int] = {}
    for line in read(f"/proc/{pid}/maps").splitlines():
        if line.endswith(NAMELESS):
            addresses, _, offset, _, inode = line.split()[:5]
            begin, end = (int(each, 16) for each in addresses.split("-"))
            found[inode] = max(int(offset, 16) + end - begin, found.get(inode, 0))
    return found


def shared() -> int:
    """Bytes of System V shared memory and messages."""
    return column("/proc/sysvipc/shm", "rss") + column("/proc/sysvipc/msg", "cbytes")


def column(path: str, name: str) -> int:
    """The sum of a column of a table of numbers, 0 if there is none by that name."""
    head, *rows = read(path).splitlines() or [""]
    if name not in head.split():
        return 0
    at = head.split().index(name)
    return sum(int(row.split()[at]) for row in rows)


def waiting_in_sockets() -> int:
    """Bytes that were sent over TCP and UDP in here and not yet received."""
    rows = [row for name in ("tcp", "tcp6", "udp", "udp6") for row in read(f"/proc/net/{name}").splitlines()[1:]]
    queues = [row.split()[4].split(":") for row in rows]
    return sum(int(sent, 16) + int(received, 16) for sent, received in queues)


def used_files(path: str) -> int:
    """How many files lie on a mount."""
    found = os.statvfs(path)
    return found.f_files - found.f_ffree


def limit(settings: Settings) -> None:
    """Set the limits that each process inherits and cannot raise."""
    for what, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, settings.pids),
        (resource.RLIMIT_NOFILE, settings.open_files),
        (resource.RLIMIT_FSIZE, settings.file),
        (resource.RLIMIT_MEMLOCK, 64 * 1024),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_SIGPENDING, 512),
        (resource.RLIMIT_RTPRIO, 0),
    ):
        _, hard = resource.getrlimit(what)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(what, (value, value))


def listening(port: int) -> _socket.socket:
    """A listener on the loopback address of this namespace."""
    listener = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    listener.bind(("127.0.0.1", port))
    listener.listen(128)
    return listener


def say_ready(control: _socket.socket, port: int) -> None:
    """Hand the listener out, before any other code runs here, and keep no copy."""
    if not port:
        control.send(b"ready")
        return
    listener = listening(port)
    rights = array.array("i", [listener.fileno()])
    control.sendmsg([b"ready"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights.tobytes())])
    listener.close()


def main() -> None:
    """Be process 1."""
    if os.getpid() != 1:
        sys.exit("this runs as process 1 of a sandbox: elsewhere it would kill what is not its own")
    os.closerange(CONTROL + 1, 256)
    os.set_inheritable(CONTROL, False)
    control = _socket.socket(fileno=CONTROL)
    settings = Settings(sys.argv[1:])
    limit(settings)
    readable, wakeup = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Python would raise for it
    runner = Runner(control, settings, readable)
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    say_ready(control, settings.listen)
    runner.serve()


if __name__ == "__main__":
    main()
