"""Room: a Sandbox around its runner: what is asked of it, what it says, and its end."""

from __future__ import annotations

import array
import asyncio
import logging
import os
import signal
import socket
import struct
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from arrowslit.errors import Error
from arrowslit.sandbox.isolation.cgroups import Group, hits
from arrowslit.sandbox.isolation.isolation import BASE_ENVIRONMENT, Command, Ended, Output, Report, Why
from arrowslit.sandbox.isolation.process import Running

logger = logging.getLogger(__name__)

PACKET = 1 << 18
LARGEST_REQUEST = 160 * 1024  # bytes of a packet; the kernel takes 208 KiB with its own overhead
CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid
LAST_WORDS = 64 * 1024
KILL_LIMIT = 5.0  # seconds for the runner to kill a command; it takes a millisecond


@dataclass(frozen=True, slots=True)
class Ready:
    """What came with the runner's first word, and the kernel vouches for: its process and user as they are out here."""

    pid: int
    uid: int
    listener: socket.socket | None


class Room:
    """A Sandbox. `control` is the socket to its runner, `stderr` the pipe into which bubblewrap and runner complain.
    `gone` is done when nothing of it is left; `end` makes it so.
    """

    def __init__(
        self,
        session: str,
        control: socket.socket,
        stderr: int,
        groups: Sequence[Group],
        gone: asyncio.Future[int],
        end: Callable[[], None],
    ) -> None:
        self.session = session
        self.listener: socket.socket | None = None
        self.last_words = ""  # of bubblewrap and the runner, once it is closed
        self._report: Report | None = None
        self._control = control
        self._stderr = stderr
        self._groups = groups
        self._gone = gone
        self._end = end
        self._loop = asyncio.get_running_loop()
        self._running: dict[str, Running] = {}
        self._count = 0
        self._hits: dict[str, int] = {}
        self._ready: asyncio.Future[Ready | None] = self._loop.create_future()
        self._loop.add_reader(control.fileno(), self._receive)

    @property
    def report(self) -> Report:
        """Sandbox: what it keeps."""
        assert self._report is not None, "a sandbox is handed out after its isolation was proved"
        return self._report

    @property
    def alive(self) -> bool:
        """Sandbox: whether commands can run."""
        return self._control.fileno() >= 0

    async def ready(self) -> Ready | None:
        """Wait for the runner's first word. None if there will be none."""
        found = await self._ready
        if found is not None:
            self.listener = found.listener
            self._hits = hits(self._groups)
        return found

    def vouch(self, report: Report) -> None:
        """Say what this sandbox keeps."""
        self._report = report

    async def start(self, command: Command) -> Running:
        """Sandbox: start a command."""
        if not self.alive:
            raise Error(
                "sandbox_ended", f"the sandbox of {self.session} has ended", hint="open another for the session"
            )
        self._count += 1
        identity = str(self._count)
        running = Running(command, lambda: self._kill(identity))
        self._running[identity] = running
        try:
            self._send(_request(identity, command), running.hand_out())
        except ValueError as error:
            self._ended(identity, Ended(why=Why.NOT_STARTED, status=126, reason=str(error)))
        except OSError:
            self._lost()
        finally:
            running.handed_out()
        return running

    async def run(self, command: Command) -> AsyncGenerator[Output | Ended, None]:
        """Sandbox: run a command."""
        process = await self.start(command)
        try:
            while (output := await process.read()) is not None:
                yield output
            yield await process.wait()
        finally:
            process.kill()
            process.release()

    async def close(self) -> None:
        """Sandbox: end all that runs inside. Shielded: it ends also if nobody waits for it any more."""
        self._lost()
        self._end()
        if self.listener is not None:
            self.listener.close()
        await asyncio.shield(self._gone)
        if self._stderr >= 0:
            with suppress(OSError):
                self.last_words = os.read(self._stderr, LAST_WORDS).decode(errors="replace")
            os.close(self._stderr)
            self._stderr = -1

    def _kill(self, identity: str) -> None:
        """Have the runner kill a command. If it does not manage, the whole sandbox ends."""
        with suppress(OSError):
            self._send(f"kill\0{identity}".encode(), ())
        self._loop.call_later(KILL_LIMIT, self._insist, identity)

    def _insist(self, identity: str) -> None:
        if identity in self._running:
            logger.error("the sandbox of %s does not end a command: it is ended itself", self.session)
            self._lost()
            self._end()

    def _send(self, data: bytes, files: Sequence[int]) -> None:
        rights = array.array("i", files).tobytes()
        self._control.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if files else ())

    def _receive(self) -> None:
        try:
            data, ancillary, _, _ = self._control.recvmsg(
                PACKET, socket.CMSG_SPACE(CREDENTIALS.size) + socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        except OSError:
            data, ancillary = b"", []
        if not data:
            self._lost()
        elif data == b"ready" and not self._ready.done():
            self._ready.set_result(_ready(ancillary))
        else:
            try:
                _, identity, kind, *fields = data.decode().split("\0")
                self._ended(identity, self._read_end(identity, kind, fields))
            except ValueError:
                logger.error("the runner of %s said what no runner says", self.session)
                self._lost()
                self._end()

    def _read_end(self, identity: str, kind: str, fields: Sequence[str]) -> Ended:
        running = self._running.get(identity)
        argv = running.argv if running is not None else ("",)
        match kind:
            case "no_folder" | "no_program":
                number = int(fields[0])
                what = "its folder" if kind == "no_folder" else argv[0]
                status = 127 if number == 2 else 126
                return Ended(why=Why.NOT_STARTED, status=status, reason=f"{what}: {os.strerror(number)}")
            case _:
                value, cpu, memory, limits = fields
                signalled = kind == "signal"
                return Ended(
                    why=Why.SIGNAL if signalled else Why.EXIT,
                    status=128 + int(value) if signalled else int(value),
                    limits=self._limits(limits),
                    cpu=float(cpu),
                    memory=int(memory) * 1024,
                )

    def _limits(self, said: str) -> tuple[str, ...]:
        """What the watchdog said, and what the cgroups count since the last time they were asked."""
        now = hits(self._groups)
        found = {limit for limit, count in now.items() if count > self._hits.get(limit, 0)}
        self._hits = now
        return tuple(sorted(found | {limit for limit in said.split(",") if limit}))

    def _ended(self, identity: str, end: Ended) -> None:
        running = self._running.pop(identity, None)
        if running is not None:
            running.ended(end)

    def _lost(self) -> None:
        """There is no runner any more, or there will be none in a moment."""
        if self._control.fileno() >= 0:
            self._loop.remove_reader(self._control.fileno())
            self._control.close()
        if not self._ready.done():
            self._ready.set_result(None)
        for identity in list(self._running):
            self._ended(identity, Ended(why=Why.DIED, status=128 + signal.SIGKILL, reason="the sandbox has ended"))


def _request(identity: str, command: Command) -> bytes:
    """The packet for the runner. Raises ValueError for what no program can be started with."""
    environment = {**BASE_ENVIRONMENT, **command.env}
    fields = ["run", identity, command.leftovers, command.cwd, str(len(command.argv)), *command.argv]
    fields += [f"{name}={value}" for name, value in environment.items()]
    if any("\0" in field for field in fields):
        raise ValueError("an argument holds a NUL")
    if not command.argv or any(not name or "=" in name for name in environment):
        raise ValueError("no program, or a variable without a name")
    try:
        data = "\0".join(fields).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise ValueError("an argument is not text") from None
    if len(data) > LARGEST_REQUEST:
        raise ValueError(f"arguments and environment have {len(data)} bytes, more than {LARGEST_REQUEST}")
    return data


def _ready(ancillary: Sequence[tuple[int, int, bytes]]) -> Ready:
    pid, uid, listener = 0, 0, None
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            pid, uid, _ = CREDENTIALS.unpack(content)
        elif level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            listener = socket.socket(fileno=struct.unpack("i", content)[0])
            listener.setblocking(False)
    return Ready(pid, uid, listener)
