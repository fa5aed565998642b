"""A relay that dies anywhere in a turn, again and again; and a turn that is interrupted anywhere."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from arrowslit.agent import OnUnknown
from arrowslit.agents.models.model import ModelRequest
from arrowslit.agents.models.scripted import Turn
from arrowslit.agents.sessions.state import IDLE
from arrowslit.errors import Error
from arrowslit.session import Event
from tests.agents.bench import SESSION, Bench, says, simulated, uses
from tests.agents.fate import Fate, doomed_bench, subject
from tests.agents.tale import DEFINITION, text

CHECK = "internal__check_stock"
CALLS = 3
ORDERS = 6
POINTS = 300  # more than a turn has; a test says so if it grows


def three_calls_then_words(request: ModelRequest) -> Turn:
    """Goes by what it is shown: a model remembers nothing."""
    content = request.messages[-1]["content"]
    return says("Done.") if content[-1]["type"] == "tool_result" else uses(*[CHECK] * CALLS, words="I look.")


async def over(house: Bench) -> None:
    """Until the turn has ended. Time is simulated: looking again costs nothing."""
    async with asyncio.timeout(60):
        while True:
            _, state = await house.log.read(SESSION)
            if state.turn is None and not state.waiting:
                return
            await asyncio.sleep(0.1)


async def live(house: Bench, at: int) -> bool:
    """One process, until it dies or the turn is over. Whether it died."""
    fate = Fate(at)
    mortal = subject(house, fate)

    async def relay() -> None:
        async with mortal.running():
            await asyncio.sleep(10_000)

    process = asyncio.create_task(relay())
    death, end = asyncio.create_task(fate.came.wait()), asyncio.create_task(over(house))
    await asyncio.wait([death, end], return_when=asyncio.FIRST_COMPLETED)
    died = fate.came.is_set()
    for task in (death, end, process):
        task.cancel()
    await asyncio.gather(death, end, process, return_exceptions=True)
    await house.sessions.release_all()
    return died


def check_log(events: Sequence[Event]) -> tuple[list[Event], dict[str, Event]]:
    """Gapless, every call closed once. The calls, and their results by call."""
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    uses_ = [event for event in events if event.type == "agent.mcp_tool_use"]
    results = [event for event in events if event.type == "agent.mcp_tool_result"]
    answered = Counter(str(event.body["mcp_tool_use_id"]) for event in results)
    assert answered == Counter(event.id for event in uses_)
    return uses_, {str(event.body["mcp_tool_use_id"]): event for event in results}


async def check_calls(house: Bench, results: dict[str, Event]) -> None:
    """No call was made twice, and of none is claimed what is not so."""
    left = await house.sessions.dispatched(SESSION, list(results))
    reached = Counter(call_id for _, _, call_id in house.servers.reached)
    assert set(reached.values()) <= {1}
    assert set(reached) <= set(left.values())  # one of each event: so no event was called twice
    for call, event in results.items():
        match event.body["outcome"]:
            case "result":
                assert reached[str(event.body["call_id"])] == 1
            case "outcome_unknown":
                assert event.body["call_id"] == left[call]
            case _:
                assert call not in left


async def dies_at(at: int, lives: int, on_unknown: OnUnknown) -> tuple[Bench, int]:
    house = doomed_bench(three_calls_then_words)
    async with house.running():
        await house.create(replace(DEFINITION, on_unknown=on_unknown))
    await house.send("user.message", content=text("Go"))
    deaths = 0
    for _ in range(lives):
        deaths += await live(house, at)
    await live(house, 0)
    return house, deaths


@pytest.mark.promise("P4")
@pytest.mark.parametrize(("on_unknown", "lives"), [(OnUnknown.STOP, 1), (OnUnknown.TELL, 3)])
@simulated
async def test_a_relay_that_dies_anywhere_finishes_the_turn_once_and_calls_nothing_twice(
    on_unknown: OnUnknown, lives: int
) -> None:
    deaths, unknown = 0, 0
    for at in range(1, POINTS):
        house, died = await dies_at(at, lives, on_unknown)
        deaths += died

        events = await house.events()
        uses_, results = check_log(events)
        await check_calls(house, results)
        assert len(uses_) == CALLS
        (idle,) = [event for event in events if event.type == IDLE]
        assert idle.body["stop_reason"] == {"type": "end_turn"}
        doubts = [event for event in results.values() if event.body["outcome"] == "outcome_unknown"]
        unknown += len(doubts)
        assert len(unconfirmed(idle)) == len(doubts)
        last = [event for event in events if event.type == "agent.message"][-1]
        silent = bool(doubts) and on_unknown is OnUnknown.STOP
        assert ("can't confirm" in str(last.body)) is silent
        if not died:
            assert not doubts
            break
    else:
        raise AssertionError("the turn has more points than were tried")
    assert deaths > 50
    assert unknown > 0


def unconfirmed(idle: Event) -> list[Any]:
    found = idle.body.get("unconfirmed", [])
    assert isinstance(found, list)
    return found


@pytest.mark.promise("P3")
@simulated
async def test_a_turn_that_is_interrupted_anywhere_ends_at_once_and_claims_nothing_false() -> None:
    in_the_middle = 0
    for at in range(1, POINTS):
        house = doomed_bench(three_calls_then_words)
        interrupted: list[asyncio.Task[None]] = []

        def interrupt() -> None:
            interrupted.append(asyncio.create_task(mortal.send("user.interrupt")))  # noqa: B023

        fate = Fate(at, interrupt)
        mortal = subject(house, fate)
        async with mortal.running():
            await mortal.create(DEFINITION)
            await mortal.send("user.message", content=text("Go"))
            await over(mortal)
            await asyncio.gather(*interrupted)
            fate.at = 0
            events = await mortal.events()
            _, results = check_log(events)
            await check_calls(house, results)
            ended = [event.type for event in events].count(IDLE)
            assert ended == 1
            in_the_middle += any(event.body["outcome"] == "outcome_unknown" for event in results.values())

            await mortal.send("user.message", content=text("Again"))
            await over(mortal)
            after = await mortal.events()
            check_log(after)
            assert [event.type for event in after].count(IDLE) == 2
            assert "Done." in str(after[-3].body) + str(after[-2].body)
        if not interrupted:
            break
    assert in_the_middle > 0


def orders_then_words(request: ModelRequest) -> Turn:
    """Calls that a person is asked about."""
    content = request.messages[-1]["content"]
    return says("Done.") if content[-1]["type"] == "tool_result" else uses(*["internal__order"] * ORDERS)


@pytest.mark.promise("P3")
@pytest.mark.parametrize("interrupt_first", [True, False])
@simulated
async def test_confirmations_and_an_interrupt_at_once_claim_of_no_call_that_left_that_it_was_not_made(
    interrupt_first: bool,
) -> None:
    outcomes = Counter[str]()
    for at in range(1, POINTS):
        house = doomed_bench(orders_then_words)
        second: list[asyncio.Task[None]] = []

        async def interrupt() -> None:
            await mortal.send("user.interrupt")  # noqa: B023

        async def confirm() -> None:
            await asyncio.gather(*(confirmed(mortal, order) for order in orders))  # noqa: B023

        begin, follow = (interrupt, confirm) if interrupt_first else (confirm, interrupt)
        fate = Fate(0, lambda: second.append(asyncio.create_task(follow())))  # noqa: B023
        mortal = subject(house, fate)
        async with mortal.running():
            await mortal.create(DEFINITION)
            events = await mortal.ask("Go")
            orders = [event.id for event in events if event.type == "agent.mcp_tool_use"]
            fate.at = fate.count + at
            await begin()
            await over(mortal)
            await asyncio.gather(*second)
            _, results = check_log(await mortal.events())
            await check_calls(house, results)
            outcomes.update(str(event.body["outcome"]) for event in results.values())
        if not second:
            break
    else:
        raise AssertionError("the turn has more points than were tried")
    assert outcomes["denied"] > 0
    assert outcomes["outcome_unknown"] > 0


async def confirmed(house: Bench, call: str) -> None:
    """A person says yes, if it is not too late."""
    with suppress(Error):
        await house.send("user.tool_confirmation", tool_use_id=call, result="allow")
