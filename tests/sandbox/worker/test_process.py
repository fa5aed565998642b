"""The worker as its user starts it, with real sandboxes, at a real relay."""

from __future__ import annotations

import asyncio
import hashlib
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from arrowslit.agents.work.leases import TTL
from arrowslit.agents.work.reaper import UNKNOWN
from tests.harness import arrowslit, until
from tests.official.ground import (
    ACK,
    BEAT,
    SEND,
    STOP,
    Ground,
    Stage,
    answers,
    bash,
    call,
    ground,
    hurry,
    is_over,
    is_waiting,
)
from tests.official.inside import TurnedClock, relay
from tests.sandbox.worker.kit import Sandboxes
from tests.support import processes
from tests.support.lines import records
from tests.support.processes import alive

pytestmark = pytest.mark.asyncio(loop_scope="module")

GONE = 5.0  # seconds; what is promised after a kill


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def there(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ground]:
    """One relay for all."""
    async with ground(tmp_path_factory.mktemp("process")) as found:
        yield found


@asynccontextmanager
async def working(stage: Stage, name: str, *options: str) -> AsyncIterator[Sandboxes]:
    """A worker for a stage, once it is ready. The relay or the proxy lives in this loop, which goes on meanwhile."""
    worker = Sandboxes(stage.workdir / name, stage.proxy.url, stage.environment, stage.key, *options)
    try:
        yield await asyncio.to_thread(worker.start)
    finally:
        worker.kill()


async def sleeps(worker: Sandboxes, seconds: str) -> None:
    """Once a command that sleeps so long runs in one of its sandboxes."""
    await asyncio.to_thread(until, lambda: worker.sleeping(seconds), f"sleep {seconds} runs")


@dataclass(frozen=True, slots=True)
class Shared:
    """A worker that several stories share."""

    stage: Stage
    worker: Sandboxes

    def of(self, kind: str, *sessions: str) -> list[dict[str, Any]]:
        """What it recorded of these sessions."""
        return [each for each in self.worker.of(kind) if each["session"] in sessions]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(there: Ground) -> AsyncIterator[Shared]:
    """It serves four sessions at once, and beats every second."""
    async with there.stage(hurry()) as stage, working(stage, "shared", "--capacity", "4") as worker:
        yield Shared(stage, worker)


# ---------------------------------------------------------------- sessions


async def test_four_sessions_at_once_each_in_a_sandbox_of_its_own(shared: Shared) -> None:
    command = "echo mine > mine.txt; sleep 0.7; ls; id -u"
    sessions = [await shared.stage.session(bash(command)) for _ in range(4)]

    for session in sessions:
        assert answers(await shared.stage.over(session)) == [("mine.txt\n1000", False)]
    records = shared.of("execution", *sessions)
    ends = [datetime.fromisoformat(each["ts"]).timestamp() for each in records]
    begins = [end - each["seconds"] for end, each in zip(ends, records, strict=True)]
    assert len(records) == 4
    assert max(begins) < min(ends)


async def test_the_workers_of_the_sdk_and_ours_share_one_queue(there: Ground, tmp_path: Path) -> None:
    async with there.stage() as stage:
        first = await stage.session(bash("pwd"), agent="asking")
        async with working(stage, "w", "--capacity", "1"):
            await stage.proxy.until(ACK)
            await stage.until(first, is_waiting)
            second = await stage.session(bash("pwd"), agent="asking")
            async with stage.worker():
                await stage.proxy.until(ACK, 2)
                await stage.confirm(first, "allow")
                await stage.confirm(second, "allow")
                assert answers(await stage.over(first)) == [("/workspace", False)]
                assert answers(await stage.over(second)) == [(str(stage.workdir.resolve()), False)]


async def test_a_sandbox_that_dies_is_told_of_and_the_next_call_has_a_new_one(shared: Shared) -> None:
    session = await shared.stage.session(bash("touch old; sleep 297"), bash("ls"))
    await sleeps(shared.worker, "297")
    above = shared.worker.sleeping("297")[0].parents()
    for each in [each for each in above if processes.of_each([each], psutil.Process.name) == ["bwrap"]]:
        processes.kill(each)  # the second may have followed the first

    (lost, failed), empty = answers(await shared.stage.over(session))
    assert failed
    assert "unknown" in lost
    assert empty == ("(no output)", False)


async def test_heartbeats_go_on_while_a_command_floods_the_worker(shared: Shared) -> None:
    session = await shared.stage.session(bash("timeout 3.2 yes; echo; echo end"))
    before = len(shared.stage.proxy.of(BEAT))
    ((text, failed),) = answers(await shared.stage.over(session))

    assert text.endswith("end")
    assert not failed
    assert len(shared.stage.proxy.of(BEAT)) - before >= 3


# ---------------------------------------------------------------- records


async def test_every_execution_and_every_attempt_is_recorded_here_and_there(shared: Shared) -> None:
    command = "curl -s -o /dev/null http://never.test/; echo out"
    failing = (bash("echo no; (exit 7)"), call("bash", command="sleep 9", timeout_ms=100))
    session = await shared.stage.session(bash(command), call("write", file_path="a", content="x"), *failing)
    results = answers(await shared.stage.over(session))
    assert results[:3] == [("out", False), ("wrote 1 bytes to a", False), ("no", True)]

    (attempt,) = shared.of("egress", session)
    assert (attempt["host"], attempt["port"], attempt["verdict"]) == ("never.test", 80, "denied")
    first, second, third, fourth = shared.of("execution", session)
    assert first["code_sha256"] == hashlib.sha256(command.encode()).hexdigest()
    assert first["output_sha256"] == hashlib.sha256(b"out").hexdigest()
    assert (first["ended"], first["status"]) == ("ok", 0)
    assert second["code_bytes"] == len('{"content":"x","file_path":"a"}')
    assert (third["ended"], third["status"]) == ("error", 7)
    assert (fourth["ended"], fourth["status"]) == ("timeout", None)
    mine = [each for each in shared.worker.records if each.get("session") == session]
    for each in mine:
        assert each["sandbox"]["isolation"] == "bubblewrap"
        assert each["sandbox"]["features"]["network"]
    told = await asyncio.to_thread(until, lambda: _told(shared, session, len(mine)), "all was told")
    assert [each["kind"] for each in told] == [each["kind"] for each in mine]
    assert [each["fields"] for each in told] == [_own(each) for each in mine]
    arrowslit("ledger", "verify", "--state", str(shared.worker.state)).ok()


def _told(shared: Shared, session: str, count: int) -> list[dict[str, Any]] | None:
    """What the relay keeps of what the worker said, once it is so much."""
    files = sorted((shared.stage.ground.folder / "relay" / "ledger").glob("*.jsonl"))
    found = [each["said"] for each in records(files) if each["kind"] == "said_by_worker" and each["session"] == session]
    return found if len(found) == count else None


def _own(record: dict[str, Any]) -> dict[str, Any]:
    """A record without what the chain adds."""
    return {name: value for name, value in record.items() if name not in ("kind", "prev", "seq", "signed", "ts")}


# ---------------------------------------------------------------- its end


async def test_sigterm_lets_the_running_call_end_and_begins_no_other(there: Ground) -> None:
    async with there.stage() as stage:
        session = await stage.session(bash("sleep 1.01; echo done"), bash("echo second"))
        async with working(stage, "w") as worker:
            await sleeps(worker, "1.01")
            worker.signal(signal.SIGTERM)
            assert await asyncio.to_thread(worker.wait) == 0

        assert answers(await stage.events(session)) == [("done", False)]
        ends = stage.proxy.of(f"{SEND}|{STOP}")
        assert [each.asked.line.rpartition("/")[2] for each in ends] == ["stop", "events", "stop"]
        assert [each.asked.json for each in ends[::2]] == [{}, {"force": True}]
        async with stage.worker():
            assert answers(await stage.over(session)) == [("done", False), ("second", False)]


async def test_a_second_signal_ends_the_running_call_and_says_so(there: Ground) -> None:
    async with there.stage() as stage:
        session = await stage.session(bash("sleep 296"))
        async with working(stage, "w") as worker:
            await sleeps(worker, "296")
            worker.signal(signal.SIGTERM)
            await asyncio.to_thread(worker.wait_for, "leaving")
            worker.signal(signal.SIGINT)
            assert await asyncio.to_thread(worker.wait) == 0

        ((text, failed),) = answers(await stage.events(session))
        assert failed
        assert "unknown" in text
        assert worker.of("execution")[0]["ended"] == "stopped"
        assert stage.proxy.of(STOP)


async def test_kill_9_leaves_nothing_and_another_takes_over_without_running_it_twice(tmp_path: Path) -> None:
    clock = TurnedClock()
    async with relay(tmp_path, clock) as here, here.stage() as stage:
        session = await stage.session(bash("sleep 295"), agent="cautious")
        async with working(stage, "w") as first:
            await sleeps(first, "295")
            family, groups = first.family, first.groups
            await stage.proxy.until(BEAT, status=200)
            first.kill()
            await asyncio.to_thread(until, lambda: not alive(family), "all is gone", patience=GONE)

        assert len(family) >= 3
        async with working(stage, "w") as second:
            assert not any(each.exists() for each in groups)
            clock.turn(TTL + 1)
            events = await stage.until(session, lambda seen: is_over(seen) and answers(seen))
            assert answers(events) == [(UNKNOWN, True)]
            await stage.send(session, "user.message", content=[{"type": "text", "text": bash("echo after")}])
            events = await stage.until(session, lambda seen: len(answers(seen)) == 2)

            assert answers(events)[1] == ("after", False)
            assert [each["code_bytes"] for each in second.of("execution")] == [len("echo after")]
