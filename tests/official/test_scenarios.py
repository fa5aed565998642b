"""The regression scenarios of the Managed Agents API, by name, with the SDK's own worker.

All play on one relay, several at once, each in an environment of its own.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from json import JSONDecodeError
from pathlib import Path

import pytest
import pytest_asyncio

from tests.official import call_stories as calls
from tests.official import item_stories as item
from tests.official import key_stories as key
from tests.official import lease_stories as lease
from tests.official import queue_stories as queue
from tests.official import stream_stories as stream
from tests.official import tool_stories as tool
from tests.official import turn_stories as turn
from tests.official.ground import BEAT, POLL, SESSION, Ground, Story, ground
from tests.official.message import Message, said


class Played(StrEnum):
    """Where the fault comes from."""

    OURS = "with our server as it is"
    PROXY = "with a proxy before it that does what a faulty server would do"
    NEVER = "ours never answers so; what a worker makes of it is shown with the proxy"


OURS, PROXY, NEVER = Played.OURS, Played.PROXY, Played.NEVER

SCENARIOS: Mapping[str, tuple[Played, Story]] = {
    "happy": (OURS, key.happy),
    "nosecret": (PROXY, key.nosecret),
    "rawsecret": (PROXY, key.rawsecret),
    "handle": (OURS, key.handle),
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
    "ack404": (PROXY, item.ack404),
    "ack500": (PROXY, item.ack500),
    "sess404": (PROXY, item.sess404),
    "stop409": (NEVER, item.stop409),
    "stop409nr": (NEVER, item.stop409nr),
    "healthcheck": (OURS, item.healthcheck),
    "hb-lost": (OURS, lease.hb_lost),
    "hb-stopping": (OURS, lease.hb_stopping),
    "hb-500": (PROXY, lease.hb_500),
    "hb-404": (PROXY, lease.hb_404),
    "min2": (PROXY, key.min2),
    "min3": (PROXY, key.min3),
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
    "twosessions": (OURS, item.twosessions),
    "multiturn": (OURS, item.multiturn),
    "emptyhist": (NEVER, item.emptyhist),
    "tools": (OURS, tool.tools),
    "bash2": (OURS, tool.bash2),
    "poller": (OURS, queue.poller),
    "stream": (OURS, stream.stream),
    "allcalls": (OURS, calls.allcalls),
    "a result whose answer is lost": (PROXY, stream.send_answer_lost),
    "a heartbeat whose answer is lost": (PROXY, stream.beat_answer_lost),
}

NAMES = frozenset(
    """
    happy nosecret rawsecret handle poll-null pnullplain p204 p204json poll-empty200 poll-obj p404 poll401 poll500
    poll429 ack404 ack500 sess404 stop409 stop409nr healthcheck hb-lost hb-stopping hb-500 hb-404 min2 min3
    noevent drop pages list500 stream403 stream404 stream500 send500 send409 send400 ask-allow ask-deny asklate askstop
    custom unknowntool parallel mcp futurestop term terminated_before stopmid lostmid termmid emptyhist lateserver
    interrupted interrupted_fixed multiturn twosessions tools bash2 poller stream allcalls
    """.split()  # noqa: SIM905
)
"""Those of the reference of the Managed Agents API, section 7."""

OF_OURS = {"a result whose answer is lost", "a heartbeat whose answer is lost"}
AT_ONCE = 8
LONGEST = 120.0  # seconds; most take two, those that wait for a worker's patience ten

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True, slots=True)
class Playing:
    """The scenarios that were begun, and where."""

    ground: Ground
    tasks: Mapping[str, asyncio.Task[None]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def playing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Playing]:
    """The scenarios that are asked for, all begun."""
    asked = [each.callspec.params["name"] for each in request.session.items if _plays(each)]  # type: ignore[attr-defined]
    places = asyncio.Semaphore(AT_ONCE)
    async with ground(tmp_path_factory.mktemp("official")) as there:

        async def play(name: str) -> None:
            async with places, asyncio.timeout(LONGEST):
                await SCENARIOS[name][1](there)

        tasks = {name: asyncio.create_task(play(name)) for name in asked or SCENARIOS}
        yield Playing(there, tasks)
        for task in tasks.values():
            task.cancel()
        await asyncio.wait(tasks.values())


def _plays(test: pytest.Item) -> bool:
    return test.path == Path(__file__) and "name" in getattr(getattr(test, "callspec", None), "params", {})


async def test_no_scenario_of_the_reference_is_missing() -> None:
    assert set(SCENARIOS) == NAMES | OF_OURS


@pytest.mark.parametrize("name", SCENARIOS)
async def test_a_worker_of_the_sdk_and_ours(playing: Playing, name: str) -> None:
    await playing.tasks[name]


async def test_ours_never_answered_what_a_worker_does_not_survive(playing: Playing) -> None:
    await asyncio.wait(playing.tasks.values())
    seen = [each for proxy in playing.ground.proxies for each in proxy.exchanges]
    for each in seen:
        if each.theirs is not None and not each.theirs.is_stream:
            well_formed(each.asked, each.theirs)
    frames = [frame for each in seen for frame in each.frames if not frame.startswith(b":")]
    for frame in frames:
        name, data = re.fullmatch(rb"event: ([\w.]+)\ndata: (.*)", frame, re.DOTALL).groups()  # type: ignore[union-attr]
        assert json.loads(data)["type"] == name.decode()
    assert frames


def well_formed(asked: Message, answer: Message) -> None:
    """As a worker needs it: JSON, whatever happened, complete where it looks inside, and refused in one form."""
    assert answer.headers["content-type"] == "application/json", asked.line
    assert answer.headers["request-id"]
    if answer.status != 200:
        assert 400 <= answer.status < 500, asked.line
        assert answer.status != 409, asked.line
        assert answer.json["type"] == "error"
        assert answer.json["request_id"] == answer.headers["request-id"]
    elif re.fullmatch(POLL, asked.line):
        assert answer.json is None or {"id", "environment_id", "data", "secret"} <= answer.json.keys()
    elif re.fullmatch(BEAT, asked.line):
        assert {"last_heartbeat", "lease_extended", "state", "ttl_seconds"} <= answer.json.keys()
    elif re.fullmatch(SESSION, asked.line):
        assert answer.json["resources"] == answer.json["agent"]["skills"] == []
    else:
        assert isinstance(answer.json, dict)
