"""Helper: the process inside a sandbox that carries out the file tools, and the tools that are made of it.

No path and no pattern of the model is used out here: they go inside as JSON, and what comes back is checked like the
word of a stranger, because sandboxed code runs as the same user and may have written it.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Literal

import msgspec
from msgspec import Struct

from arrowslit.sandbox.isolation.isolation import Command, Process, Sandbox
from arrowslit.sandbox.tools.ending import ended, refuse_unless_it_ran
from arrowslit.sandbox.tools.inputs import SCHEMAS, arguments, check
from arrowslit.sandbox.tools.inside import files, search, serve, workspace
from arrowslit.sandbox.tools.program import Program
from arrowslit.sandbox.tools.tool import FAILED, TIMED_OUT, Block, ToolError, text

logger = logging.getLogger(__name__)

SECONDS = 30.0  # for one look at files; a regular expression may never come to an end
GRACE = 10.0  # seconds more before a helper that does not say so itself is ended
MOST_REPLY = 30 << 20  # bytes; a document of 20 MiB is 28 MB of base64
MOST_TEXT = 1 << 20  # characters; more than any of them says
LAST_WORDS = 2000  # characters of what it complained about, for our log

PROGRAM = Program(workspace, files, search, serve)


class Media(Struct, frozen=True, forbid_unknown_fields=True):
    """An image or a document."""

    media_type: Literal["image/png", "image/jpeg", "image/gif", "image/webp", "application/pdf"]
    data: str


class Reply(Struct, frozen=True, forbid_unknown_fields=True):
    """One message of the helper: see `inside/serve.py`."""

    number: int
    taken: bool = False
    text: str | None = None
    media: Media | None = None
    error: str | None = None
    timed_out: bool = False


class Lost(Exception):
    """The helper has ended, or said what no helper says."""


class FileTool:
    """One of the Tools read, write, edit, glob and grep."""

    def __init__(self, name: str, helper: Helper) -> None:
        self.name = name
        self.input_schema = SCHEMAS[name]
        self._helper = helper

    async def call(self, input: Mapping[str, object]) -> Sequence[Block]:
        """Tool: have it done inside."""
        reply = await self._helper.ask(self.name, arguments(check(self.name, input)))
        if reply.media is not None:
            kind = "document" if reply.media.media_type == "application/pdf" else "image"
            source = {"type": "base64", "media_type": reply.media.media_type, "data": reply.media.data}
            return [{"type": kind, "source": source}]
        if reply.text is None:
            ended = TIMED_OUT if reply.timed_out else FAILED
            raise ToolError(reply.error or f"{self.name}: failed", ended=ended)
        return text(reply.text)

    async def close(self) -> None:
        """Tool: end the helper, which the others share."""
        await self._helper.end()


class Helper:
    """The process, started by the first request, and again if it has ended. Requests follow one another."""

    def __init__(self, sandbox: Sandbox, seconds: float = SECONDS, grace: float = GRACE) -> None:
        self._sandbox = sandbox
        self._seconds = seconds
        self._grace = grace
        self._turn = asyncio.Lock()
        self._process: Process | None = None
        self._numbers = itertools.count(1)
        self._said = bytearray()
        self._complaints = ""

    async def ask(self, tool: str, given: Mapping[str, object]) -> Reply:
        """What it says to a request. Raises ToolError if it does not live to say it, Error `sandbox_ended`."""
        async with self._turn:
            try:
                async with asyncio.timeout(self._seconds + self._grace):
                    return await self._ask(tool, given)
            except TimeoutError:
                await self.end()
                said = f"{tool}: timed out after {self._seconds + self._grace:g}s"
                raise ToolError(said, ended=TIMED_OUT) from None
            except asyncio.CancelledError:
                await self.end()  # its answer would be taken for the next one's
                raise

    async def end(self) -> None:
        """End it."""
        process, self._process = self._process, None
        if process is not None:
            await ended(process)

    async def _ask(self, tool: str, given: Mapping[str, object]) -> Reply:
        """Send a request, twice if the helper is found to have ended before it took it: between two requests the code
        of the session may have killed it, as by `pkill python3`.
        """
        number = next(self._numbers)
        request = {"number": number, "tool": tool, "arguments": given, "seconds": self._seconds}
        message = json.dumps(request).encode("ascii")
        for again in (True, False):
            taken = False
            process = self._process or await self._start()
            try:
                await process.write(len(message).to_bytes(4, "big") + message)
                await self._next(process, number, taken=True)
                taken = True
                return await self._next(process, number, taken=False)
            except (Lost, BrokenPipeError) as error:
                await self._lose(process, tool, error)
                if taken or not again:
                    break
        raise ToolError(f"{tool}: its process inside the sandbox was ended; whether it was done is unknown")

    async def _start(self) -> Process:
        command = Command(argv=PROGRAM.argv, interactive=True, timeout=None, max_output=None, leftovers="keep")
        self._said.clear()
        self._complaints = ""
        self._process = process = await self._sandbox.start(command)
        with suppress(BrokenPipeError):  # then it has ended, as the request will find
            await process.write(PROGRAM.text)
        return process

    async def _next(self, process: Process, number: int, *, taken: bool) -> Reply:
        """The next message, to this request. Raises Lost, also if it is another: then all that follow would be."""
        length = int.from_bytes(await self._bytes(process, 4), "big")
        if length > MOST_REPLY:
            raise Lost("it said too much")
        reply = _understood(await self._bytes(process, length))
        if (reply.number, reply.taken) != (number, taken):
            raise Lost("it said what it was not asked")
        return reply

    async def _bytes(self, process: Process, count: int) -> bytes:
        """So many bytes of what it says; its complaints are kept for when it is lost. Raises Lost."""
        while len(self._said) < count:
            output = await process.read()
            if output is None:
                raise Lost("it has ended")
            if output.stream == "stdout":
                self._said += output.data
            else:
                self._complaints = (self._complaints + output.data.decode(errors="replace"))[-LAST_WORDS:]
        found = bytes(self._said[:count])
        del self._said[:count]
        return found

    async def _lose(self, process: Process, tool: str, error: Exception) -> None:
        """It is of no more use. Raises ToolError if it never began, Error `sandbox_ended`."""
        self._process = None
        logger.info("the helper of %s is lost: %s %r", self._sandbox.session, error, self._complaints)
        refuse_unless_it_ran(await ended(process), tool)


def _understood(said: bytes) -> Reply:
    """A message. Raises Lost for what no helper says."""
    try:
        reply = msgspec.json.decode(said, type=Reply)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Lost("it said what no helper says") from error
    if len(reply.text or "") + len(reply.error or "") > MOST_TEXT:
        raise Lost("it said too much")
    return reply
