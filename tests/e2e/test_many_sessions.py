from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import psutil
import pytest

from arrowslit.client.api import Api
from tests.e2e import plain, turns
from tests.e2e.turns import Session
from tests.harness import Connector, Relay

SESSIONS, TENANTS, THOUSAND = 200, 10, 1000
MOST_MEMORY = 120  # MB that 200 sessions with their streams may add to a relay
SCRIPT = [
    [{"type": "text", "text": "I look. " * 20}, {"type": "tool_use", "name": "look", "input": {"canary": "1"}}],
    [{"type": "text", "text": "That is what I saw. " * 20}],
]
STORY = [
    "user.message",
    "session.status_running",
    "span.model_request_start",
    "agent.message",
    "agent.mcp_tool_use",
    "span.model_request_end",
    "agent.mcp_tool_result",
    "span.model_request_start",
    "agent.message",
    "span.model_request_end",
    "session.status_idle",
]


@pytest.mark.promise("P5")
async def test_two_hundred_sessions_at_once_have_streams_that_are_complete_and_in_order(tmp_path: Path) -> None:
    (tmp_path / "script.json").write_text(json.dumps(SCRIPT))
    with ExitStack() as stack:
        relay = stack.enter_context(Relay(tmp_path, "--model", f"scripted:{tmp_path / 'script.json'}"))
        tunnel = relay.tunnel("plain")
        stack.enter_context(Connector(relay, tunnel, plain.over_stdio()))
        agent = relay.agent("looks", tunnel, ["look"])
        keys = [relay.key(agent, f"tenant-{number}") for number in range(TENANTS)]
        process = psutil.Process(relay.pid)
        before = process.memory_info().rss
        async with turns.http(relay.url) as client:
            sessions = [await turns.begin(client, keys[number % TENANTS], agent) for number in range(SESSIONS)]
            started = asyncio.get_running_loop().time()
            seconds = await play(sessions)
            took = asyncio.get_running_loop().time() - started
            lists = await asyncio.gather(*(session.events() for session in sessions))
        grown = (process.memory_info().rss - before) / 1e6

        for session, events in zip(sessions, lists, strict=True):
            assert [event for _, event in session.streamed] == events
            assert [event["type"] for event in events] == STORY
        assert grown < MOST_MEMORY
        print(f"\n{SESSIONS} turns, {sum(map(len, lists))} events in {took:.1f} s")
        print(f"a turn {shown(seconds)}; an event, from append to arrival, {shown(delays(relay, sessions))}")
        print(f"the relay had {before / 1e6:.0f} MB before and {grown:.0f} MB more after")


async def play(sessions: Sequence[Session]) -> list[float]:
    """Open every stream; then one turn in each session, all at once. Returns how long each took, in seconds."""
    open_streams = asyncio.Barrier(len(sessions) + 1)

    async def follow(session: Session) -> float:
        async with session.stream() as live:
            await open_streams.wait()
            began = asyncio.get_running_loop().time()
            asking = asyncio.create_task(session.send("Look around"))
            async for event in live:
                if turns.ends(event):
                    break
            await asking
            return asyncio.get_running_loop().time() - began

    async with asyncio.TaskGroup() as tasks:
        following = [tasks.create_task(follow(session)) for session in sessions]
        await open_streams.wait()
    return [each.result() for each in following]


def delays(relay: Relay, sessions: Sequence[Session]) -> list[float]:
    """Seconds from the append of each event, as the store has it, to its arrival on the stream."""
    with closing(sqlite3.connect(relay.state / "arrowslit.db")) as connection:
        appended = dict(connection.execute("select id, created_at from session_events"))
    began = time.time() - asyncio.get_running_loop().time()
    return [began + at - appended[event["id"]] for session in sessions for at, event in session.streamed]


def shown(seconds: Sequence[float]) -> str:
    """Median and 99th percentile."""
    ordered = sorted(seconds)
    return f"{ordered[len(ordered) // 2] * 1000:.0f} ms, p99 {ordered[len(ordered) * 99 // 100] * 1000:.0f} ms"


async def test_a_thousand_sessions_that_are_made_at_once_are_all_there_and_the_relay_still_answers(
    tmp_path: Path,
) -> None:
    with Relay(tmp_path) as relay:
        with relay.client() as admin:
            agent = str(admin.post("agents", body={"name": "many", "model": "none"})["id"])
        key = relay.key(agent, "acme")
        process = psutil.Process(relay.pid)
        before = process.memory_info().rss
        async with turns.http(relay.url) as client, asyncio.TaskGroup() as tasks:
            made = [tasks.create_task(turns.begin(client, key, agent)) for _ in range(THOUSAND)]
            await asyncio.wait(made, return_when=asyncio.FIRST_COMPLETED)
            health = await client.get("/healthz")
            late = [each for each in made if not each.done()]
        grown = (process.memory_info().rss - before) / 1e6

        assert health.status_code == 200
        assert late  # it was asked in the middle
        with Api(relay.url, key) as api:
            assert {each["id"] for each in api.every("sessions")} == {each.result().id for each in made}
        assert len({each.result().id for each in made}) == THOUSAND
        assert grown < MOST_MEMORY
