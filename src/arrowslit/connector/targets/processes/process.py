"""Process: one child that speaks line by line over its standard streams, and ends with all of its own children."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial

from arrowslit.connector.targets.processes import child
from arrowslit.connector.targets.processes.channel import Listener
from arrowslit.connector.targets.processes.lines import LINE_LIMIT, Lines, LineTooLong, Tail
from arrowslit.connector.targets.processes.watchdog import Watchdog

logger = logging.getLogger(__name__)

EOF_GRACE = 2.0  # seconds after its input was closed; as the python SDK's client
TERM_GRACE = 2.0  # seconds after SIGTERM
KILL_GRACE = 2.0  # seconds after SIGKILL; only a process in an uninterruptible call takes longer
DRAIN_GRACE = 1.0  # seconds after its end for what it left in its pipes, which a daemon may hold open


class Process:
    """A Channel. `run` is its whole life, and `started` tells of its beginning: None, or why it cannot run."""

    def __init__(self, name: str, listener: Listener, watchdog: Watchdog) -> None:
        self.started: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self._name = name
        self._listener = listener
        self._watchdog = watchdog
        self._child: subprocess.Popen[bytes] | None = None
        self._stdin: asyncio.WriteTransport | None = None
        self._outputs: list[asyncio.ReadTransport] = []
        self._lines = Lines()
        self._stderr = Tail()
        self._broken: str | None = None
        self._asked_to_stop = False
        self._failed = asyncio.Event()  # it exited, closed its output, printed too long a line, or will not be killed
        self._exited = asyncio.Event()
        self._said_all = asyncio.Event()
        self._logged_all = asyncio.Event()
        self._ended = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    @property
    def usable(self) -> bool:
        """Channel: whether its input is open and nothing is known of its end."""
        return self._stdin is not None and not self._stdin.is_closing() and not self._failed.is_set()

    def send(self, line: bytes) -> None:
        """Channel: write one line to its input."""
        if self._stdin is not None and not self._stdin.is_closing():
            self._stdin.write(line + b"\n")

    async def drain(self) -> None:
        """Channel: wait until it has read enough."""
        while not self._writable.is_set() and self.usable:
            await self._writable.wait()

    def last_words(self) -> str:
        """Channel: the end of its stderr."""
        return self._stderr.text()

    async def close(self) -> None:
        """Channel: end its input, ask its group to stop, kill it."""
        self._asked_to_stop = True
        if self._stdin is not None:
            self._stdin.close()
        if await _within(self._ended, EOF_GRACE):
            return
        self._signal(signal.SIGTERM)
        if await _within(self._ended, TERM_GRACE):
            return
        self._signal(signal.SIGKILL)
        if not await _within(self._ended, KILL_GRACE):
            self._failed.set()  # `run` tries the same once more, and then goes on without it

    async def run(self, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start it, wait for its end, clean up after it, and tell the listener. Cancelled, it kills at once."""
        try:
            failure = await self._start(argv, environment)
            self.started.set_result(failure)
            if failure is None:
                await self._live()
        finally:
            self._clean_up()
        if failure is None:
            self._tell()

    async def _live(self) -> None:
        """Return when it is over: it has exited, or cannot be made to, and has said what it had to say."""
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(self._watch())
            await self._failed.wait()
            await self._make_it_exit()
            watching.cancel()
        self._signal(signal.SIGKILL)  # the children that it left behind
        await _within(self._said_all, DRAIN_GRACE)
        await _within(self._logged_all, DRAIN_GRACE)

    async def _start(self, argv: Sequence[str], environment: Mapping[str, str]) -> Exception | None:
        """None, or why it cannot be started."""
        loop = asyncio.get_running_loop()
        try:
            self._child = started = child.spawn(argv, environment, output=subprocess.PIPE)
            self._watchdog.watch(started.pid)
            self._stdin, _ = await loop.connect_write_pipe(partial(_Input, self._writable), started.stdin)
            for pipe, receive, lost in (
                (started.stdout, self._hear, self._output_closed),
                (started.stderr, self._stderr.receive, self._logged_all.set),
            ):
                transport, _ = await loop.connect_read_pipe(partial(_Output, receive, lost), pipe)
                self._outputs.append(transport)
        except (OSError, ValueError) as error:
            return error
        return None

    async def _watch(self) -> None:
        assert self._child is not None
        await child.ended(self._child)
        self._exited.set()
        self._failed.set()
        self._writable.set()  # nobody need wait for it any more

    def _hear(self, data: bytes) -> None:
        if self._broken is not None:
            return
        try:
            lines = self._lines.receive(data)
        except LineTooLong:
            self._broken = f"sent a line of more than {LINE_LIMIT} bytes"
            self._failed.set()
            return
        for line in lines:
            self._listener.message(line)

    def _output_closed(self) -> None:
        self._said_all.set()
        self._failed.set()

    async def _make_it_exit(self) -> None:
        """Wait for the end of a process that closed its output; end one that printed too long a line."""
        if self._broken is None:
            if await _within(self._exited, EOF_GRACE):
                return
            self._signal(signal.SIGTERM)
            if await _within(self._exited, TERM_GRACE):
                return
        self._signal(signal.SIGKILL)
        if not await _within(self._exited, KILL_GRACE):
            logger.error("%s cannot be killed", self._name)

    def _clean_up(self) -> None:
        """Leave nothing open and nobody running. The process is collected last: until then its number is its own."""
        if self._stdin is not None and not self._stdin.is_closing():
            self._stdin.abort()
        for output in self._outputs:
            output.close()
        if self._child is not None:
            self._signal(signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(KILL_GRACE)  # at once, unless it cannot be killed
            self._watchdog.forget(self._child.pid)
        self._ended.set()

    def _tell(self) -> None:
        why = self._broken or _how_it_ended(None if self._child is None else self._child.returncode)
        if not self._asked_to_stop:
            logger.warning("%s %s; the end of its stderr:\n%s", self._name, why, self.last_words() or "(nothing)")
        if self._broken is None and (rest := self._lines.rest()).strip():
            self._listener.message(rest)
        self._listener.closed(why)

    def _signal(self, number: signal.Signals) -> None:
        """Signal its whole group, as long as that is certainly its own."""
        if self._child is not None and not self._ended.is_set():
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, number)


class _Input(asyncio.BaseProtocol):
    """What the event loop tells of a process's input: whether more may be written."""

    def __init__(self, writable: asyncio.Event) -> None:
        self._writable = writable

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._writable.set()  # waiting is over, whoever waits sees that it is not usable


class _Output(asyncio.Protocol):
    """What the event loop tells of one of its outputs."""

    def __init__(self, receive: Callable[[bytes], None], lost: Callable[[], None]) -> None:
        self._receive = receive
        self._lost = lost

    def data_received(self, data: bytes) -> None:
        self._receive(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost()


async def _within(event: asyncio.Event, seconds: float) -> bool:
    """Whether it happens in that time."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


def _how_it_ended(status: int | None) -> str:
    if status is not None and status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"exited with status {status}"
