"""A worker that is lost in the middle of a call: nothing runs twice behind the model's back (issue 3, leases).

The relay's clock is turned, so that a lease ends when the story says so.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anthropic

from arrowslit.agents.work.leases import FIRST_BEAT, TTL
from arrowslit.agents.work.reaper import UNKNOWN
from tests.official.ground import (
    BEAT,
    HELLO,
    MID,
    ONCE,
    SEND,
    STOP,
    Stage,
    answers,
    bash,
    call,
)
from tests.official.inside import TurnedClock, relay
from tests.official.proxy import Exchange
from tests.support.lines import records

NO_GUESS = {
    "type": "text",
    "text": "Nobody knows whether the call was executed. Do not repeat it unasked. Do not guess what the result would "
    "have been: say that you cannot confirm it right now.",
}
TOLD = UNKNOWN + NO_GUESS["text"]  # to a model that goes on
ONE_WORKER = Path(__file__).with_name("one_worker.py")


@contextmanager
def worker_process(stage: Stage) -> Iterator[subprocess.Popen[bytes]]:
    """A worker that can be taken away. What it began in a shell ends with the story."""
    words = [sys.executable, str(ONE_WORKER), stage.proxy.url, stage.environment, stage.key, str(stage.workdir)]
    with subprocess.Popen(words) as process:
        try:
            yield process
        finally:
            (stage.workdir / "go").touch()
            process.kill()


async def test_a_killed_workers_call_is_unknown_and_what_it_had_not_begun_is_left_to_the_next(tmp_path: Path) -> None:
    clock = TurnedClock()
    async with relay(tmp_path, clock, on_unknown="tell") as ground, ground.stage() as stage:
        held = call("write", file_path="held.txt", content="x")
        session = await stage.session(bash(MID), held, agent="cautious")
        with worker_process(stage) as first:
            await stage.exists("began")
            await stage.proxy.until(BEAT, status=200)
            first.kill()
        clock.turn(TTL + 1)
        events = await stage.until(session, answers)
        assert answers(events) == [(TOLD, True)]

        await stage.confirm(session, "allow")
        async with stage.worker():
            events = await stage.over(session)

        assert answers(events) == [(TOLD, True), ("wrote 1 bytes to held.txt", False)]
        assert stage.ran == 1


async def test_what_a_lost_worker_tells_later_is_a_record_and_changes_nothing(tmp_path: Path) -> None:
    clock = TurnedClock()
    async with relay(tmp_path, clock, on_unknown="tell") as ground, ground.stage() as stage:
        session = await stage.session(bash(MID), bash(ONCE), agent="cautious")
        with worker_process(stage) as first:
            await stage.exists("began")
            await stage.proxy.until(BEAT, status=200)
            first.send_signal(signal.SIGSTOP)
            clock.turn(TTL + 1)
            events = await stage.over(session)
            assert answers(events) == [(TOLD, True)] * 2  # both were shown to it; one had begun
            await stage.send(session, "user.message", content=[{"type": "text", "text": bash("echo after")}])
            async with stage.worker():
                events = await stage.until(session, lambda seen: len(answers(seen)) == 3)
                await stage.proxy.until(STOP, status=200)

            (stage.workdir / "go").touch()
            first.send_signal(signal.SIGCONT)
            await stage.proxy.until(SEND, 2)

        late = stage.proxy.of(SEND)[-1]
        assert late.answered is not None
        assert late.answered.status == 200
        assert late.asked.json["events"][0]["content"] == [{"type": "text", "text": "hello"}]
        assert late.answered.json["data"][0]["content"] == [{"type": "text", "text": UNKNOWN}, NO_GUESS]
        assert answers(await stage.events(session)) == [(TOLD, True)] * 2 + [("after", False)]
        assert stage.ran == 1
        (record,) = [each for each in ledger(tmp_path) if each["kind"] == "late_result"]
        assert (record["session"], record["event"]) == (session, late.asked.json["events"][0]["tool_use_id"])
        assert not stopped_by(late, stage)


def stopped_by(exchange: Exchange, stage: Stage) -> bool:
    """Whether the worker that said this has stopped an item."""
    return exchange.asked.bearer in {each.asked.bearer for each in stage.proxy.of(STOP)}


async def test_a_call_that_no_worker_has_seen_is_run_by_the_next(tmp_path: Path) -> None:
    clock = TurnedClock()
    async with relay(tmp_path, clock, on_unknown="tell") as ground, ground.stage() as stage:
        session = await stage.session(bash(ONCE), agent="cautious")
        async with anthropic.AsyncAnthropic(base_url=stage.proxy.url, auth_token=stage.key) as client:
            poller = client.beta.environments.work.poller(
                environment_id=stage.environment, environment_key=stage.key, auto_stop=False, drain=True
            )
            (claimed,) = [item async for item in poller]  # and nothing more is heard of who claimed it
        assert claimed.data.id == session
        clock.turn(FIRST_BEAT + 1)
        async with stage.worker():
            events = await stage.over(session)

        assert answers(events) == HELLO
        assert stage.ran == 1


def ledger(folder: Path) -> list[dict[str, Any]]:
    """All records."""
    return records(sorted((folder / "relay" / "ledger").glob("*.jsonl")))
