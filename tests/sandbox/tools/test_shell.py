from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import pytest

from arrowslit.errors import Error
from arrowslit.sandbox.isolation.bubblewrap import Bubblewrap
from arrowslit.sandbox.isolation.isolation import Sandbox
from arrowslit.sandbox.tools.tool import ToolError
from arrowslit.sandbox.tools.tools import tools
from tests.harness import PATIENCE
from tests.sandbox.tools.hands import Hands

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_job_goes_on_between_commands_and_dies_with_a_restart(hands: Hands) -> None:
    await hands("bash", command="sleep 61 & cd /tmp; until pgrep -x sleep; do :; done")

    assert await hands("bash", command="pgrep -cx sleep; pwd") == "1\n/tmp"
    await hands("bash", restart=True)
    assert await hands("bash", command="pgrep -cx sleep || pwd") == "0\n/workspace"


async def test_a_job_outlives_a_shell_that_leaves(hands: Hands) -> None:
    assert await hands("bash", command="sleep 62 & until pgrep -x sleep >f; do :; done; exit 0") == "error: (no output)"

    await hands("bash", restart=True)

    assert await hands("bash", command="pgrep -cx sleep && pkill -x sleep") == "1"


async def test_a_command_that_runs_out_of_time_is_killed_with_its_children(hands: Hands) -> None:
    said = await hands("bash", command="sleep 63 | sleep 64 & trap '' TERM INT HUP; sleep 65", timeout_ms=100)

    assert said == "error: bash: bash command timed out after 0.1s"
    await hands("bash", restart=True)
    assert await hands("bash", command="pgrep -cx sleep || true") == "0"


@pytest.mark.parametrize(
    ("command", "status", "ended"),
    [
        ("(exit 7)", 7, "error"),
        ("sh -c 'kill -9 $$'", 137, "error"),
        ("no-such-program", 127, "error"),
        ("exit 3", 3, "error"),
        ("kill -9 $$", 137, "error"),
        ("sleep 67", None, "timeout"),
    ],
)
async def test_a_command_that_fails_says_with_which_status(
    hands: Hands, command: str, status: int | None, ended: str
) -> None:
    with pytest.raises(ToolError) as failure:
        await hands.blocks("bash", command=command, timeout_ms=400)

    assert (failure.value.status, failure.value.ended) == (status, ended)


async def test_what_a_cancelled_command_prints_is_nobodys(sandbox: Sandbox, hands: Hands) -> None:
    other = Hands(sandbox)
    async with asyncio.timeout(PATIENCE):
        call = asyncio.create_task(hands("bash", command="touch begun; sleep 0.2; echo late; sleep 66"))
        while await hands("glob", pattern="begun") == "no matches":
            pass
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    assert await other("bash", command="pgrep -cx sleep || true") == "0"
    await other.close()
    assert await hands("bash", command="echo next") == "error: bash: bash session terminated; restart required"
    await hands("bash", restart=True)
    assert await hands("bash", command="echo next") == "next"


async def test_commands_that_come_at_once_run_one_after_the_other(hands: Hands) -> None:
    said = await asyncio.gather(*(hands("bash", command=f"echo {i} >>f; wc -l <f") for i in range(20)))

    assert said == [str(i + 1) for i in range(20)]


async def test_a_flood_is_read_and_the_end_of_it_kept(hands: Hands) -> None:
    said = await hands("bash", command="head -c 30000000 /dev/zero | tr '\\0' x; echo; echo end")

    assert said.startswith("[output truncated]\nx")
    assert said.endswith("x\nend")
    assert len(said) == 100 * 1024 + len("[output truncated]\n") - 1  # its last newline


async def test_a_flood_leaves_the_loop_to_others(hands: Hands) -> None:
    flood = asyncio.create_task(hands("bash", command="yes", timeout_ms=500))
    turns = 0
    while not flood.done():
        await asyncio.sleep(0.001)
        turns += 1

    assert await flood == "error: bash: bash command timed out after 0.5s"
    assert turns > 10


async def test_what_a_job_prints_comes_with_the_next_command(hands: Hands) -> None:
    await hands("bash", command="(until [ -e go ]; do sleep 0.01; done; echo from the job; touch gone) &")

    said = await hands("bash", command="touch go; until [ -e gone ]; do sleep 0.01; done")

    assert said == "from the job"


@pytest.mark.parametrize(
    "command",
    [
        "printf() { echo mine; }",
        "exec 2>/dev/null",
        "exec >/dev/null 2>&1",
        "exec >&- 2>&- <&-",
        "exec </etc/passwd",
        "trap 'echo bye' EXIT",
        "set -v",
        "set -uo pipefail",
        "PS4=x; PATH=",
        "unset -f printf; enable -n echo",
        "stty sane || true",
        "cat /proc/$$/environ >/dev/null",
        "true }; {",
        "'; echo '",
        "<<E",
        "$(",
        "case x in",
        "\\",
    ],
)
async def test_no_command_takes_the_shell_from_the_next(command: str, hands: Hands) -> None:
    await hands("bash", command=command, timeout_ms=2000)

    said = await hands("bash", command="cd /; pwd", timeout_ms=2000)
    assert said.splitlines()[-1] == "/"


async def test_a_command_may_be_long(hands: Hands) -> None:
    assert await hands("bash", command=f"x='{'y' * 300_000}'; echo ${{#x}}") == "300000"


async def test_a_shell_that_was_killed_says_so_and_comes_back(hands: Hands) -> None:
    assert await hands("bash", command="kill -9 $$") == "error: (no output)"
    assert await hands("bash", command="echo more") == "error: bash: bash session terminated; restart required"
    assert await hands("bash", restart=True) == "bash session restarted"

    await hands("bash", command="(sleep 0.05; touch done; kill -9 $$) & disown")
    async with asyncio.timeout(PATIENCE):
        while await hands("glob", pattern="done") == "no matches":
            pass
        while "terminated" not in await hands("bash", command="sleep 0.01"):
            pass


async def test_the_environment_is_the_sandboxs_and_what_was_given(sandbox: Sandbox) -> None:
    bash, *_ = tools(sandbox, environment={"HTTPS_PROXY": "http://127.0.0.1:3128", "TERM": "no"})

    [block] = await bash.call({"command": "env | sort | cut -d= -f1 | xargs; echo $HTTPS_PROXY $TERM $HOME"})
    await bash.close()

    assert block["text"].splitlines() == [
        "HOME HTTPS_PROXY LANG PATH PWD SHLVL TERM TMPDIR USER _",
        "http://127.0.0.1:3128 dumb /workspace",
    ]


async def test_a_command_has_no_open_file_but_the_three(hands: Hands) -> None:
    assert await hands("bash", command="ls /proc/self/fd") == "0\n1\n2\n3"  # the last is what ls itself opened


async def test_closed_tools_leave_nothing_open(sandbox: Sandbox) -> None:
    gc.collect()  # what other tests left behind is closed now, and not meanwhile
    before = len(list(Path("/proc/self/fd").iterdir()))
    hands = Hands(sandbox)
    await hands("bash", command="sleep 67 & true")
    await hands("glob", pattern="*")
    during = len(list(Path("/proc/self/fd").iterdir()))

    await hands.close()

    assert len(list(Path("/proc/self/fd").iterdir())) == before < during


async def test_a_sandbox_that_ends_is_no_result_of_a_tool(isolation: Bubblewrap) -> None:
    sandbox = await isolation.open("sesn_2")
    hands = Hands(sandbox)
    call = asyncio.create_task(hands("bash", command="touch begun; sleep 68"))
    async with asyncio.timeout(PATIENCE):
        while await hands("glob", pattern="begun") == "no matches":
            pass

    await sandbox.close()

    for tool in (call, hands("glob", pattern="*"), hands("bash", restart=True)):
        with pytest.raises(Error) as ended:
            await tool
        assert ended.value.code == "sandbox_ended"
    await hands.close()
