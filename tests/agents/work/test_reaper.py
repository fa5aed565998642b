from __future__ import annotations

import asyncio
import os
from dataclasses import replace

import pytest

from arrowslit.agent import OnUnknown
from arrowslit.agents.sessions.change import Change, Draft, idle
from arrowslit.agents.sessions.ending import end_calls
from arrowslit.agents.sessions.inbox import Sender, SentEvent, send
from arrowslit.agents.sessions.log import Log
from arrowslit.agents.sessions.state import TERMINATED
from arrowslit.agents.work import leases
from arrowslit.agents.work.leases import Beat
from arrowslit.agents.work.reaper import UNKNOWN, Reaper
from arrowslit.session import EventFilter, SessionStatus
from arrowslit.store.open import Store
from arrowslit.work import Work, WorkState
from tests.agents.servant import DEFINITION, Servant, answer, use
from tests.store.kit import ManualClock

STOP = OnUnknown.STOP


@pytest.fixture
async def servant(store: Store, clock: ManualClock) -> Servant:
    log = Log(store.sessions, clock, os.urandom)
    environment = await store.environments.create("team-default")
    return Servant(store, clock, log, Reaper(store.work, log, clock, os.urandom), environment)


async def taken(servant: Servant) -> tuple[Work, str]:
    """The oldest item, as a worker holds it after its first heartbeat, with its token."""
    now, queue = servant.clock.now(), servant.store.work
    found = await queue.next(servant.environment.id, await servant.key(), lambda item: leases.deliver(item, now))
    assert found is not None
    item, token = found
    await queue.change(item.environment_id, item.id, lambda it: leases.acknowledge(it, now))
    beat = Beat(by=item.generation)
    return await queue.change(item.environment_id, item.id, lambda it: leases.beat(it, now, beat)), token


async def unfinished(servant: Servant, session_id: str = "sesn_1") -> Work | None:
    return await servant.store.work.of_session(session_id)


async def test_what_the_lost_worker_saw_is_closed_and_the_rest_is_left_for_the_next(servant: Servant) -> None:
    await servant.session()
    item, token = await taken(servant)
    await servant.calls(use("sevt_a"), use("sevt_held", "ask"))
    await servant.calls(use("sevt_b"), seen=False)
    servant.clock.turn(91)

    await servant.reaper.sweep()

    assert await servant.results() == {"sevt_a": UNKNOWN}
    assert [call.id for call in (await servant.state()).open] == ["sevt_held", "sevt_b"]
    after = await unfinished(servant)
    assert after is not None
    assert (after.id, after.state, after.attempts) == (item.id, WorkState.QUEUED, 1)
    late = await servant.store.work.worker(token)
    assert late is not None
    assert late.late


async def test_a_seen_call_is_closed_before_another_worker_can_have_the_item(
    servant: Servant, monkeypatch: pytest.MonkeyPatch
) -> None:
    await servant.session()
    await taken(servant)
    await servant.calls(use("sevt_a"))
    servant.clock.turn(91)
    close, offered = servant.log.change, list[object]()

    async def poll_first(*arguments: object) -> object:
        servant.clock.turn(100)
        key, deliver = await servant.key(), leases.deliver
        offered.append(
            await servant.store.work.next(servant.environment.id, key, lambda it: deliver(it, servant.clock.now()))
        )
        return await close(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(servant.log, "change", poll_first)
    await servant.reaper.sweep()

    assert offered == [None]
    assert await servant.results() == {"sevt_a": UNKNOWN}


async def test_a_crash_between_the_loss_and_the_closing_is_mended_by_the_next_process(servant: Servant) -> None:
    await servant.session()
    item, _ = await taken(servant)
    await servant.calls(use("sevt_a"))
    servant.clock.turn(91)
    await servant.store.work.change(item.environment_id, item.id, lambda it: leases.lose(it, servant.clock.now()))

    log = Log(servant.store.sessions, servant.clock, os.urandom)  # which remembers nothing of what was sent
    reaper = Reaper(servant.store.work, log, servant.clock, os.urandom)
    await reaper.begin()
    await reaper.sweep()

    assert await servant.results() == {"sevt_a": UNKNOWN}
    after = await unfinished(servant)
    assert after is not None
    assert after.state is WorkState.QUEUED


async def test_a_heartbeat_in_time_keeps_everything(servant: Servant) -> None:
    await servant.session()
    item, _ = await taken(servant)
    await servant.calls(use("sevt_a"))
    servant.clock.turn(89)

    await servant.reaper.sweep()

    assert await unfinished(servant) == item
    assert await servant.results() == {}


async def test_a_worker_that_never_beats_loses_the_item_after_a_minute(servant: Servant) -> None:
    await servant.session()
    now = servant.clock.now()
    found = await servant.store.work.next(
        servant.environment.id, await servant.key(), lambda item: leases.deliver(item, now)
    )
    assert found is not None
    await servant.store.work.change(servant.environment.id, found[0].id, lambda it: leases.acknowledge(it, now))

    servant.clock.turn(60)
    await servant.reaper.sweep()

    after = await unfinished(servant)
    assert after is not None
    assert after.state is WorkState.QUEUED


async def test_the_item_of_a_session_that_needs_no_worker_is_not_queued_again(servant: Servant) -> None:
    await servant.session()
    await taken(servant)
    await servant.add(idle("end_turn"))
    servant.clock.turn(91)

    await servant.reaper.sweep()

    assert await unfinished(servant) is None


async def beaten(servant: Servant, item: Work) -> Work:
    beat = Beat(by=item.generation)
    return await servant.store.work.change(
        item.environment_id, item.id, lambda it: leases.beat(it, servant.clock.now(), beat)
    )


async def test_a_worker_that_ends_its_call_after_it_was_told_to_stop_leaves_the_others_to_the_next(
    servant: Servant,
) -> None:
    await servant.session()
    item, _ = await taken(servant)
    await servant.calls(use("sevt_a"), use("sevt_b"))
    await servant.reaper.stop(item, force=False, by_holder=False)
    servant.clock.turn(5)
    item = await beaten(servant, item)
    servant.clock.turn(5)
    await servant.add(answer("sevt_a"))

    await servant.reaper.stop(item, force=True, by_holder=True)

    after = await unfinished(servant)
    assert after is not None
    assert after.id != item.id
    assert (after.state, after.attempts, after.not_before) == (WorkState.QUEUED, 0, servant.clock.now())
    assert [call.id for call in (await servant.state()).open] == ["sevt_b"]


@pytest.mark.promise("P3")
async def test_a_worker_that_stops_without_a_result_has_perhaps_begun_the_first_call_it_saw(servant: Servant) -> None:
    await servant.session()
    item, _ = await taken(servant)
    await servant.calls(use("sevt_a"), use("sevt_b"), use("sevt_c"))
    await servant.reaper.stop(item, force=False, by_holder=False)
    servant.clock.turn(5)
    await servant.add(answer("sevt_a"))  # before it was told: it may have gone on
    servant.clock.turn(5)
    item = await beaten(servant, item)

    await servant.reaper.stop(item, force=True, by_holder=True)

    assert await servant.results() == {"sevt_a": "done", "sevt_b": UNKNOWN}
    assert [call.id for call in (await servant.state()).open] == ["sevt_c"]
    after = await unfinished(servant)
    assert after is not None
    assert after.state is WorkState.QUEUED


async def test_a_worker_that_stops_may_be_at_the_first_call_or_at_the_one_that_was_confirmed_first(
    servant: Servant,
) -> None:
    await servant.session()
    item, _ = await taken(servant)
    await servant.calls(use("sevt_h", "ask"), use("sevt_i", "ask"), use("sevt_a"), use("sevt_b"))
    for call in ("sevt_i", "sevt_h"):
        await servant.add(Draft("user.tool_confirmation", {"tool_use_id": call, "result": "allow"}))

    await servant.reaper.stop(item, force=True, by_holder=True)

    assert await servant.results() == {"sevt_i": UNKNOWN, "sevt_a": UNKNOWN}


UNCONFIRMED = {"call_id": "sevt_a", "server": None, "tool": "bash", "outcome": "outcome_unknown"}


@pytest.mark.promise("P3")
async def test_an_agent_whose_sandbox_call_is_lost_falls_silent_and_says_which(servant: Servant) -> None:
    await servant.session()
    await servant.log.change(
        "sesn_1", lambda *_: Change(revise=lambda it: replace(it, definition=replace(DEFINITION, on_unknown=STOP)))
    )
    await taken(servant)
    await servant.calls(use("sevt_a"))
    servant.clock.turn(91)

    await servant.reaper.sweep()

    *_, result, said, ended = await servant.store.sessions.events("sesn_1", EventFilter())
    assert result.body["outcome"] == "outcome_unknown"
    assert await servant.results() == {"sevt_a": UNKNOWN}
    assert "the sandbox" in str(said.body)
    assert ended.body["stop_reason"] == {"type": "end_turn"}
    assert ended.body["unconfirmed"] == [UNCONFIRMED]
    assert await unfinished(servant) is None


@pytest.mark.promise("P3")
async def test_a_model_that_is_told_of_a_lost_sandbox_call_is_told_not_to_guess(servant: Servant) -> None:
    await servant.session()
    await taken(servant)
    await servant.calls(use("sevt_a"))
    servant.clock.turn(91)

    await servant.reaper.sweep()

    (result,) = await servant.store.sessions.events("sesn_1", EventFilter(types=["user.tool_result"]))
    assert "Do not guess" in str(result.body["content"])
    turn = (await servant.state()).turn
    assert turn is not None
    assert turn.unconfirmed == (UNCONFIRMED,)


@pytest.mark.promise("P3")
async def test_an_interrupt_names_the_sandbox_call_that_a_worker_may_be_at(servant: Servant) -> None:
    await servant.session()
    await taken(servant)
    await servant.calls(use("sevt_a"))
    await servant.calls(use("sevt_b"), seen=False)
    sent = [SentEvent("sevt_stop", "user.interrupt", {})]

    await end_calls(
        servant.log, "sesn_1", lambda _, state, left: send(state, sent, Sender(), servant.clock.now(), dispatched=left)
    )

    *_, ended = await servant.store.sessions.events("sesn_1", EventFilter())
    assert ended.body["unconfirmed"] == [UNCONFIRMED]


async def test_a_worker_that_is_stopped_by_somebody_else_counts_as_lost(servant: Servant) -> None:
    await servant.session()
    item, _ = await taken(servant)
    await servant.calls(use("sevt_a"))

    await servant.reaper.stop(item, force=True, by_holder=False)

    assert await servant.results() == {"sevt_a": UNKNOWN}
    after = await unfinished(servant)
    assert after is not None
    assert after.id != item.id


async def test_a_worker_asked_to_stop_that_does_not_is_lost_after_three_minutes(servant: Servant) -> None:
    await servant.session()
    item, _ = await taken(servant)
    await servant.calls(use("sevt_a"))
    await servant.reaper.stop(item, force=False, by_holder=False)
    servant.clock.turn(179)
    await servant.reaper.sweep()
    assert await servant.results() == {}

    servant.clock.turn(1)
    await servant.reaper.sweep()

    assert await servant.results() == {"sevt_a": UNKNOWN}
    assert (await servant.store.work.read(item.environment_id, item.id)).state is WorkState.STOPPED
    assert await unfinished(servant) is not None


async def test_a_session_that_loses_every_worker_ends_its_turn_and_says_why(servant: Servant) -> None:
    await servant.session()
    await servant.calls(use("sevt_a"), seen=False)
    for _ in range(5):
        await taken(servant)
        servant.clock.turn(91)
        await servant.reaper.sweep()
        servant.clock.turn(30)
        assert await unfinished(servant) is not None
    await taken(servant)
    servant.clock.turn(91)

    await servant.reaper.sweep()

    state = await servant.state()
    assert (state.status, state.open) == (SessionStatus.IDLE, ())
    assert state.stop_reason == {"type": "retries_exhausted"}
    assert await unfinished(servant) is None
    (error,) = await servant.store.sessions.events("sesn_1", EventFilter(types=["session.error"]))
    said = error.body["error"]
    assert isinstance(said, dict)
    assert (said["code"], said["retry_status"]) == ("no_worker", {"type": "exhausted"})


async def test_progress_lets_the_count_begin_anew(servant: Servant) -> None:
    await servant.session()
    await servant.calls(use("sevt_a"), use("sevt_b"))
    for _ in range(3):
        await taken(servant)
        servant.clock.turn(91)
        await servant.reaper.sweep()
        await servant.calls(use(f"sevt_{servant.clock.now()}"), seen=False)
        servant.clock.turn(30)
    before = await unfinished(servant)
    assert before is not None
    assert before.attempts == 3
    await taken(servant)
    servant.clock.turn(1)
    await servant.add(answer((await servant.state()).open[0].id))
    servant.clock.turn(91)

    await servant.reaper.sweep()

    after = await unfinished(servant)
    assert after is not None
    assert after.attempts == 0


async def test_the_item_of_a_session_that_is_over_is_stopped(servant: Servant) -> None:
    for number in (1, 2):
        await servant.session(f"sesn_{number}")
    held, _ = await taken(servant)
    for number in (1, 2):
        await servant.add(idle("end_turn"), Draft(TERMINATED), session_id=f"sesn_{number}")

    await servant.reaper.sweep()

    items = {item.subject: item.state for item in await servant.store.work.list(servant.environment.id)}
    assert items.pop(held.subject) is WorkState.STOPPING  # its worker hears of it with the next heartbeat
    assert set(items.values()) == {WorkState.STOPPED}


async def test_a_health_check_that_no_worker_ends_is_given_up(servant: Servant) -> None:
    check = leases.healthcheck("work_1", servant.environment.id, servant.clock.now())
    await servant.store.work.add(replace(check, attempts=5))
    await taken(servant)
    servant.clock.turn(91)

    await servant.reaper.sweep()

    assert (await servant.store.work.read(servant.environment.id, "work_1")).state is WorkState.STOPPED


async def test_a_deleted_sessions_worker_leaves_nothing_to_do(servant: Servant) -> None:
    await servant.session()
    item, _ = await taken(servant)
    await servant.add(idle("end_turn"))
    await servant.log.delete("sesn_1")
    servant.clock.turn(91)

    await servant.reaper.begin()
    await servant.reaper.sweep()

    assert (await servant.store.work.read(item.environment_id, item.id)).state is WorkState.STOPPED


async def test_stops_and_sweeps_at_once_leave_one_item(servant: Servant) -> None:
    await servant.session()
    item, _ = await taken(servant)
    await servant.calls(use("sevt_a"), seen=False)
    servant.clock.turn(91)

    await asyncio.gather(
        *(servant.reaper.stop(item, force=True, by_holder=True) for _ in range(5)),
        *(servant.reaper.sweep() for _ in range(5)),
        return_exceptions=False,
    )

    items = await servant.store.work.list(servant.environment.id)
    assert len([each for each in items if each.state is not WorkState.STOPPED]) == 1
