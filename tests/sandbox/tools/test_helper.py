from __future__ import annotations

import ast
import asyncio
import json

import pytest

from arrowslit.sandbox.isolation.isolation import Sandbox
from arrowslit.sandbox.tools.helper import PROGRAM, FileTool, Helper
from arrowslit.sandbox.tools.tool import ToolError
from tests.sandbox.tools.hands import Hands

pytestmark = pytest.mark.asyncio(loop_scope="module")

OTHERS = "for p in $(pgrep -x python3); do [ $p != 1 ] &&"
SLOW = {"pattern": "(a+)+b"}


async def test_a_helper_that_was_killed_is_started_again_unnoticed(hands: Hands) -> None:
    for i in range(3):
        assert await hands("write", file_path="f", content=f"{i}") == "wrote 1 bytes to f"
        await hands("bash", command=f"{OTHERS} kill -9 $p; done; true")

    assert await hands("read", file_path="f") == "2"


async def test_a_helper_that_is_killed_at_work_leaves_the_call_unknown(hands: Hands) -> None:
    await hands("write", file_path="f", content="a" * 100)
    call = asyncio.create_task(hands("grep", **SLOW))

    async with asyncio.timeout(5):
        while not call.done():  # until it has taken it, another takes its place
            await hands(
                "bash", command=f"{OTHERS} grep -q State:.R /proc/$p/status && sleep 0.2 && kill -9 $p; done; true"
            )

    assert await call == "error: grep: its process inside the sandbox was ended; whether it was done is unknown"
    assert await hands("read", file_path="f") == "a" * 100


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


def message(reply: object) -> bytes:
    data = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
    return len(data).to_bytes(4, "big") + data


@pytest.mark.parametrize(
    "forged",
    [
        b"\xff\xff\xff\xff",
        message(b"nonsense"),
        message(b"[" * 100_000),
        message(b'{"number": 1, "text": "\xff"}'),
        message({"number": 0, "text": "a lie"}),
        message({"number": 0, "taken": True}) + message({"number": 0, "text": "a lie"}),
        message({"number": 10**400, "taken": True}),
        message({"number": 0, "media": {"media_type": "text/html", "data": "<script>"}}),
        message({"number": 0, "more": 1}),
    ],
)
async def test_what_sandboxed_code_says_in_its_name_is_not_believed(forged: bytes, hands: Hands) -> None:
    await hands("write", file_path="f", content="the truth")
    escaped = "".join(f"\\x{byte:02x}" for byte in forged[:2000])
    await hands("bash", command=f"printf '{escaped}' >forged; {OTHERS} cat forged >/proc/$p/fd/1; done; rm forged")

    said = [await hands("read", file_path="f") for _ in range(3)]

    assert said == ["the truth"] * 3


async def test_a_cancelled_call_leaves_no_answer_to_the_next(hands: Hands) -> None:
    await hands("write", file_path="f", content="a" * 100)
    call = asyncio.create_task(hands("grep", **SLOW))
    async with asyncio.timeout(5):
        while (await hands("bash", command=f"{OTHERS} grep -c State:.R /proc/$p/status; done; true")) != "1":
            pass

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
    for source in json.loads(PROGRAM).values():
        ast.parse(source, feature_version=(3, 10))
