"""The small process that starts sandboxes for a worker, and outlives the worker by the moment it takes to clean up.

It is one thread and does nothing else, so that it may fork, and so that the death signal of bubblewrap (which follows
the thread that started it) means the end of this process. When the worker ends, however it does, this socket does; then
everything is killed and every cgroup removed. If this process is killed too, the sandboxes die with it, and the next
worker's start removes the empty cgroups.

It runs as the worker's user and imports nothing of ours. Messages are packets of JSON on the socket named by its
argument:
  to it    {"start": id, "argv": […], "uid": n|null, "cpus": [n…]|null,
            "groups": [{"path": …, "set": {file: value}}], "fds": [number…]}
           with the files that are to have these numbers in bubblewrap, and at last the one for its stderr
           {"end": id}
  from it  {"ended": id, "status": n, "left": [path…]}   the sandbox is gone, and what of it could not be removed
"""

from __future__ import annotations

import array
import ctypes
import fcntl
import json
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import Any, NoReturn

PR_SET_CHILD_SUBREAPER = 36
PACKET = 1 << 18
FILES = 64
INFO_FD = 4  # bubblewrap writes {"child-pid": n} there; argv.py says the same
NOT_STARTED = 125  # status of a child that did not become bubblewrap
ABOVE = 100  # numbers from here on are never those of the files that bubblewrap is started with
FOR_THE_WORKER = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # it says how it wants to end
REMOVAL = 200  # times 5 ms: how long a cgroup may need until its last process has left it


class Sandbox:
    """One that runs: bubblewrap's process, process 1 as seen from here (once it is known), and its cgroups."""

    def __init__(self, identity: str, pid: int, info: int, groups: list[str]) -> None:
        self.identity = identity
        self.pid = pid
        self.process = os.pidfd_open(pid)
        self.info = info
        self.groups = groups
        self.killed = False

    def kill(self) -> None:
        """Kill process 1 and so all that runs inside, or bubblewrap if it is not that far yet. Bubblewrap then collects
        process 1, which is dead only after everybody else inside.
        """
        if self.killed:
            return
        self.killed = True
        first = first_process(self.info)
        with suppress(OSError):  # it has ended
            os.kill(first or self.pid, signal.SIGKILL)


class Warden:
    """All sandboxes of a worker."""

    def __init__(self, worker: socket.socket) -> None:
        self._worker = worker
        self._sandboxes: dict[str, Sandbox] = {}
        self._events = select.poll()
        self._events.register(worker, select.POLLIN)

    def serve(self) -> None:
        """Until the worker is gone. Then nothing is left."""
        while True:
            ready = {fd for fd, _ in self._events.poll()}
            for sandbox in [each for each in self._sandboxes.values() if each.process in ready]:
                self._bury(sandbox)
            if self._worker.fileno() in ready and not self._receive():
                break
        for sandbox in self._sandboxes.values():
            sandbox.kill()
        for sandbox in list(self._sandboxes.values()):
            self._bury(sandbox)

    def _receive(self) -> bool:
        try:
            data, files = receive(self._worker)
        except ConnectionResetError:  # killed before it read all that it was told
            return False
        if not data:
            return False
        message = json.loads(data)
        if "start" in message:
            self._start(message, files)
        elif (sandbox := self._sandboxes.get(message["end"])) is not None:
            sandbox.kill()
        for fd in files:
            os.close(fd)
        return True

    def _start(self, message: dict[str, Any], files: list[int]) -> None:
        groups = [group["path"] for group in message["groups"]]
        info, written = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        targets = dict(zip(message["fds"], files[:-1], strict=True)) | {INFO_FD: written, 2: files[-1]}
        try:
            pid = os.fork() or become(message, targets)
        except OSError as error:
            os.write(files[-1], f"starting bubblewrap: {error}\n".encode())
            os.close(info)
            self._tell({"ended": message["start"], "status": NOT_STARTED, "left": []})
            return
        finally:
            os.close(written)
        sandbox = Sandbox(message["start"], pid, info, groups)
        self._sandboxes[sandbox.identity] = sandbox
        self._events.register(sandbox.process, select.POLLIN)

    def _bury(self, sandbox: Sandbox) -> None:
        """Bubblewrap has ended or is about to: collect it, remove its cgroups, tell the worker."""
        _, status = os.waitpid(sandbox.pid, 0)
        self._bury_strays()
        self._events.unregister(sandbox.process)
        os.close(sandbox.process)
        os.close(sandbox.info)
        del self._sandboxes[sandbox.identity]
        left = [path for path in sandbox.groups if not remove(path)]
        message = {"ended": sandbox.identity, "status": os.waitstatus_to_exitcode(status), "left": left}
        self._tell(message)

    def _bury_strays(self) -> None:
        """Kill what a bubblewrap left that was killed before its inner process asked to die with it."""
        known = {each.pid for each in self._sandboxes.values()}
        for pid in children():
            if pid not in known:
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)

    def _tell(self, message: dict[str, Any]) -> None:
        with suppress(OSError):  # the worker is gone
            self._worker.send(json.dumps(message).encode())


def become(message: dict[str, Any], targets: dict[int, int]) -> NoReturn:
    """In the child: join the cgroups, be the session's user, hold the right files, become bubblewrap. No return."""
    try:
        os.setsid()
        for group in message["groups"]:
            os.makedirs(group["path"], exist_ok=True)  # noqa: PTH103 no pathlib here
            for name, value in group["set"].items():
                write(f"{group['path']}/{name}", value)
            write(f"{group['path']}/cgroup.procs", "0")
        above = {number: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, ABOVE) for number, fd in targets.items()}
        for number, fd in above.items():
            os.dup2(fd, number, inheritable=True)
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.dup2(2, 1)
        if message["cpus"] is not None:
            os.sched_setaffinity(0, message["cpus"])
        if message["uid"] is not None:
            os.setgroups([])
            os.setresgid(*(message["uid"],) * 3)
            os.setresuid(*(message["uid"],) * 3)
        for number in (*FOR_THE_WORKER, signal.SIGPIPE):  # what is ignored stays so in the programs that follow
            signal.signal(number, signal.SIG_DFL)
        os.execve(message["argv"][0], message["argv"], {})  # noqa: S606 no shell is the point
    except BaseException as error:  # nothing of the parent's may go on in here
        os.write(targets[2], f"starting bubblewrap: {error}\n".encode())
    finally:
        os._exit(NOT_STARTED)


def receive(worker: socket.socket) -> tuple[bytes, list[int]]:
    """One packet and the files that came with it, closed on exec (`socket.recv_fds` of Python 3.11 forgets that)."""
    files = array.array("i")
    data, ancillary, _, _ = worker.recvmsg(PACKET, socket.CMSG_LEN(FILES * files.itemsize), socket.MSG_CMSG_CLOEXEC)
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            files.frombytes(content[: len(content) - len(content) % files.itemsize])
    return data, list(files)


def first_process(info: int) -> int | None:
    """Process 1 of a sandbox, by its number out here, if bubblewrap has said it."""
    try:
        said = os.read(info, 4096)
    except BlockingIOError:
        return None
    return int(json.loads(said)["child-pid"]) if said else None


def children() -> list[int]:
    """Our children. Empty on a kernel that does not list them."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:  # noqa: PTH123
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return []


def write(path: str, value: str) -> None:
    """Write a file of a cgroup, in one call. One that this kernel lacks is for something it cannot do."""
    try:
        fd = os.open(path, os.O_WRONLY)
    except FileNotFoundError:
        return
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def remove(path: str) -> bool:
    """Kill what is left in a cgroup (nothing should be) and remove it. Whether it is gone."""
    for _ in range(REMOVAL):
        try:
            os.rmdir(path)  # noqa: PTH106
            return True
        except FileNotFoundError:
            return True
        except OSError:
            for pid in members(path):
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)
    return False


def members(path: str) -> list[int]:
    """The processes in a cgroup."""
    try:
        with open(f"{path}/cgroup.procs", encoding="ascii") as file:  # noqa: PTH123
            return [pid for pid in map(int, file.read().split()) if pid]
    except OSError:
        return []


def main() -> None:
    """Serve the worker at the other end of the socket."""
    for number in FOR_THE_WORKER:
        signal.signal(number, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # orphans below us become our children
    worker = socket.socket(fileno=int(sys.argv[1]))
    worker.set_inheritable(False)  # Python made it so for us alone
    Warden(worker).serve()


if __name__ == "__main__":
    main()
