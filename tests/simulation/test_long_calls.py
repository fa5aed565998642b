"""Calls and streams that last, under a clock that is turned: ten minutes take a moment."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from arrowslit.connector.targets.target import Reply, Request
from arrowslit.relay.reply import BEAT
from arrowslit.testing.disk import MemoryDisk
from arrowslit.testing.loop import run
from arrowslit.testing.world import WRITES, SimTarget, World, world
from arrowslit.tunnel import Exchange

MINUTE = 60.0
EVENTS = [("content-type", "text/event-stream")]
MODERN = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
MIRRORED = (("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", WRITES))


@dataclass(slots=True)
class Worker(SimTarget):
    """Works for `seconds`, reports its progress every `every` with the caller's token, or with `token`."""

    seconds: float = 10 * MINUTE
    every: float = MINUTE / 2
    token: str | None = None

    async def exchange(self, request: Request, reply: Reply) -> None:
        """See Target."""
        reply.dispatched()
        reply.head(200, EVENTS)
        if request.method == "GET":
            await asyncio.sleep(self.seconds)
            return
        asked = msgspec.json.decode(request.body)
        token = self.token or asked["params"]["_meta"]["progressToken"]
        for done in range(int(self.seconds // self.every)):
            await asyncio.sleep(self.every)
            reply.piece(
                _event({"method": "notifications/progress", "params": {"progressToken": token, "progress": done}})
            )
        await asyncio.sleep(self.seconds % self.every)
        reply.piece(_event({"id": asked["id"], "result": {"done": True}}))


def _event(message: dict[str, Any]) -> bytes:
    return b"event: message\ndata: " + json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n\n"


def events(body: bytes) -> list[dict[str, Any]]:
    """The messages of a stream."""
    return [json.loads(line.removeprefix("data: ")) for line in body.decode().splitlines() if line.startswith("data: ")]


async def call(here: World, *, modern: bool) -> tuple[float, list[dict[str, Any]]]:
    """A call whose client wants to hear of its progress: how long it took, and what came."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    meta = {"progressToken": 7, **(MODERN if modern else {})}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": WRITES, "_meta": meta}}
    headers = [("content-type", "application/json"), *(MIRRORED if modern else ())]
    heard = await here.exchange(Exchange("POST", headers, json.dumps(message).encode()))
    return loop.time() - began, events(bytes(heard.body))


def simulated(target: Callable[[], Worker], *, modern: bool) -> tuple[float, list[dict[str, Any]], list[str]]:
    """One call of the target: how long it took, what came, and the outcomes on record."""
    disk = MemoryDisk()

    async def story() -> tuple[float, list[dict[str, Any]]]:
        async with world(1, disk) as here:
            here.start_connector("c", target())
            await here.connected()
            return await call(here, modern=modern)

    took, said = run(1, story)
    records = [json.loads(line) for segment in disk.segments() for line in disk.lines(segment.first)]
    return took, said, [record["outcome"] for record in records if record["kind"] == "outcome"]


def worker(**more: Any) -> Callable[[], Worker]:
    """What makes such a target on the running loop."""
    return lambda: Worker(random.Random(1), **more)


@pytest.mark.parametrize("modern", [False, True])
def test_a_call_of_ten_minutes_that_reports_its_progress_gets_its_result(modern: bool) -> None:
    took, said, outcomes = simulated(worker(), modern=modern)

    assert 600 <= took < 601
    assert [message["params"]["progress"] for message in said[:-1]] == list(range(20))
    assert said[-1]["result"] == {"done": True}
    assert outcomes == ["result"]


@pytest.mark.parametrize("modern", [False, True])
@pytest.mark.parametrize(
    ("silent", "until"),
    [
        (worker(every=20 * MINUTE), MINUTE),  # none at all
        (worker(token="somebody-elses"), MINUTE),
        (worker(every=2 * MINUTE), MINUTE),  # the first comes too late
        (worker(seconds=120 * MINUTE), 60 * MINUTE),  # progress cannot renew it for ever
    ],
)
def test_without_progress_in_time_a_call_ends_in_doubt(
    silent: Callable[[], Worker], until: float, modern: bool
) -> None:
    took, said, outcomes = simulated(silent, modern=modern)

    assert until <= took < until + 10
    assert said[-1]["error"]["data"]["code"] == "outcome_unknown"
    assert outcomes == ["outcome_unknown"]


def test_a_stream_on_which_nothing_happens_shows_that_it_lives() -> None:
    async def story() -> bytes:
        async with world(1, MemoryDisk()) as here:
            here.start_connector("c", worker(seconds=10 * BEAT + 1)())
            await here.connected()
            return bytes((await here.exchange(Exchange("GET", [("accept", "text/event-stream")], b""))).body)

    assert run(1, story) == b":\n\n" * 11  # one at once


def test_a_stream_on_which_something_happens_needs_no_comment() -> None:
    async def story() -> bytes:
        async with world(1, MemoryDisk()) as here:
            here.start_connector("c", worker(every=BEAT - 1)())
            await here.connected()
            params = {"name": WRITES, "_meta": {"progressToken": 7}}
            return bytes((await here.post({"method": "tools/call", "params": params})).body)

    lines = run(1, story).splitlines()
    assert len([line for line in lines if line.startswith(b"data:")]) == 43
    assert [line for line in lines if line.startswith(b":")] == []
