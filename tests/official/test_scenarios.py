"""The regression scenarios of the Managed Agents API, by name, with the SDK's own worker.

All play on one relay, several at once, each in an environment of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from enum import StrEnum
from json import JSONDecodeError
from pathlib import Path

import pytest
import pytest_asyncio

from tests.official import lease_stories as lease
from tests.official import queue_stories as queue
from tests.official import stream_stories as stream
from tests.official import tool_stories as tool
from tests.official import turn_stories as turn
from tests.official.ground import Story, ground
from tests.official.message import said


class Played(StrEnum):
    """Where the fault comes from."""

    OURS = "with our server as it is"
    PROXY = "with a proxy before it that does what a faulty server would do"
    NEVER = "ours never answers so; what a worker makes of it is shown with the proxy"


OURS, PROXY, NEVER = Played.OURS, Played.PROXY, Played.NEVER

SCENARIOS: Mapping[str, tuple[Played, Story]] = {
    "happy": (OURS, queue.happy),
    "nosecret": (PROXY, queue.nosecret),
    "rawsecret": (PROXY, queue.rawsecret),
    "handle": (OURS, queue.handle),
    "poll-null": (OURS, queue.poll_null),
    "pnullplain": (NEVER, queue.pnullplain),
    "p204": (NEVER, queue.dies_of(said(204, b"", ""), AttributeError)),
    "p204json": (NEVER, queue.dies_of(said(204, b""), JSONDecodeError)),
    "poll-empty200": (NEVER, queue.dies_of(said(200, b""), JSONDecodeError)),
    "poll-obj": (NEVER, queue.dies_of(said(200, {}), ValueError)),
    "p404": (OURS, queue.p404),
    "poll401": (OURS, queue.poll401),
    "poll500": (PROXY, queue.poll500),
    "poll429": (PROXY, queue.poll429),
    "ack404": (PROXY, queue.ack404),
    "ack500": (PROXY, queue.ack500),
    "sess404": (PROXY, queue.sess404),
    "stop409": (NEVER, queue.stop409),
    "stop409nr": (NEVER, queue.stop409nr),
    "healthcheck": (OURS, queue.healthcheck),
    "hb-lost": (OURS, lease.hb_lost),
    "hb-stopping": (OURS, lease.hb_stopping),
    "hb-500": (PROXY, lease.hb_500),
    "hb-404": (PROXY, lease.hb_404),
    "min2": (PROXY, queue.min2),
    "min3": (PROXY, queue.min3),
    "noevent": (NEVER, stream.noevent),
    "drop": (PROXY, stream.drop),
    "pages": (PROXY, stream.pages),
    "list500": (PROXY, stream.list500),
    "stream403": (PROXY, stream.stream403),
    "stream404": (PROXY, stream.stream404),
    "stream500": (PROXY, stream.stream500),
    "send500": (PROXY, stream.send500),
    "send409": (PROXY, stream.send409),
    "send400": (PROXY, stream.send400),
    "ask-allow": (OURS, turn.ask_allow),
    "ask-deny": (OURS, turn.ask_deny),
    "asklate": (OURS, turn.asklate),
    "askstop": (OURS, turn.askstop),
    "custom": (OURS, turn.custom),
    "unknowntool": (OURS, turn.unknowntool),
    "parallel": (OURS, turn.parallel),
    "mcp": (OURS, turn.mcp),
    "futurestop": (PROXY, stream.futurestop),
    "term": (OURS, lease.term),
    "terminated_before": (OURS, lease.terminated_before),
    "stopmid": (OURS, lease.stopmid),
    "lostmid": (OURS, lease.lostmid),
    "termmid": (OURS, lease.termmid),
    "lateserver": (NEVER, turn.lateserver),
    "interrupted": (NEVER, turn.interrupted),
    "interrupted_fixed": (OURS, turn.interrupted_fixed),
    "twosessions": (OURS, queue.twosessions),
    "multiturn": (OURS, queue.multiturn),
    "emptyhist": (NEVER, queue.emptyhist),
    "tools": (OURS, tool.tools),
    "bash2": (OURS, tool.bash2),
    "poller": (OURS, queue.poller),
    "stream": (OURS, stream.stream),
    "a result whose answer is lost": (PROXY, stream.send_answer_lost),
    "a heartbeat whose answer is lost": (PROXY, stream.beat_answer_lost),
}

AT_ONCE = 8
LONGEST = 45.0  # seconds; most take two, those that wait for a worker's patience ten


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def playing(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Mapping[str, asyncio.Task[None]]]:
    """The scenarios that are asked for, all begun."""
    names = [item.callspec.params["name"] for item in request.session.items if _plays(item)]  # type: ignore[attr-defined]
    places = asyncio.Semaphore(AT_ONCE)
    async with ground(tmp_path_factory.mktemp("official")) as there:

        async def play(name: str) -> None:
            async with places, asyncio.timeout(LONGEST):
                await SCENARIOS[name][1](there)

        tasks = {name: asyncio.create_task(play(name)) for name in names}
        yield tasks
        for task in tasks.values():
            task.cancel()
        await asyncio.wait(tasks.values())


def _plays(item: pytest.Item) -> bool:
    return item.path == Path(__file__) and "name" in getattr(getattr(item, "callspec", None), "params", {})


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", SCENARIOS)
async def test_a_worker_of_the_sdk_and_ours(playing: Mapping[str, asyncio.Task[None]], name: str) -> None:
    await playing[name]
