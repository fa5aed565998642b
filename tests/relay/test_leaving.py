"""A caller may leave at any point of a call: nobody else notices, no stream stays open, and the ledger says how it
ended.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import pytest
import pytest_asyncio

from arrowslit.app.build import relay as build
from arrowslit.relay.admission import Bounds
from tests.support.inprocess import House, in_process
from tests.support.wire import Wire, dial, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """A tenant has at most two calls at once here, so that a third waits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "Bounds", partial(Bounds, per_tenant=2))
        async with in_process(tmp_path_factory.mktemp("leaving")) as house:
            yield house


@dataclass(slots=True)
class Visit:
    """Somebody with a key of a tenant of their own, and what they have done so far."""

    house: House
    wire: Wire
    key: str
    before: int
    """Requests that had reached the target."""

    def call(self, tool: str, **arguments: object) -> bytes:
        return self.house.post(self.house.message(tool, arguments), key=self.key)

    async def reached(self, count: int = 1) -> None:
        """Return once so many of its calls are at the target."""
        await until(lambda: len(self.house.target.requests) >= self.before + count)


Point = Callable[[Visit], Awaitable[None]]


async def connected(visit: Visit) -> None:
    await until(lambda: visit.house.front.state.connections)


def cut(tool: str, at: float) -> Point:
    """With that share of the request said."""

    async def said(visit: Visit) -> None:
        whole = visit.call(tool, text="x" * 2000)
        await visit.wire.send(whole[: int(len(whole) * at)])

    return said


async def after_the_head(visit: Visit) -> None:
    head, _, _ = visit.call("hang").partition(b"\r\n\r\n")
    await visit.wire.send(head + b"\r\n\r\n")


async def before_the_answer_to_100(visit: Visit) -> None:
    head, _, _ = visit.call("hang").partition(b"\r\n\r\n")
    await visit.wire.send(head + b"\r\nExpect: 100-continue\r\n\r\n")
    assert (await visit.wire.answer()).status == 100


async def at_the_target(visit: Visit) -> None:
    await visit.wire.send(visit.call("hang"))
    await visit.reached()


async def in_line_on_its_connection(visit: Visit) -> None:
    await visit.wire.send(visit.call("hang") + visit.call("hang"))
    await visit.reached()


async def with_an_event(visit: Visit) -> None:
    await visit.wire.send(visit.call("stream", events=10_000, size=2000))
    await visit.wire.head()
    await visit.wire.chunk()


async def without_reading(visit: Visit) -> None:
    await visit.wire.send(visit.call("stream", events=10_000, size=20_000))
    await visit.reached()
    sent = visit.house.target.sent
    await until(lambda: visit.house.target.sent > sent + 200_000)


async def in_a_long_body(visit: Visit) -> None:
    await visit.wire.send(visit.call("big", size=8 << 20))
    await visit.wire.head()
    await visit.wire.chunk()


async def with_the_answer(visit: Visit) -> None:
    await visit.wire.send(visit.call("echo"))
    await visit.wire.answer()


async def before_it_reads_the_answer(visit: Visit) -> None:
    ended = len(visit.house.outcomes())
    await visit.wire.send(visit.call("echo"))
    await until(lambda: len(visit.house.outcomes()) > ended)


async def all_at_once(visit: Visit) -> None:
    await visit.wire.send(visit.call("echo"))


POINTS: dict[str, tuple[Point, list[str]]] = {  # and the outcomes of its calls, "?" where it is a race
    "before it said anything": (connected, []),
    "in the first line": (cut("hang", 0.005), []),
    "in the head": (cut("hang", 0.05), []),
    "after the head": (after_the_head, []),
    "before its body was let through": (before_the_answer_to_100, []),
    "in the body": (cut("hang", 0.9), []),
    "a byte before the end": (cut("hang", 0.9999), []),
    "as soon as it is said": (all_at_once, ["?"]),
    "while it runs": (at_the_target, ["outcome_unknown"]),
    "while another of its own waits behind it": (in_line_on_its_connection, ["outcome_unknown"]),
    "with the first event": (with_an_event, ["outcome_unknown"]),
    "without reading the events": (without_reading, ["outcome_unknown"]),
    "in a long body": (in_a_long_body, ["outcome_unknown"]),
    "before it reads the answer": (before_it_reads_the_answer, ["result"]),
    "with the answer": (with_the_answer, ["result"]),
}


@pytest.mark.promise("P2")
@pytest.mark.parametrize("leave", ["close", "reset"])
@pytest.mark.parametrize(("point", "outcomes"), POINTS.values(), ids=POINTS.keys())
async def test_a_caller_may_leave_at_any_point(house: House, point: Point, outcomes: list[str], leave: str) -> None:
    async with beside(house):
        records = len(house.ledger())
        async with dial(house.port, receive_buffer=4096) as wire:
            await point(Visit(house, wire, await house.make_key("leaving"), len(house.target.requests)))
            wire.reset() if leave == "reset" else wire.writer.close()
    await settled(house)
    mine = [each for each in house.ledger()[records:] if each.get("tenant") == "leaving"]
    calls = {each["call"] for each in mine if each["kind"] == "asked"}
    ended = [
        each["outcome"] for each in house.ledger()[records:] if each["kind"] == "outcome" and each["call"] in calls
    ]
    assert len(ended) == len(calls)
    assert ended == outcomes or (outcomes == ["?"] and len(ended) <= 1)


@pytest.mark.promise("P2")
@pytest.mark.parametrize("leave", ["close", "reset"])
async def test_a_caller_may_leave_while_it_waits_for_its_turn(house: House, leave: str) -> None:
    key, before, records = await house.make_key("waiting"), len(house.target.requests), len(house.ledger())
    async with beside(house), contextlib.AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(dial(house.port)) for _ in range(3)]
        for number, wire in enumerate(wires):
            visit = Visit(house, wire, key, before)
            await wire.send(visit.call("hang"))
            await visit.reached(min(number + 1, 2))
        wires[2].reset() if leave == "reset" else wires[2].writer.close()
        await until(lambda: len(house.front.state.tasks) <= 3)  # the two, and perhaps one that is beside
    await settled(house)
    assert len([each for each in house.target.requests[before:] if b'"hang"' in each.body]) == 2
    asked = [each for each in house.ledger()[records:] if each["kind"] == "asked" and each["tenant"] == "waiting"]
    assert len(asked) == 2, "what never began was never a call"


@contextlib.asynccontextmanager
async def beside(house: House) -> AsyncIterator[None]:
    """Another caller calls all the while, is always answered, and on a single connection."""
    over = asyncio.Event()

    async def call() -> int:
        count = 0
        async with dial(house.port) as wire:
            while not over.is_set():
                await wire.send(house.post(house.message("echo", {"from": "beside"})))
                assert (await wire.answer()).json["result"]["arguments"] == {"from": "beside"}
                count += 1
        return count

    calling = asyncio.create_task(call())
    try:
        yield
    finally:
        over.set()
        assert await calling


async def settled(house: House) -> None:
    """Return once each call that was asked has its outcome, no stream is open, and nothing runs."""

    def quiet() -> bool:
        kinds = [each["kind"] for each in house.ledger()]
        idle = not house.relay.hub.streams and not house.front.state.tasks
        return idle and kinds.count("asked") == kinds.count("outcome")

    await until(quiet)
