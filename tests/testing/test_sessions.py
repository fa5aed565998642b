"""The contract of the port Sessions: the same stories for the double that ships and for the store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from arrowslit.errors import Error
from arrowslit.principal import Tenant
from arrowslit.session import (
    Batch,
    Conflict,
    Event,
    EventFilter,
    Lease,
    LeaseLost,
    SessionFilter,
    Sessions,
    SessionStatus,
)
from arrowslit.testing.sessions import MemorySessions
from tests.store.kit import ManualClock, batch, opened, session

ACME = Tenant("acme")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest_asyncio.fixture(params=["memory", "sqlite"])
async def sessions(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Sessions]:
    if request.param == "memory":
        yield MemorySessions(clock)
        return
    async with opened(tmp_path, clock) as store:
        yield store.sessions


async def code(attempt: Awaitable[object]) -> str:
    with pytest.raises(Error) as refused:
        await attempt
    return refused.value.code


async def ids(sessions: Sessions, **filters: object) -> list[str]:
    found = await sessions.list(SessionFilter(**{"tenant": ACME, **filters}))  # type: ignore[arg-type]
    return [each.id for each in found]


async def test_what_is_not_there_is_not_found(sessions: Sessions) -> None:
    assert await code(sessions.read("sesn_9")) == "session_not_found"
    assert await code(sessions.events("sesn_9", EventFilter())) == "session_not_found"
    assert await code(sessions.append(batch(session(9)))) == "session_not_found"
    assert await code(sessions.delete("sesn_9")) == "session_not_found"
    assert await sessions.claim("sesn_9", 1e12) is None
    assert await sessions.list(SessionFilter(tenant=ACME)) == []


async def test_who_decided_on_an_older_state_appends_nothing(sessions: Sessions) -> None:
    start = await sessions.create(batch(session(), 2))
    assert start == await sessions.read("sesn_1")
    step = batch(start, 1, session={"status": SessionStatus.RUNNING})
    await sessions.append(step)

    with pytest.raises(Conflict):
        await sessions.append(batch(start, 1))

    assert await sessions.read("sesn_1") == step.session
    assert [event.seq for event in await sessions.events("sesn_1", EventFilter())] == [1, 2, 3]


async def test_an_earlier_message_is_processed_later(sessions: Sessions) -> None:
    waiting = Event(1, "sevt_w", "user.message", 5.0, None, {"content": []})
    start = replace(session(), last_seq=1, updated_at=5.0)
    await sessions.create(Batch(after=0, session=start, events=(waiting,)))

    await sessions.append(batch(start, 1, session={"updated_at": 9.0}, processed=("sevt_w",)))

    first, _ = await sessions.events("sesn_1", EventFilter())
    assert first == replace(waiting, processed_at=9.0)


async def test_events_are_found_by_place_type_and_time(sessions: Sessions) -> None:
    kinds = ["user.message", "agent.message", "user.message", "agent.message"]
    events = tuple(
        Event(seq, f"sevt_{seq}", kind, 1.0, None if seq == 3 else float(seq), {}) for seq, kind in enumerate(kinds, 1)
    )
    await sessions.create(Batch(after=0, session=replace(session(), last_seq=4), events=events))

    async def seqs(**which: object) -> list[int]:
        return [each.seq for each in await sessions.events("sesn_1", EventFilter(**which))]  # type: ignore[arg-type]

    assert await seqs() == [1, 2, 3, 4]
    assert await seqs(after=1, limit=2) == [2, 3]
    assert await seqs(newest_first=True, limit=2) == [4, 3]
    assert await seqs(newest_first=True, after=3) == [2, 1]
    assert await seqs(types=["agent.message"]) == [2, 4]
    assert await seqs(processed_after=1.0) == [2, 4]
    assert await seqs(processed_since=2.0, processed_before=4.0) == [2]
    assert await seqs(processed_until=2.0) == [1, 2]


async def test_sessions_are_found_within_a_tenant_and_by_what_is_asked(sessions: Sessions) -> None:
    for number in range(1, 6):
        fields = {"agent_id": "agent_2"} if number == 5 else {}
        at = session(number, created_at=float(number), **fields)
        await sessions.create(batch(at, 0))
    await sessions.create(batch(session(6, tenant="other", created_at=6.0), 0))
    await sessions.create(batch(session(7, tenant=None, created_at=7.0), 0))
    await sessions.create(batch(session(8, created_at=8.0, archived_at=9.0, status=SessionStatus.TERMINATED), 0))

    assert await ids(sessions) == ["sesn_5", "sesn_4", "sesn_3", "sesn_2", "sesn_1"]
    assert await ids(sessions, tenant=None) == ["sesn_7"]
    assert await ids(sessions, agents=frozenset({"agent_2"})) == ["sesn_5"]
    assert await ids(sessions, agents=frozenset[str]()) == []
    assert await ids(sessions, agent_id="agent_1", oldest_first=True, limit=2) == ["sesn_1", "sesn_2"]
    assert await ids(sessions, statuses=[SessionStatus.TERMINATED], include_archived=True) == ["sesn_8"]
    assert await ids(sessions, created_after=2.0, created_until=4.0) == ["sesn_4", "sesn_3"]
    assert await ids(sessions, created_since=2.0, created_before=4.0) == ["sesn_3", "sesn_2"]


@pytest.mark.parametrize("oldest_first", [False, True])
async def test_pages_lead_forth_and_back(sessions: Sessions, oldest_first: bool) -> None:
    for number in range(1, 6):
        await sessions.create(batch(session(number, created_at=float(number // 2)), 0))
    whole = await ids(sessions, oldest_first=oldest_first)
    middle = await sessions.read(whole[2])
    place = (middle.created_at, middle.id)

    assert await ids(sessions, oldest_first=oldest_first, position=place, limit=1) == whole[3:4]
    back = await ids(sessions, oldest_first=oldest_first, position=place, backwards=True, limit=1)
    assert back == whole[1:2]
    assert await ids(sessions, oldest_first=oldest_first, position=place, backwards=True) == whole[:2]


async def test_one_lease_at_a_time_and_the_newest_counts(sessions: Sessions, clock: ManualClock) -> None:
    start = await sessions.create(batch(session(runnable=True), 0))
    until = clock.now() + 10
    first = await sessions.claim("sesn_1", until)
    assert first is not None
    assert await sessions.claim("sesn_1", until) is None
    assert await sessions.runnable(clock.now(), 10) == []

    clock.turn(11)
    assert await sessions.runnable(clock.now(), 10) == ["sesn_1"]
    second = await sessions.claim("sesn_1", clock.now() + 10)
    assert second is not None
    assert second.epoch > first.epoch
    with pytest.raises(LeaseLost):
        await sessions.append(batch(start, 1, lease=first))
    with pytest.raises(LeaseLost):
        await sessions.extend(first, clock.now() + 10)
    await sessions.release(first)
    await sessions.extend(second, clock.now() + 20)
    await sessions.append(batch(start, 1, lease=second))


async def test_a_fence_takes_the_lease_away(sessions: Sessions, clock: ManualClock) -> None:
    start = await sessions.create(batch(session(runnable=True), 0))
    lease = await sessions.claim("sesn_1", clock.now() + 10)
    assert lease is not None

    await sessions.append(Batch(after=0, session=start, fence=True))

    with pytest.raises(LeaseLost):
        await sessions.mark_dispatched(lease, {"sevt_1": "call_1"})
    assert isinstance(await sessions.claim("sesn_1", clock.now() + 10), Lease)


async def test_what_is_given_back_or_left_by_a_dead_process_can_be_claimed(
    sessions: Sessions, clock: ManualClock
) -> None:
    await sessions.create(batch(session(runnable=True), 0))
    lease = await sessions.claim("sesn_1", clock.now() + 10)
    assert lease is not None
    await sessions.release(lease)
    again = await sessions.claim("sesn_1", clock.now() + 10)
    assert again is not None

    await sessions.release_all()
    assert await sessions.claim("sesn_1", clock.now() + 10) is not None


async def test_only_what_can_go_on_is_offered_longest_waiting_first(sessions: Sessions, clock: ManualClock) -> None:
    now = clock.now()
    await sessions.create(batch(session(1, runnable=True, updated_at=3.0), 0))
    await sessions.create(batch(session(2, runnable=True, updated_at=2.0), 0))
    await sessions.create(batch(session(3, runnable=True, due=now + 5), 0))
    await sessions.create(batch(session(4), 0))

    assert await sessions.runnable(now, 10) == ["sesn_2", "sesn_1"]
    assert await sessions.runnable(now, 1) == ["sesn_2"]
    assert "sesn_3" in await sessions.runnable(now + 5, 10)
    assert await sessions.claim("sesn_4", now + 10) is None


async def test_which_calls_left_is_known(sessions: Sessions, clock: ManualClock) -> None:
    await sessions.create(batch(session(runnable=True), 0))
    lease = await sessions.claim("sesn_1", clock.now() + 10)
    assert lease is not None
    await sessions.mark_dispatched(lease, {"sevt_1": "call_1", "sevt_2": "call_2"})
    await sessions.mark_dispatched(lease, {"sevt_1": "call_3"})

    assert await sessions.dispatched("sesn_1", ["sevt_1", "sevt_3"]) == {"sevt_1": "call_3"}
    assert await sessions.dispatched("sesn_1", []) == {}


async def test_a_deleted_session_leaves_nothing(sessions: Sessions) -> None:
    await sessions.create(batch(session(), 2))
    await sessions.delete("sesn_1")

    assert await code(sessions.read("sesn_1")) == "session_not_found"
    assert await ids(sessions) == []
