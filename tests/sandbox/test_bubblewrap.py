from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing

import psutil
import pytest
import pytest_asyncio

from arrowslit.errors import Error
from arrowslit.sandbox.isolation import orphans, room
from arrowslit.sandbox.isolation.argv import RUNNER
from arrowslit.sandbox.isolation.bubblewrap import Bubblewrap
from arrowslit.sandbox.isolation.isolation import Command, Degradable, Ended, Limits, Output, Sandbox, Why
from tests.harness import PATIENCE, until
from tests.sandbox.families import family
from tests.sandbox.hosts import SESSION_UIDS, host
from tests.support.processes import below, of_each, runs, words

LIMITS = Limits(memory=64 << 20, workspace=16 << 20)
AS_ROOT = os.geteuid() == 0
DEGRADED: tuple[Degradable, ...] = () if AS_ROOT else ("memory", "cpu", "pids")


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def isolation() -> AsyncIterator[Bubblewrap]:
    """As this user may have it."""
    async with Bubblewrap(LIMITS, uids=range(*SESSION_UIDS) if AS_ROOT else None, allow_degraded=DEGRADED) as found:
        yield found


def runners() -> list[psutil.Process]:
    """Process 1 of every sandbox that we have."""
    return [each for each in below() if words(each)[4:5] == [RUNNER]]


async def everything(sandbox: Sandbox, *argv: str, **command: object) -> tuple[str, str, Ended]:
    """What a command printed, and its end."""
    said, end = {"stdout": b"", "stderr": b""}, None
    async for each in sandbox.run(Command(argv=argv, **command)):  # type: ignore[arg-type]
        match each:
            case Output(stream, data):
                said[stream] += data
            case Ended():
                end = each
    assert end is not None
    return said["stdout"].decode(), said["stderr"].decode(), end


async def test_a_command_has_an_environment_an_input_and_two_outputs(isolation: Bubblewrap) -> None:
    sandbox = await isolation.open("sesn_1")

    out, err, end = await everything(
        sandbox, "sh", "-c", "cat; echo $MORE $HOME $PWD; echo no >&2; exit 7", stdin=b"given ", env={"MORE": "more"}
    )

    assert (out, err) == ("given more /workspace /workspace\n", "no\n")
    assert (end.why, end.status, end.output) == (Why.EXIT, 7, len(out + err))
    assert end.cpu > 0
    assert end.memory > 1 << 20
    assert (sandbox.session, sandbox.report, sandbox.alive) == ("sesn_1", isolation.report, True)
    await sandbox.close()
    assert not sandbox.alive


async def test_output_streams_as_it_comes(isolation: Bubblewrap) -> None:
    sandbox = await isolation.open("sesn_1")
    process = await sandbox.start(
        Command(argv=("bash", "-c", "while read line; do echo got $line; done"), interactive=True)
    )

    for word in (b"one", b"two"):
        await process.write(word + b"\n")
        assert await process.read() == Output("stdout", b"got " + word + b"\n")
    process.end_input()

    assert await process.read() is None
    assert (await process.wait()).status == 0


async def test_a_shell_keeps_its_state_beside_other_commands(isolation: Bubblewrap) -> None:
    sandbox = await isolation.open("sesn_1")
    shell = await sandbox.start(
        Command(argv=("bash", "--norc"), interactive=True, timeout=None, max_output=None, leftovers="keep")
    )
    await shell.write(b"cd /tmp; x=5; sleep 60 & until pgrep -x sleep >f; do :; done; echo on\n")
    await shell.read()

    out, _, _ = await everything(sandbox, "pgrep", "-c", "sleep")
    await shell.write(b"pwd; echo $x; kill %1 && echo was there\n")
    said = b""
    while b"there" not in said and (output := await shell.read()) is not None:
        said += output.data

    assert (out, said) == ("1\n", b"/tmp\n5\nwas there\n")
    shell.kill()
    assert (await shell.wait()).why is Why.KILLED


@pytest.mark.parametrize(
    ("command", "status", "reason"),
    [
        (Command(argv=("no-such-program",)), 127, "no-such-program: No such file or directory"),
        (Command(argv=("/etc/passwd",)), 126, "/etc/passwd: Permission denied"),
        (Command(argv=("true",), cwd="/nowhere"), 127, "its folder: No such file or directory"),
        (Command(argv=("echo", "a\0b")), 126, "an argument holds a NUL"),
        (Command(argv=("echo", "x" * 170_000)), 126, "arguments and environment have 1701"),
        (Command(argv=("echo", "\ud800")), 126, "an argument is not text"),
        (Command(argv=()), 126, "no program"),
        (Command(argv=("true",), env={"A=B": "c"}), 126, "no program, or a variable without a name"),
    ],
    ids=["program", "permission", "folder", "nul", "long", "surrogate", "empty", "variable"],
)
async def test_what_cannot_be_started_says_why(
    command: Command, status: int, reason: str, isolation: Bubblewrap
) -> None:
    sandbox = await isolation.open("sesn_1")

    end = await (await sandbox.start(command)).wait()

    assert (end.why, end.status) == (Why.NOT_STARTED, status)
    assert end.reason.startswith(reason)
    assert (await everything(sandbox, "echo", "on"))[0] == "on\n"


async def test_a_command_that_nobody_reads_any_more_is_killed(isolation: Bubblewrap) -> None:
    sandbox = await isolation.open("sesn_1")

    async with aclosing(sandbox.run(Command(argv=("yes",)))) as output:
        async for _ in output:
            break

    async with asyncio.timeout(PATIENCE):
        while (await everything(sandbox, "pgrep", "yes"))[0]:
            pass


async def test_a_slow_reader_holds_a_command_up_and_its_timeout_still_counts(isolation: Bubblewrap) -> None:
    sandbox = await isolation.open("sesn_1")
    process = await sandbox.start(Command(argv=("yes",), timeout=0.2, max_output=None))

    while await process.read() is not None:
        pass

    assert (await process.wait()).why is Why.TIMEOUT


async def test_commands_run_beside_each_other(isolation: Bubblewrap) -> None:
    sandbox = await isolation.open("sesn_1")

    first = asyncio.create_task(everything(sandbox, "bash", "-c", "until [ -e f ]; do :; done; echo first"))
    second = await everything(sandbox, "touch", "f")

    assert second[2].status == 0
    assert (await first)[0] == "first\n"


async def test_a_listener_inside_is_handed_out_and_leads_nowhere_else(isolation: Bubblewrap) -> None:
    sandbox = await isolation.open("sesn_1", listen=3128)
    assert sandbox.listener is not None
    loop = asyncio.get_running_loop()

    running = asyncio.create_task(everything(sandbox, "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/3128; cat <&3"))
    connection, _ = await loop.sock_accept(sandbox.listener)
    with connection:
        connection.setblocking(False)
        await loop.sock_sendall(connection, b"from outside\n")

    assert (await running)[0] == "from outside\n"
    with socket.socket() as outside, pytest.raises(OSError, match="refused"):
        outside.connect(("127.0.0.1", 3128))
    assert "fd/4" not in (await everything(sandbox, "bash", "-c", "ls -d /proc/*/fd/*"))[0].split()


async def test_without_being_asked_nothing_listens(isolation: Bubblewrap) -> None:
    sandbox = await isolation.open("sesn_1")

    assert sandbox.listener is None
    assert (await everything(sandbox, "bash", "-c", "tail -n +2 /proc/net/tcp /proc/net/tcp6 -q"))[0] == ""


async def test_a_closed_sandbox_ends_its_commands_and_takes_no_more(isolation: Bubblewrap) -> None:
    sandbox = await isolation.open("sesn_1")
    process = await sandbox.start(Command(argv=("sleep", "60")))

    await sandbox.close()
    await sandbox.close()

    assert (await process.wait()).why is Why.DIED
    with pytest.raises(Error, match="sandbox_ended"):
        await sandbox.start(Command(argv=("true",)))


async def test_many_sandboxes_at_once(isolation: Bubblewrap) -> None:
    async with asyncio.timeout(PATIENCE):
        sandboxes = await asyncio.gather(*(isolation.open(f"sesn_{number}") for number in range(40)))
        said = await asyncio.gather(*(everything(each, "sh", "-c", "echo $$ > f; ls") for each in sandboxes))
        await asyncio.gather(*(each.close() for each in sandboxes))

    assert {out for out, _, _ in said} == {"f\n"}


async def test_giving_up_while_a_sandbox_opens_leaves_nothing(isolation: Bubblewrap) -> None:
    """At any moment: the first milliseconds, in which bubblewrap's own processes do not yet die together, are the ones
    that count.
    """
    before = isolation.open_sandboxes
    for moment in range(20):
        opening = asyncio.create_task(isolation.open("sesn_1"))
        await asyncio.sleep(moment / 2000)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening

    assert isolation.open_sandboxes == before
    assert orphans.sweep() == []


async def test_users_run_out_and_come_back() -> None:
    if not AS_ROOT:
        pytest.skip("needs root: sessions are users of their own")
    async with Bubblewrap(LIMITS, uids=range(SESSION_UIDS[1] + 30, SESSION_UIDS[1] + 31)) as isolation:
        sandbox = await isolation.open("sesn_1")
        with pytest.raises(Error, match="all 1 users of the uid range have a session"):
            await isolation.open("sesn_2")
        await sandbox.close()
        await (await isolation.open("sesn_2")).close()


async def test_two_workers_on_one_machine_never_share_a_user() -> None:
    if not AS_ROOT:
        pytest.skip("needs root: sessions are users of their own")
    uids = (SESSION_UIDS[1] + 40, SESSION_UIDS[1] + 43)
    with host("root", uids=uids) as one, host("root", uids=uids) as other:
        assert (one.error, other.error) == (None, None)
        one.open("first")
        one.open("second")
        other.open("first")
        runners = [each for worker in (one, other) for each in family(worker) if RUNNER in words(each)]
        taken = set(of_each(runners, lambda each: each.uids().real)) - {0}
        assert taken == set(range(*uids)), "three sessions, three users"
        assert "all 3 users" in other.refusal("second")

        one.process.kill()
        one.process.wait()
        until(lambda: other.refusal("second") == "", "the kernel gives back what a worker had that died")


async def test_a_start_kills_what_an_earlier_life_left() -> None:
    sleep = "import time; print('on', flush=True); time.sleep(60)"
    orphan = await asyncio.create_subprocess_exec(
        "/usr/bin/bwrap", "-c", sleep, RUNNER, executable=sys.executable, stdout=subprocess.PIPE
    )
    assert orphan.stdout is not None
    assert await orphan.stdout.readline() == b"on\n"
    try:
        async with Bubblewrap(LIMITS, uids=range(*SESSION_UIDS) if AS_ROOT else None, allow_degraded=DEGRADED):
            assert await asyncio.wait_for(orphan.wait(), PATIENCE) == -signal.SIGKILL
    finally:
        if orphan.returncode is None:
            orphan.kill()
            await orphan.wait()


async def test_the_report_stands_in_records(isolation: Bubblewrap) -> None:
    record = isolation.report.record()

    assert record["isolation"] == "bubblewrap"
    features = record["features"]
    assert isinstance(features, dict)
    assert features["disk"] == "tmpfs of a fixed size"
    assert features["network"] == "has no network but its own loopback"
    assert record["degraded"] == [name for name in ("memory", "cpu") if features[name].startswith("best effort: ")]


async def test_a_runner_that_does_not_kill_is_killed(isolation: Bubblewrap, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "KILL_LIMIT", 0.1)
    others = {each.pid for each in runners()}
    sandbox = await isolation.open("sesn_1")
    (runner,) = [each for each in runners() if each.pid not in others]
    process = await sandbox.start(Command(argv=("sleep", "606"), timeout=0.2))
    runner.suspend()
    end = await process.wait()

    assert end.why is Why.TIMEOUT
    assert not sandbox.alive
    await sandbox.close()
    assert not runs(runner)
