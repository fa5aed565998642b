"""Carrier: brings files into a sandbox and out of it. All of it is done by a program inside, so that no path of
anybody's is used out here; what that says is checked like the word of a stranger.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec
from msgspec import Struct

from arrowslit.errors import Error
from arrowslit.file import MOST_BYTES, MOST_PATH, SESSION_FILES
from arrowslit.sandbox import archive, entries, packed
from arrowslit.sandbox.isolation.isolation import KIB, Command, Ended, Sandbox, Why
from arrowslit.sandbox.tools.inside import carry, workspace
from arrowslit.sandbox.tools.inside.carry import OUTPUTS
from arrowslit.sandbox.tools.program import Program

SECONDS = 60.0  # for one file
MOST_SAID = SESSION_FILES * (6 * MOST_PATH + 128)  # bytes of the longest list
MOST_REFUSAL = 2 * KIB

_PROGRAM = Program(workspace, carry)
_UNPACKING = Program(workspace, entries, packed, archive, carry)


class NotCarried(Exception):
    """A file stays where it is; the text says why, in words that a terminal can show."""


class Outputs(Struct, frozen=True, forbid_unknown_fields=True):
    """What lies in the folder of outputs: see `inside/carry.py`. `files` are name, size in bytes, and a stamp."""

    files: list[tuple[str, int, str]]
    others: list[str]
    more: bool


class Unpacked(Struct, frozen=True, forbid_unknown_fields=True):
    """How many files were made."""

    files: int


Said = TypeVar("Said", Outputs, Unpacked)


class Carrier:
    """For one sandbox. All methods raise Error `sandbox_ended`, and NotCarried."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    async def put(self, name: str, content: bytes) -> None:
        """Place a file in the workspace, with the folders that are missing above it."""
        await self._run(_PROGRAM, "put", name, given=content, most=MOST_REFUSAL)

    async def unpack(self, name: str, content: bytes) -> int:
        """Unpack an archive into a folder of the workspace, whole or not at all; how many files that made."""
        said = await self._run(_UNPACKING, "unpack", name, given=content, most=MOST_REFUSAL)
        return _understood(said, Unpacked).files

    async def outputs(self) -> Outputs:
        """What the session's code wants to leave. To find that it is nothing costs next to nothing."""
        there, _ = await self._ended(Command(argv=("test", "-d", OUTPUTS), timeout=SECONDS))
        if there.status != 0:
            return Outputs([], [], False)
        return _understood(await self._run(_PROGRAM, "found", most=MOST_SAID), Outputs)

    async def get(self, name: str, size: int) -> bytes:
        """An output of that size. One that has grown since is cut off there."""
        return await self._run(_PROGRAM, "get", name, str(min(size, MOST_BYTES)), most=MOST_BYTES)

    async def _run(self, program: Program, *words: str, given: bytes = b"", most: int) -> bytes:
        """What the program says. `most` is bytes."""
        command = Command(
            argv=(*program.argv, *words), stdin=program.text + given, timeout=SECONDS, max_output=most + MOST_REFUSAL
        )
        ended, said = await self._ended(command)
        if ended.why is not Why.EXIT:
            raise NotCarried(f"it could not be carried ({ended.why.value})")
        if ended.status != 0:
            raise NotCarried(ascii(said.decode(errors="replace"))[1:-1] or "it could not be carried")
        return said

    async def _ended(self, command: Command) -> tuple[Ended, bytes]:
        """Run a command to its end, and what it printed meanwhile."""
        said = bytearray()
        async for each in self._sandbox.run(command):
            if isinstance(each, Ended):
                if each.why is Why.DIED:
                    break
                return each, bytes(said)
            if each.stream == "stdout":
                said += each.data
        raise Error("sandbox_ended", "the sandbox ended while files were carried", hint="open another")


def _understood(said: bytes, kind: type[Said]) -> Said:
    try:
        return msgspec.json.decode(said, type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise NotCarried("nobody understands what lies there") from error
