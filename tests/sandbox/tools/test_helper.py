from __future__ import annotations

import ast
import asyncio
import json
from dataclasses import replace
from typing import cast

import pytest

from arrowslit.sandbox.isolation.isolation import Command, Process, Sandbox
from arrowslit.sandbox.tools.helper import PROGRAM, FileTool, Helper
from arrowslit.sandbox.tools.tool import ToolError
from tests.harness import PATIENCE
from tests.sandbox.tools.hands import Hands

pytestmark = pytest.mark.asyncio(loop_scope="module")

OTHERS = "for p in $(pgrep -x python3); do [ $p != 1 ] &&"
SLOW = {"pattern": "(a+)+b"}
UNKNOWN = "error: grep: its process inside the sandbox was ended; whether it was done is unknown"


async def test_a_helper_that_was_killed_is_started_again_unnoticed(hands: Hands) -> None:
    for i in range(3):
        assert await hands("write", file_path="f", content=f"{i}") == "wrote 1 bytes to f"
        await hands("bash", command=f"{OTHERS} kill -9 $p; done; true")

    assert await hands("read", file_path="f") == "2"


async def test_a_helper_that_is_killed_at_work_leaves_the_call_unknown(hands: Hands) -> None:
    await hands("write", file_path="f", content="a" * 100)
    call = asyncio.create_task(hands("grep", **SLOW))
    async with asyncio.timeout(PATIENCE):
        await at_work(hands)

    await hands("bash", command=f"{OTHERS} kill -9 $p; done; true")

    async with asyncio.timeout(PATIENCE):
        assert await call == UNKNOWN
        assert await hands("read", file_path="f") == "a" * 100


async def at_work(hands: Hands) -> None:
    """Until the helper takes all the time it gets for twenty ticks of the clock: then it is not only starting."""
    busy = f"{OTHERS} read -a s </proc/$p/stat && echo ${{s[13]}}; done"
    while int(await hands("bash", command=busy) or 0) < 20:
        pass


async def test_a_helper_that_was_stopped_is_given_up(sandbox: Sandbox, hands: Hands) -> None:
    read = FileTool("read", Helper(sandbox, seconds=0.1, grace=0.2))
    await hands("write", file_path="f", content="text")
    await read.call({"file_path": "f"})
    await hands("bash", command=f"{OTHERS} kill -STOP $p; done; true")

    with pytest.raises(ToolError, match=r"^read: timed out after 0\.3"):
        await read.call({"file_path": "f"})

    [block] = await read.call({"file_path": "f"})
    assert block["text"] == "text"
    await read.close()
    await hands("bash", command=f"{OTHERS} kill -CONT $p; done; true")


class Impostor:
    """A Sandbox in which the first helper says what it is told to: sandboxed code may be the same user, and take its
    place.
    """

    def __init__(self, sandbox: Sandbox, says: bytes) -> None:
        self._sandbox = sandbox
        self._says: bytes | None = says
        self.session = sandbox.session

    async def start(self, command: Command) -> Process:
        """Sandbox: start a command, or the impostor."""
        if self._says is not None:
            escaped = "".join(f"\\x{byte:02x}" for byte in self._says)
            asked = len(PROGRAM.text) + 4  # bytes: it lives until a request has begun
            stays = "sleep 60" if self._says.startswith(b"\xff") else f"head -c {asked} >/dev/null"
            command, self._says = replace(command, argv=("bash", "-c", f"printf '{escaped}'; {stays}")), None
        return await self._sandbox.start(command)


def message(reply: object) -> bytes:
    data = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
    return len(data).to_bytes(4, "big") + data


@pytest.mark.parametrize(
    "says",
    [
        b"",
        b"\xff\xff\xff\xff",
        message(b"nonsense"),
        message(b"[" * 2000),
        message(b'{"number": 1, "taken": true, "text": "\xff"}'),
        message({"number": 2, "taken": True}),
        message({"number": 1, "text": "a lie"}),
        message({"number": 10**400, "taken": True}),
        message({"number": 1, "taken": True, "media": {"media_type": "text/html", "data": "<script>"}}),
        message({"number": 1, "taken": True, "more": 1}),
    ],
)
async def test_a_helper_that_is_none_is_replaced(says: bytes, sandbox: Sandbox, hands: Hands) -> None:
    await hands("write", file_path="f", content="the truth")
    read = FileTool("read", Helper(cast(Sandbox, Impostor(sandbox, says))))

    async with asyncio.timeout(PATIENCE):
        said = [(await read.call({"file_path": "f"}))[0]["text"] for _ in range(3)]

    assert said == ["the truth"] * 3
    await read.close()


@pytest.mark.parametrize("then", [b"", message({"number": 2, "text": "a lie"}), message({"number": 1, "taken": True})])
async def test_what_a_helper_has_taken_is_not_asked_of_another(then: bytes, sandbox: Sandbox, hands: Hands) -> None:
    await hands("write", file_path="f", content="the truth")
    says = message({"number": 1, "taken": True}) + then
    read = FileTool("read", Helper(cast(Sandbox, Impostor(sandbox, says))))

    async with asyncio.timeout(PATIENCE):
        with pytest.raises(ToolError, match=r"whether it was done is unknown$"):
            await read.call({"file_path": "f"})
        assert (await read.call({"file_path": "f"}))[0]["text"] == "the truth"

    await read.close()


async def test_a_cancelled_call_leaves_no_answer_to_the_next(hands: Hands) -> None:
    await hands("write", file_path="f", content="a" * 100)
    call = asyncio.create_task(hands("grep", **SLOW))
    async with asyncio.timeout(PATIENCE):
        await at_work(hands)

        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

        assert await hands("read", file_path="f") == "a" * 100


async def test_a_helper_for_which_no_process_is_left_says_so(sandbox: Sandbox, hands: Hands) -> None:
    hog = """
import os, time
while True:
    try:
        if os.fork() == 0:
            time.sleep(60)
    except OSError:
        break
open("full", "w")
time.sleep(60)"""
    await hands("bash", command=f"python3 -c '{hog}' & until [ -e full ]; do :; done")
    read = FileTool("read", Helper(sandbox))

    with pytest.raises(ToolError, match=r"^read: the sandbox could not start it: python3: Resource temporarily"):
        await read.call({"file_path": "f"})

    await hands("bash", restart=True)
    with pytest.raises(ToolError, match=r"^read: f: no such file or directory$"):
        await read.call({"file_path": "f"})
    await read.close()


async def test_what_runs_inside_is_python_3_10() -> None:
    for source in json.loads(PROGRAM.text).values():
        ast.parse(source, feature_version=(3, 10))
