"""Shell: one bash in a sandbox that outlives its commands, and the tool that is made of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress

from arrowslit.ids import RandomBytes
from arrowslit.sandbox.isolation.isolation import Command, Process, Sandbox
from arrowslit.sandbox.tools.ending import ended, refuse_unless_it_ran
from arrowslit.sandbox.tools.inputs import SCHEMAS, Bash, check
from arrowslit.sandbox.tools.output import BEFORE, Tail, script
from arrowslit.sandbox.tools.tool import NO_OUTPUT, TIMED_OUT, Block, ToolError, text

ARGV = ("/bin/bash", "--noprofile", "--norc")
ENVIRONMENT = {"PS1": "", "PS2": "", "TERM": "dumb"}
TIMEOUT = 120_000  # milliseconds for a command that does not say
LONGEST = 24 * 3600 * 1000  # milliseconds; more is no time to wait for
MARK = 16  # bytes of chance in it
FLOOD = 1 << 20  # bytes of one command after which its output is read slowly
PAUSE = 0.001  # seconds for each piece of a flood: 64 MB/s, so that one session leaves time to the others


class BashTool:
    """The Tool `bash`. Commands run one after the other."""

    name = "bash"
    input_schema = SCHEMAS["bash"]

    def __init__(self, sandbox: Sandbox, environment: Mapping[str, str], random: RandomBytes) -> None:
        self._shell = _Shell(sandbox, environment, random)
        self._turn = asyncio.Lock()

    async def call(self, input: Mapping[str, object]) -> Sequence[Block]:
        """Tool: run a command, or start the shell anew."""
        asked = check(self.name, input)
        assert isinstance(asked, Bash)
        async with self._turn:
            if asked.restart:
                await self._shell.restart()
                return text("bash session restarted")
            if not asked.command:
                raise ToolError("bash: command is required")
            return text(await self._shell.run(asked.command, min(asked.timeout_ms or TIMEOUT, LONGEST) / 1000))

    async def close(self) -> None:
        """Tool: end the shell."""
        await self._shell.end()


class _Shell:
    """None before its first command; over once it has ended, until it is restarted."""

    def __init__(self, sandbox: Sandbox, environment: Mapping[str, str], random: RandomBytes) -> None:
        self._sandbox = sandbox
        self._environment = {**environment, **ENVIRONMENT}
        self._random = random
        self._process: Process | None = None
        self._over = False

    async def restart(self) -> None:
        """End it with all its jobs, start another."""
        await self.end()
        self._over = False
        await self._start()

    async def run(self, command: str, timeout: float) -> str:
        """What a command prints that ends with status 0. Raises ToolError for any other end, Error `sandbox_ended`."""
        if self._over:
            raise ToolError("bash: bash session terminated; restart required")
        mark = self._random(MARK).hex()
        try:
            data = script(command, mark).encode()
        except UnicodeEncodeError:
            raise ToolError("bash: command is no valid Unicode: it holds half of a surrogate pair") from None
        if b"\0" in data:
            raise ToolError("bash: command holds a NUL")
        process = self._process or await self._start()
        tail = Tail(mark)
        try:
            async with asyncio.timeout(timeout):
                await process.write(data)
                status = await _follow(process, tail)
                end = None if status is not None else await process.wait()
        except TimeoutError:
            await self._lose(process)
            raise ToolError(f"bash: bash command timed out after {timeout}s", ended=TIMED_OUT) from None
        except BrokenPipeError:
            await self._lose(process)
            raise ToolError("bash: bash session terminated; restart required") from None
        except asyncio.CancelledError:
            self._over = True  # what it prints next would be taken for the next command's
            await self.end()
            raise
        if end is not None:
            await self._lose(process)
            raise ToolError(tail.text() or NO_OUTPUT, status=end.status)
        if status != 0:
            raise ToolError(tail.text() or NO_OUTPUT, status=status)
        return tail.text()

    async def end(self) -> None:
        """End it, and its jobs with it."""
        process, self._process = self._process, None
        if process is not None:
            await ended(process)

    async def _start(self) -> Process:
        command = Command(
            argv=ARGV,
            env=self._environment,
            interactive=True,
            timeout=None,
            max_output=None,
            leftovers="keep",  # a server that a command left running serves the next
        )
        self._process = process = await self._sandbox.start(command)
        with suppress(BrokenPipeError):  # then it has ended, as the first command will find
            await process.write(BEFORE.encode())
        return process

    async def _lose(self, process: Process) -> None:
        """It has ended, or has to. Raises ToolError if it never began, Error `sandbox_ended`."""
        self._process, self._over = None, True
        refuse_unless_it_ran(await ended(process), "bash")


async def _follow(process: Process, tail: Tail) -> int | None:
    """Read what a shell prints up to the mark: the status before it, None if the shell ends first."""
    seen = 0
    while (output := await process.read()) is not None:
        if output.stream == "stdout" and (status := tail.take(output.data)) is not None:
            return status
        seen += len(output.data)
        await asyncio.sleep(PAUSE if seen > FLOOD else 0)
    return None
