"""Running: one command inside a sandbox, seen from outside: its pipes, its deadline, its end."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace

from arrowslit.sandbox.isolation.isolation import Command, Ended, Output, Why

CHUNK = 64 * 1024  # bytes; a pipe holds as much


class Running:
    """A Process. `stop` is called when it has to be killed; `ended` is told of its end."""

    def __init__(self, command: Command, stop: Callable[[], None]) -> None:
        self.argv = command.argv
        self._limit = command.max_output
        self._stop = stop
        self._loop = asyncio.get_running_loop()
        self._begun = self._loop.time()
        self._end: asyncio.Future[Ended] = self._loop.create_future()
        self._why: Why | None = None
        self._printed = 0
        self._input: int | None = None
        stdout, self._child_stdout = os.pipe2(os.O_CLOEXEC)
        stderr, self._child_stderr = os.pipe2(os.O_CLOEXEC)
        self._outputs = {"stdout": stdout, "stderr": stderr}
        self._child_stdin: int | None = None
        if command.interactive:
            self._child_stdin, self._input = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(self._input, False)
        elif command.stdin is not None:
            self._child_stdin = _sealed(command.stdin)
        for fd in self._outputs.values():
            os.set_blocking(fd, False)
        self._deadline = None if command.timeout is None else self._loop.call_later(command.timeout, self._expire)

    def hand_out(self) -> list[int]:
        """The child's ends: stdout, stderr, and stdin unless it is empty. `handed_out` closes them."""
        ends = [self._child_stdout, self._child_stderr]
        return ends if self._child_stdin is None else [*ends, self._child_stdin]

    def handed_out(self) -> None:
        """The child has them, or never will."""
        for fd in self.hand_out():
            os.close(fd)

    def ended(self, end: Ended) -> None:
        """It has ended. What we ended it for is the reason, whatever the signal said. Said again: ignored."""
        if self._end.done():
            return
        if self._deadline is not None:
            self._deadline.cancel()
        seconds = self._loop.time() - self._begun
        why = end.why if self._why is None or end.why is Why.NOT_STARTED else self._why
        self._end.set_result(replace(end, why=why, seconds=seconds))

    async def read(self) -> Output | None:
        """Process: the next piece of output."""
        while self._outputs:
            over = self._end.done()  # asked first: what it printed before its end is in the pipes by now
            for name, fd in list(self._outputs.items()):
                with suppress(BlockingIOError):
                    data = os.read(fd, CHUNK)
                    if not data:
                        os.close(self._outputs.pop(name))
                        continue
                    return self._take(name, data)
            if over:
                break
            if self._outputs:
                await self._readable()
        self.release()
        return None

    def _take(self, name: str, data: bytes) -> Output:
        """What of it the command may still print; it is stopped at the first byte too many."""
        if self._limit is not None and self._printed + len(data) > self._limit:
            data = data[: self._limit - self._printed]
            self._end_it(Why.OUTPUT_LIMIT)
            self._close_outputs()
        self._printed += len(data)
        return Output("stdout" if name == "stdout" else "stderr", data)

    async def _readable(self) -> None:
        """Wait for output, the end of it, or the end of the command."""
        ready = asyncio.Event()

        def wake(_: object = None) -> None:
            ready.set()

        for fd in self._outputs.values():
            self._loop.add_reader(fd, wake)
        self._end.add_done_callback(wake)
        try:
            await ready.wait()
        finally:
            self._end.remove_done_callback(wake)
            for fd in self._outputs.values():
                self._loop.remove_reader(fd)

    async def write(self, data: bytes) -> None:
        """Process: write to its input."""
        rest = memoryview(data)
        while rest:
            if self._input is None:
                raise BrokenPipeError("the input is closed")
            try:
                rest = rest[os.write(self._input, rest) :]
            except BlockingIOError:
                await self._writable(self._input)

    async def _writable(self, fd: int) -> None:
        ready = asyncio.Event()
        self._loop.add_writer(fd, ready.set)
        try:
            await ready.wait()
        finally:
            self._loop.remove_writer(fd)

    def end_input(self) -> None:
        """Process: close its input."""
        if self._input is not None:
            self._loop.remove_writer(self._input)
            os.close(self._input)
            self._input = None

    def kill(self) -> None:
        """Process: end it."""
        self._end_it(Why.KILLED)

    async def wait(self) -> Ended:
        """Process: its end."""
        while await self.read() is not None:
            pass
        return replace(await asyncio.shield(self._end), output=self._printed)

    def release(self) -> None:
        """Close what is open of it on our side."""
        self.end_input()
        self._close_outputs()

    def _close_outputs(self) -> None:
        for fd in self._outputs.values():
            self._loop.remove_reader(fd)
            os.close(fd)
        self._outputs.clear()

    def _expire(self) -> None:
        self._end_it(Why.TIMEOUT)

    def _end_it(self, why: Why) -> None:
        if self._why is None and not self._end.done():
            self._why = why
            self._stop()


def _sealed(content: bytes) -> int:
    """A file with this content that lies nowhere and that nobody can change, to be read from its beginning."""
    fd = os.memfd_create("stdin", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    for piece in _pieces(content):
        os.write(fd, piece)
    os.lseek(fd, 0, os.SEEK_SET)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)
    return fd


def _pieces(content: bytes) -> Iterator[bytes]:
    for at in range(0, len(content), 1 << 24):
        yield content[at : at + (1 << 24)]
