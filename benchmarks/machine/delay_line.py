"""A longer way: what is sent through a port of loopback arrives at another one later. A process of its own.

    python -m benchmarks.machine.delay_line TO MILLISECONDS

It prints the port it listens on, and ends with its stdin. It stands in for `tc netem`, which needs root and a kernel
that has it: the bytes are late as on a long way, while TCP on both sides sees a short one, so that windows of our own
are measured and TCP's slow start is not.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from typing import cast

import uvloop

IN_FLIGHT = 16 * 1024 * 1024  # bytes on the way in one direction, past which the sender waits: 320 MB/s at 50 ms


class Way(asyncio.Protocol):
    """One direction: what arrives here leaves through `other` after `delay` seconds."""

    def __init__(self, delay: float) -> None:
        self.other: Way | None = None
        self.transport: asyncio.Transport | None = None
        self._delay = delay
        self._held: deque[tuple[float, bytes | None]] = deque()  # None is the end
        self._size = 0
        self._due = False
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one but in name

    def data_received(self, data: bytes) -> None:
        """Hold it."""
        self._size += len(data)
        if self._size > IN_FLIGHT and self.transport is not None and not self._paused:
            self.transport.pause_reading()
            self._paused = True
        self._hold(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """The end is late as well."""
        self._hold(None)

    def _hold(self, what: bytes | None) -> None:
        loop = asyncio.get_running_loop()
        self._held.append((loop.time() + self._delay, what))
        if not self._due:
            self._due = True
            loop.call_later(self._delay, self._release)

    def _release(self) -> None:
        loop = asyncio.get_running_loop()
        while self._held and self._held[0][0] <= loop.time() + 0.0005:  # timers of uvloop are whole milliseconds
            self._arrive(self._held.popleft()[1])
        self._due = bool(self._held)
        if self._due:
            loop.call_later(max(0.0, self._held[0][0] - loop.time()), self._release)

    def _arrive(self, what: bytes | None) -> None:
        far = None if self.other is None else self.other.transport
        if far is None or far.is_closing():
            return
        if what is None:
            far.close()
            return
        far.write(what)
        self._size -= len(what)
        if self._paused and self._size < IN_FLIGHT and self.transport is not None and not self.transport.is_closing():
            self._paused = False
            self.transport.resume_reading()


class Entrance(Way):
    """The end that somebody connects to. Nothing is read from it before the far end is there."""

    def __init__(self, delay: float, port: int, tasks: set[asyncio.Task[None]]) -> None:
        super().__init__(delay)
        self._port = port
        self._far = Way(delay)
        self._tasks = tasks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.pause_reading()
        task = asyncio.get_running_loop().create_task(self._join(self.transport))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _join(self, transport: asyncio.Transport) -> None:
        self.other, self._far.other = self._far, self
        try:
            await asyncio.get_running_loop().create_connection(lambda: self._far, "127.0.0.1", self._port)
        except OSError:
            transport.abort()
        else:
            transport.resume_reading()


async def _main(port: int, milliseconds: float) -> None:
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()
    one_way = milliseconds / 2000
    server = await loop.create_server(lambda: Entrance(one_way, port, tasks), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    over = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), over.set)  # it is never written to, so this is its end
    await over.wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main(int(sys.argv[1]), float(sys.argv[2])))
