"""Which sessions are taken further, how many at once, and what happens to them when the relay stops or fails."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import pytest

from arrowslit.agent import OnUnknown
from arrowslit.agents.models.model import ModelRequest
from arrowslit.agents.models.scripted import Fault, Turn
from arrowslit.agents.servers.tool import ToolAnswer
from arrowslit.agents.sessions.state import IDLE
from arrowslit.agents.turns.runner import AT_ONCE, DRAIN, EACH, MOST_FAILURES
from arrowslit.session import Batch, Lease
from arrowslit.testing.loop import SimClock
from arrowslit.testing.sessions import MemorySessions
from tests.agents.bench import SESSION, Bench, answers, bench, only, result, says, simulated, types, uses
from tests.agents.tale import DEFINITION, text

CHECK = "internal__check_stock"
PLAIN = replace(DEFINITION, toolsets=(), builtin=None)


async def say(house: Bench, id: str = SESSION) -> None:
    await house.send("user.message", id, content=text("Go"))


async def idle(house: Bench, id: str = SESSION) -> None:
    """Until that session has nothing more to do. Time is simulated."""
    async with asyncio.timeout(1000):
        while (await house.sessions.read(id)).runnable:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


@simulated
async def test_what_was_left_by_a_process_that_died_is_found_at_the_start() -> None:
    house = bench([says("Done.")])
    async with house.running():
        await house.create(PLAIN)
    await say(house)

    async with house.running():
        await idle(house)

    assert types(list(await house.events()))[-1] == IDLE


@simulated
async def test_what_nobody_told_of_is_found_within_a_second_or_so() -> None:
    house = bench([says("Done.")])
    async with house.running():
        await house.create(PLAIN)
        house.log.wake = lambda _: None
        began = house.clock.monotonic()
        await say(house)
        await idle(house)

    assert house.clock.monotonic() - began < 1.5


@simulated
async def test_two_relays_on_one_store_do_not_work_on_one_session() -> None:
    one = bench(rule=lambda request: [uses(CHECK), says("Done.")][request.turn])
    two = bench(rule=one.script.rule, sessions=one.sessions)
    two.seed, two.servers = 1000, one.servers
    async with one.running(), two.running():
        await one.create(DEFINITION)
        await say(one)
        two.runner.wake(SESSION)
        await idle(one)

    assert len(one.servers.reached) == 1
    assert len(one.script.asked) + len(two.script.asked) == 2


@simulated
async def test_a_long_step_keeps_its_lease_and_a_lost_lease_stops_it_at_once() -> None:
    house = bench([Fault("slow", 100), says("Done.")])
    async with house.running():
        await house.create(PLAIN)
        await say(house)
        await asyncio.sleep(95)
        assert await house.sessions.claim(SESSION, house.clock.now() + 1) is None
        house.log.fenced = lambda _: None  # as if another process had taken it
        taken = await house.log.hold(SESSION)
        assert taken is not None
        await asyncio.sleep(10)

        assert not only(list(await house.events()), "agent.message")


@simulated
async def test_an_interrupt_stops_a_stream_at_once() -> None:
    house = bench(rule=lambda request: Fault("slow", 3000) if len(house.script.asked) == 1 else says("Fresh."))
    async with house.running():
        await house.create(PLAIN)
        await say(house)
        await asyncio.sleep(12)  # not when the lease is extended, which would notice too
        began = house.clock.monotonic()
        await house.send("user.interrupt")
        events = await house.ask("Something else")
        took = house.clock.monotonic() - began

    assert took < 1
    assert "Fresh." in str(events)
    assert events[-1].body["stop_reason"] == {"type": "end_turn"}


@pytest.mark.promise("P11")
@simulated
async def test_a_revoked_key_stops_what_is_done_for_it_at_once_and_its_turn_says_why() -> None:
    house = bench([Fault("slow", 3000)])
    async with house.running():
        await house.create(PLAIN)
        await say(house)
        await asyncio.sleep(12)
        began = house.clock.monotonic()
        house.revoked.add("key_1")
        house.runner.revoked("key_2")
        house.runner.revoked("key_1")
        await idle(house)
        took = house.clock.monotonic() - began

    assert took < 1
    events = list(await house.events())
    assert events[-1].body["stop_reason"] == {"type": "retries_exhausted"}
    assert "unauthenticated" in str(only(events, "session.error"))


@pytest.mark.promise("P3")
@pytest.mark.promise("P11")
@simulated
async def test_a_key_that_is_revoked_during_a_call_is_named_as_what_ended_the_turn() -> None:
    house = bench([uses(CHECK)])
    called = asyncio.Event()

    async def slow(tool: str, arguments: Mapping[str, object], call_id: str) -> ToolAnswer:
        called.set()
        await asyncio.sleep(3000)
        return result(call_id, "late")

    house.servers.behave = slow
    async with house.running():
        await house.create(DEFINITION)
        await say(house)
        await called.wait()
        house.revoked.add("key_1")
        house.runner.revoked("key_1")
        await idle(house)

    events = list(await house.events())
    (answer,) = only(events, "agent.mcp_tool_result")
    assert answer.body["outcome"] == "outcome_unknown"
    assert "revoked" in str(answer.body["content"])
    assert "restarted" not in str(answer.body["content"])
    assert "unauthenticated" in str(only(events, "session.error")[0].body)
    assert len(events[-1].body["unconfirmed"]) == 1  # type: ignore[arg-type]


class SlowToGrant(MemorySessions):
    """A store that grants a lease a moment later, and whether or not anybody still waits for it."""

    async def claim(self, session_id: str, until: float) -> Lease | None:
        async def grant() -> Lease | None:
            await asyncio.sleep(0.5)
            return await super(SlowToGrant, self).claim(session_id, until)

        return await asyncio.shield(asyncio.create_task(grant()))


@simulated
async def test_a_lease_that_comes_after_its_holder_was_stopped_keeps_nobody_waiting() -> None:
    house = bench([says("Done.")], sessions=SlowToGrant(SimClock()))
    async with house.running():
        await house.create(PLAIN)
        await say(house)
        await asyncio.sleep(0.2)
        began = house.clock.monotonic()
        house.revoked.add("key_1")
        house.runner.revoked("key_1")
        await idle(house)
        took = house.clock.monotonic() - began

    assert took < 3


@pytest.mark.promise("P15")
@simulated
async def test_one_tenant_with_many_slow_sessions_does_not_keep_another_waiting() -> None:
    def rule(request: ModelRequest) -> Turn:
        return Fault("slow", 60) if request.session_id != "theirs" else says("Done.")

    house = bench(rule=rule)
    async with house.running():
        for number in range(3 * AT_ONCE):
            await house.create(PLAIN, f"mine_{number}", tenant="busy")
            await say(house, f"mine_{number}")
        await asyncio.sleep(1)
        most = len(house.script.asked)
        await house.create(PLAIN, "theirs", tenant="other")
        began = house.clock.monotonic()
        await house.ask("Go", "theirs")
        took = house.clock.monotonic() - began

    assert most == EACH < AT_ONCE
    assert took < 1


@simulated
async def test_hundreds_of_sessions_at_once_all_come_to_their_end() -> None:
    house = bench(rule=lambda request: [uses(CHECK, CHECK), says("Done.")][request.turn])
    ids = [f"sesn_{number}" for number in range(300)]
    async with house.running():
        for number, each in enumerate(ids):
            await house.create(DEFINITION, each, tenant=f"tenant_{number % 7}")
            await say(house, each)
        for each in ids:
            await idle(house, each)

    for each in ids:
        events = await house.events(each)
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert events[-1].type == IDLE
    assert len(house.servers.reached) == 600


@simulated
async def test_a_relay_that_stops_lets_a_step_end_and_leaves_the_rest_to_the_next_start() -> None:
    house = bench(rule=lambda request: [uses(CHECK), says("Done.")][request.turn])

    async def slow(tool: str, arguments: Mapping[str, object], call_id: str) -> ToolAnswer:
        await asyncio.sleep(DRAIN - 1)
        return result(call_id, "done")

    house.servers.behave = slow
    async with house.running():
        await house.create(DEFINITION)
        await say(house)
        await asyncio.sleep(0.5)
    stopped = types(list(await house.events()))

    async with house.running():
        await idle(house)

    assert stopped[-1] == "mcp_tool_result"
    assert len(house.servers.reached) == 1
    assert types(list(await house.events()))[len(stopped) :] == ["message", IDLE]


@simulated
async def test_a_relay_does_not_wait_long_for_a_call_when_it_stops_and_its_end_is_unknown() -> None:
    house = bench(rule=lambda request: [uses(CHECK), says("I cannot confirm it.")][request.turn])

    async def for_ever(tool: str, arguments: Mapping[str, object], call_id: str) -> ToolAnswer:
        await asyncio.sleep(10_000)
        raise AssertionError

    house.servers.behave = for_ever
    async with house.running():
        await house.create(replace(DEFINITION, on_unknown=OnUnknown.TELL))
        await say(house)
        await asyncio.sleep(0.5)
        began = house.clock.monotonic()
    assert house.clock.monotonic() - began < DRAIN + 1

    house.servers.behave = answers
    async with house.running():
        await idle(house)

    events = list(await house.events())
    (answer,) = only(events, "agent.mcp_tool_result")
    assert answer.body["outcome"] == "outcome_unknown"
    assert answer.body["call_id"] == house.servers.reached[0][2]
    assert len(house.servers.reached) == 1


@simulated
async def test_a_session_that_makes_the_relay_fail_is_ended_and_others_do_not_notice() -> None:
    def rule(request: ModelRequest) -> Turn:
        if request.session_id == "cursed":
            raise RuntimeError("a defect")
        return says("Done.")

    house = bench(rule=rule)
    async with house.running():
        await house.create(PLAIN, "cursed")
        await house.create(PLAIN, "blessed")
        await say(house, "cursed")
        await asyncio.sleep(0.2)
        events = await house.ask("Go", "blessed")
        await idle(house, "cursed")

    assert events[-1].body["stop_reason"] == {"type": "end_turn"}
    cursed = list(await house.events("cursed"))
    assert cursed[-1].body["stop_reason"] == {"type": "retries_exhausted"}
    (error,) = only(cursed, "session.error")
    assert "internal_error" in str(error.body)
    assert len([each for each in house.script.asked if each.session_id == "cursed"]) == 5


class NoResults(MemorySessions):
    """A store that fails whenever the result of a call is to be kept, until the relay gives up."""

    def __init__(self, clock: SimClock) -> None:
        super().__init__(clock)
        self.failures = MOST_FAILURES

    async def append(self, batch: Batch) -> None:
        if self.failures and any(event.type == "agent.mcp_tool_result" for event in batch.events):
            self.failures -= 1
            raise OSError("the disk is full")
        await super().append(batch)


@pytest.mark.promise("P3")
@simulated
async def test_a_session_that_is_ended_for_a_defect_does_not_claim_that_its_call_was_not_made() -> None:
    house = bench(rule=lambda request: uses(CHECK), sessions=NoResults(SimClock()))
    async with house.running():
        await house.create(DEFINITION)
        await say(house)
        await idle(house)

    (answer,) = only(list(await house.events()), "agent.mcp_tool_result")
    assert answer.body["outcome"] == "outcome_unknown"
    assert "internal_error" in str(only(list(await house.events()), "session.error")[-1].body)
    assert [call_id for _, _, call_id in house.servers.reached] == [answer.body["call_id"]]


@simulated
async def test_a_session_that_is_deleted_while_it_waits_is_nobodys_trouble() -> None:
    house = bench([says("Done.")])
    async with house.running():
        await house.create(PLAIN, "gone")
        await house.create(PLAIN)
        await house.sessions.delete("gone")
        house.runner.wake("gone")
        events = await house.ask("Go")

    assert events[-1].type == IDLE
