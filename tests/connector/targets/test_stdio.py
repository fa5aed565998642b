from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil
import pytest
import uvloop

from arrowslit.clock import SystemClock
from arrowslit.connector.targets.facade import Facade
from arrowslit.connector.targets.processes.channel import Listener
from arrowslit.connector.targets.stdio import Command, Stdio, read_command
from arrowslit.connector.targets.target import Lost, NotStarted
from arrowslit.errors import Error
from tests.connector.targets.facade_kit import (
    INITIALIZE,
    RAW,
    Answer,
    call,
    end_quickly,
    gone,
    open_session,
    request,
    running,
    send,
    until,
)
from tests.support.processes import below, of_each

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {"PATH": "/bin", "LC_ALL": "C", "TZ": "UTC", "SECRET": "s", "DSN": "d", "ARROWSLIT_TUNNEL_TOKEN": "t"}


class Heard(Listener):
    """What a server said until it was gone."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.why: str | None = None

    def message(self, line: bytes) -> None:
        self.lines.append(line)

    def closed(self, why: str) -> None:
        self.why = why


def test_a_command_is_split_as_a_shell_would_and_sees_only_what_was_named() -> None:
    command = read_command("./run --a 'b c' $HOME;ls", python="/py", environment=ENVIRONMENT, pass_env=["DSN"])

    assert command.argv == ("./run", "--a", "b c", "$HOME;ls")
    assert command.environment == {"PATH": "/bin", "LC_ALL": "C", "TZ": "UTC", "DSN": "d"}
    assert command.name == "run"


def test_one_python_file_is_run_by_the_given_python(tmp_path: Path) -> None:
    script = tmp_path / "my server.py"
    script.touch()
    assert read_command(f"'{script}'", python="/py", environment={}).argv == ("/py", str(script))
    assert read_command(f"'{script}'", python="/py", environment={}).name == "my server.py"
    assert read_command(f"'{script}' --flag", python="/py", environment={}).argv == (str(script), "--flag")


@pytest.mark.parametrize(
    ("text", "pass_env"), [("", []), ("  ", []), ("run 'x", []), ("./missing.py", []), ("run", ["DNS"]), ("a\0b", [])]
)
def test_a_command_that_means_nothing_is_refused(text: str, pass_env: list[str]) -> None:
    with pytest.raises(Error) as refused:
        read_command(text, python="/py", environment=ENVIRONMENT, pass_env=pass_env)
    assert refused.value.code == "target_invalid"


async def test_a_target_runs_in_its_own_group_with_a_clean_environment_and_where_we_are(tmp_path: Path) -> None:
    async with running(tmp_path, "dual") as facade:
        found = (await send(facade, call("env", modern=True))).result
    assert set(found["env"]) - {"LC_CTYPE"} == {"PATH"}  # Python itself sets LC_CTYPE in the C locale
    assert (found["cwd"], found["group"]) == (str(Path.cwd()), found["pid"])
    assert found["group"] != os.getpgid(0)


def facade_of(text: str, environment: Mapping[str, str], state: Path) -> Facade:
    """The target `stdio:TEXT` of a connector with this environment."""
    command = read_command(text, python=sys.executable, environment=environment)
    return Facade(Stdio(command), clock=SystemClock(), random=random.Random(1).randbytes, state=state, spare=True)


async def test_a_target_that_cannot_start_shows_its_stderr_and_names_the_flag(tmp_path: Path) -> None:
    script = tmp_path / "inventory.py"
    script.write_text("import os\nprint('connecting')\nos.environ['INTERNAL_DB_DSN']\n")
    environment = {"PATH": os.environ["PATH"], "INTERNAL_DB_DSN": "postgresql://secret"}
    target = facade_of(str(script), environment, tmp_path / "sessions")
    with pytest.raises(Error) as failed:
        async with target:
            pass

    error = failed.value
    assert (error.code, error.message) == (
        "target_failed",
        "inventory.py exited with status 1 before it answered anything",
    )
    assert str(error.details["stderr"]).endswith("KeyError: 'INTERNAL_DB_DSN'")
    assert error.hint is not None
    assert "--pass-env INTERNAL_DB_DSN" in error.hint
    assert "secret" not in f"{error} {error.hint} {error.details}"


async def test_a_target_that_does_not_exist_says_so(tmp_path: Path) -> None:
    target = facade_of("no-such-program --x", {"PATH": "/nowhere"}, tmp_path)
    with pytest.raises(Error, match="no-such-program cannot be run") as failed:
        async with target:
            pass
    assert (failed.value.code, "--pass-env" in (failed.value.hint or "")) == ("target_failed", True)


async def test_the_end_of_stderr_is_logged_when_a_process_dies(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = "x" * 70_000 + "\x1b[31m last words\n"
    async with running(tmp_path, "dual") as facade:
        with pytest.raises(Lost):
            await send(facade, call("die", modern=True, words=words))
    record = next(record for record in caplog.records if "exited with status 7" in record.getMessage())
    assert record.getMessage().endswith("x�[31m last words")
    assert 60_000 < len(record.getMessage()) < 66_000


async def test_a_process_leaves_no_grandchild_however_it_ends(tmp_path: Path) -> None:
    async with running(tmp_path, "dual") as facade:
        died = (await send(facade, call("fork", modern=True))).result["pid"]
        with pytest.raises(Lost):
            await send(facade, call("die", modern=True))
        await gone(died)

        stopped = (await send(facade, call("fork", modern=True))).result["pid"]
        session = await open_session(facade)
        deleted = (await send(facade, call("fork"), session=session)).result["pid"]
        await send(facade, method="DELETE", session=session)
        await gone(deleted)
    await gone(stopped)


async def test_a_process_that_ignores_every_request_to_end_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end_quickly(monkeypatch)
    async with running(tmp_path, "legacy", "stubborn") as facade:
        await open_session(facade)
    # `running` has looked for what is left.


async def test_a_polite_process_is_not_killed(tmp_path: Path) -> None:
    heard = Heard()
    script = "import sys, time; sys.stdin.read(); print('bye', end=''); sys.stdout.close(); time.sleep(.1)"
    async with Stdio(Command((sys.executable, "-S", "-c", script), {})) as program:
        channel = await program.start(heard)
        await channel.close()
        assert not channel.usable
        channel.send(b"too late")
    assert (heard.lines, heard.why) == ([b"bye"], "exited with status 0")


async def test_a_process_that_reads_nothing_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    end_quickly(monkeypatch)
    heard = Heard()
    async with Stdio(Command((sys.executable, "-S", "-c", "import time; time.sleep(60)"), {})) as program:
        channel = await program.start(heard)
        channel.send(b"x" * 10_000_000)
        waiting = asyncio.create_task(channel.drain())
        await asyncio.sleep(0)
        assert not waiting.done()

        await asyncio.gather(channel.close(), waiting)
        assert heard.why == "was killed by SIGTERM"


@pytest.mark.promise("P1")
async def test_a_target_opens_no_network_socket(tmp_path: Path) -> None:
    others = set(below())  # servers of other tests, and what they hold open in this process
    theirs = psutil.Process().net_connections("inet")
    async with running(tmp_path, "dual") as facade:
        await open_session(facade)
        family = [psutil.Process(), *(child for child in below() if child not in others)]
        opened = of_each(family, lambda each: each.net_connections("inet"))
        assert len(opened) > 1
        assert [each for sockets in opened for each in sockets if each not in theirs] == []


def test_kill_9_of_the_connector_leaves_no_process(tmp_path: Path) -> None:
    """The raw server and its grandchildren ignore the end of their input and SIGTERM."""
    command = [sys.executable, "-m", "tests.connector.targets.owner_program", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as owner:
        assert owner.stdout is not None
        pids = [int(pid) for pid in owner.stdout.readline().split()]
        assert len(pids) == 5, "two servers, a grandchild of each, and the watchdog"

        owner.send_signal(signal.SIGKILL)
        owner.wait()
        asyncio.run(all_gone(pids))


async def all_gone(pids: list[int]) -> None:
    await asyncio.gather(*map(gone, pids))


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_all_of_it_works_under_both_event_loops_without_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def story() -> None:
        async with running(tmp_path, "dual") as facade:
            session = await open_session(facade)
            assert (await send(facade, call("echo", x="y" * 300_000), session=session)).status == 200
            for body in (call("die"), call("die", ident=2)):
                with pytest.raises(Lost, match="status 7"):
                    await send(facade, body, session=session)
            reply = Answer()
            with pytest.raises(NotStarted):
                await send(facade, call("echo"), session=session, reply=reply)
            assert (await send(facade, call("big", modern=True, size=5_000_000))).status == 200
            with pytest.raises(Lost):
                await send(facade, call("close_output", modern=True))
            await send(facade, call("fork", modern=True))
            assert threading.active_count() == before

    end_quickly(monkeypatch)
    before = threading.active_count()
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(story())


async def test_a_server_of_the_sdk_serves_both_eras(tmp_path: Path) -> None:
    target = facade_of(str(Path(__file__).with_name("sdk_server.py")), os.environ, tmp_path)
    greet = {"name": "greet", "arguments": {"name": "you"}, "_meta": {"progressToken": "p"}}
    async with target as facade:
        assert facade.state()["era"] == "dual"
        modern, first = await asyncio.gather(
            send(facade, request("tools/call", greet, modern=True), version="2026-07-28"), send(facade, INITIALIZE)
        )
        await send(facade, request("notifications/initialized", ident=None), session=first.session)
        legacy = await send(facade, request("tools/call", greet, ident=2), session=first.session)
        unknown = await send(facade, request("no/such", modern=True), version="2026-07-28")
        await send(facade, method="DELETE", session=first.session)
        await until(lambda: facade.state()["processes"] == 1)

    for answer in (modern, legacy):
        assert [event["params"]["progressToken"] for event in answer.events[:-1]] == ["p"]
        assert answer.result["content"][0]["text"] == "hello you"
    assert (unknown.status, unknown.json["error"]["code"]) == (404, -32601)


def test_the_raw_server_is_what_these_tests_think_it_is() -> None:
    line = json.dumps(INITIALIZE).encode() + b"\n"
    said = subprocess.run([sys.executable, "-S", str(RAW), "legacy"], input=line, capture_output=True, check=True)
    assert json.loads(said.stdout)["result"]["serverInfo"] == {"name": "raw"}
