from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path

import pytest

from arrowslit.errors import Error
from arrowslit.principal import Tenant
from arrowslit.session import Conflict, EventFilter, LeaseLost, SessionFilter, SessionStatus, Usage
from arrowslit.store.open import Store
from tests.harness import PATIENCE
from tests.store.kit import ManualClock, batch, opened, session, work

WRITER = """
import asyncio, os, sys
from pathlib import Path
from arrowslit.clock import SystemClock
from arrowslit.store.open import Store
from tests.store.kit import ROOT, batch, session

async def append(store, number):
    at = await store.sessions.create(batch(session(number), 1))
    while True:
        step = batch(at, 3)
        await store.sessions.append(step)
        at = step.session
        print(number, at.last_seq, flush=True)

async def main():
    url, files = sys.argv[1], Path(sys.argv[2])
    async with Store.open(url, files=files, root=ROOT, clock=SystemClock(), random=os.urandom) as store:
        async with asyncio.TaskGroup() as tasks:
            for number in range(3):
                tasks.create_task(append(store, number))

asyncio.run(main())
"""


async def seqs(store: Store, session_id: str = "sesn_1") -> list[int]:
    return [event.seq for event in await store.sessions.events(session_id, EventFilter())]


async def refusal(attempt: Awaitable[object]) -> str:
    with pytest.raises(Error) as refused:
        await attempt
    return refused.value.code


async def test_a_session_is_the_same_after_reopening(tmp_path: Path, clock: ManualClock) -> None:
    before = session(
        metadata={"a": "b"},
        status=SessionStatus.RUNNING,
        usage=Usage(1, 2, 3, 4, 5.5),
        title="T",
        due=7.0,
        updated_at=8.0,
    )
    async with opened(tmp_path, clock) as store:
        made = await store.sessions.create(batch(before, 2))
    async with opened(tmp_path, clock) as store:
        assert await store.sessions.read("sesn_1") == made == replace(before, last_seq=2)
        assert await seqs(store) == [1, 2]


async def test_twenty_who_append_at_once_leave_no_gap(either: Store) -> None:
    await either.sessions.create(batch(session(), 0))
    conflicts = 0

    async def append() -> None:
        nonlocal conflicts
        while True:
            try:
                await either.sessions.append(batch(await either.sessions.read("sesn_1"), 2))
                return
            except Conflict:
                conflicts += 1

    await asyncio.gather(*(append() for _ in range(20)))

    assert await seqs(either) == list(range(1, 41))
    assert conflicts > 0
    assert (await either.sessions.read("sesn_1")).last_seq == 40


async def test_what_was_decided_on_an_older_state_leaves_nothing(either: Store) -> None:
    environment = await either.environments.create("team-default")
    start = await either.sessions.create(batch(session(environment_id=environment.id), 1))
    await either.sessions.append(batch(start, 1))

    with pytest.raises(Conflict):
        await either.sessions.append(batch(start, 2, work=work(environment.id), session={"title": "mine"}))

    assert await seqs(either) == [1, 2]
    assert (await either.sessions.read("sesn_1")).title is None
    assert await either.work.of_session("sesn_1") is None


async def test_a_batch_with_a_gap_is_a_defect(store: Store) -> None:
    start = await store.sessions.create(batch(session(), 1))

    with pytest.raises(ValueError, match="do not lead"):
        await store.sessions.append(replace(batch(start, 2), events=()))


async def test_messages_are_processed_later_in_the_append_that_says_so(either: Store) -> None:
    first = batch(session(), 2)
    waiting = tuple(replace(event, processed_at=None) for event in first.events)
    start = await either.sessions.create(replace(first, events=waiting))

    await either.sessions.append(batch(start, 1, processed=(waiting[0].id,), session={"updated_at": 50.0}))

    events = await either.sessions.events("sesn_1", EventFilter())
    assert [event.processed_at for event in events] == [50.0, None, 1.0]


async def test_of_two_who_claim_one_gets_it(either: Store, clock: ManualClock) -> None:
    start = await either.sessions.create(batch(session(runnable=True), 1))
    until = clock.now() + 30

    leases = await asyncio.gather(either.sessions.claim("sesn_1", until), either.sessions.claim("sesn_1", until))

    (lease,) = [each for each in leases if each is not None]
    assert await either.sessions.runnable(clock.now(), 10) == []
    await either.sessions.append(batch(start, 1, lease=lease))
    assert await seqs(either) == [1, 2]


async def test_only_who_can_go_on_now_is_to_be_claimed_the_longest_waiting_first(
    either: Store, clock: ManualClock
) -> None:
    now = clock.now()
    for number, (runnable, updated_at, due) in enumerate(
        [(True, now - 1, 0.0), (True, now - 9, 0.0), (False, 0.0, 0.0), (True, now, now + 1)]
    ):
        await either.sessions.create(batch(session(number, runnable=runnable, updated_at=updated_at, due=due), 0))

    assert await either.sessions.runnable(now, 10) == ["sesn_1", "sesn_0"]
    assert await either.sessions.runnable(now, 1) == ["sesn_1"]
    assert await either.sessions.runnable(now + 1, 10) == ["sesn_1", "sesn_0", "sesn_3"]
    assert await either.sessions.claim("sesn_2", now + 30) is None
    assert await either.sessions.claim("sesn_none", now + 30) is None


async def test_a_lease_that_ended_is_another_ones_and_fences_the_first(either: Store, clock: ManualClock) -> None:
    start = await either.sessions.create(batch(session(runnable=True), 1))
    first = await either.sessions.claim("sesn_1", clock.now() + 30)
    assert first is not None
    await either.sessions.extend(first, clock.now() + 60)
    clock.turn(59)
    assert await either.sessions.claim("sesn_1", clock.now() + 30) is None
    clock.turn(1)

    second = await either.sessions.claim("sesn_1", clock.now() + 30)

    assert second is not None
    assert second.epoch > first.epoch
    for attempt in (
        either.sessions.append(batch(start, 1, lease=first)),
        either.sessions.extend(first, clock.now() + 90),
        either.sessions.mark_dispatched(first, {"sevt_1": "call_1"}),
    ):
        with pytest.raises(LeaseLost):
            await attempt
    await either.sessions.release(first)
    await either.sessions.append(batch(start, 1, lease=second))
    assert await seqs(either) == [1, 2]


async def test_an_interrupt_takes_the_lease_away(either: Store, clock: ManualClock) -> None:
    start = await either.sessions.create(batch(session(runnable=True), 1))
    lease = await either.sessions.claim("sesn_1", clock.now() + 30)

    interrupt = batch(start, 1, fence=True)
    await either.sessions.append(interrupt)

    with pytest.raises(LeaseLost):
        await either.sessions.append(batch(interrupt.session, 1, lease=lease))
    assert await either.sessions.claim("sesn_1", clock.now() + 30) is not None


@pytest.mark.parametrize("by", ["release", "release_all"])
async def test_a_lease_given_back_is_free_and_no_longer_anybodys(either: Store, clock: ManualClock, by: str) -> None:
    start = await either.sessions.create(batch(session(runnable=True), 1))
    lease = await either.sessions.claim("sesn_1", clock.now() + 30)
    assert lease is not None

    await (either.sessions.release(lease) if by == "release" else either.sessions.release_all())

    assert await either.sessions.runnable(clock.now(), 10) == ["sesn_1"]
    with pytest.raises(LeaseLost):
        await either.sessions.append(batch(start, 1, lease=lease))


async def test_calls_that_left_are_known_with_the_id_of_the_last_time(either: Store, clock: ManualClock) -> None:
    await either.sessions.create(batch(session(runnable=True), 1))
    lease = await either.sessions.claim("sesn_1", clock.now() + 30)
    assert lease is not None

    await either.sessions.mark_dispatched(lease, {"sevt_1": "call_1", "sevt_2": "call_2"})
    await either.sessions.mark_dispatched(lease, {"sevt_2": "call_3"})

    known = await either.sessions.dispatched("sesn_1", ["sevt_1", "sevt_2", "sevt_3"])
    assert known == {"sevt_1": "call_1", "sevt_2": "call_3"}
    assert await either.sessions.dispatched("sesn_1", []) == {}


async def test_a_deleted_session_is_gone_with_all_that_it_had(either: Store, clock: ManualClock) -> None:
    environment = await either.environments.create("team-default")
    first = batch(session(environment_id=environment.id, runnable=True), 2, work=work(environment.id))
    await either.sessions.create(first)
    lease = await either.sessions.claim("sesn_1", clock.now() + 30)
    assert lease is not None
    await either.sessions.mark_dispatched(lease, {"sevt_1": "call_1"})

    await either.sessions.delete("sesn_1")

    assert await either.work.of_session("sesn_1") is None
    assert await either.sessions.dispatched("sesn_1", ["sevt_1"]) == {}
    for attempt in (
        either.sessions.read("sesn_1"),
        either.sessions.events("sesn_1", EventFilter()),
        either.sessions.append(batch(first.session, 1)),
        either.sessions.extend(lease, clock.now() + 30),
        either.sessions.delete("sesn_1"),
    ):
        assert await refusal(attempt) == "session_not_found"


async def test_no_session_begins_in_an_environment_that_takes_none(either: Store) -> None:
    environment = await either.environments.create("team-default")
    await either.environments.archive(environment.id)

    archived = await refusal(either.sessions.create(batch(session(environment_id=environment.id), 0)))
    unknown = await refusal(either.sessions.create(batch(session(environment_id="env_none"), 0)))

    assert (archived, unknown) == ("environment_archived", "environment_not_found")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [5, 4, 3, 2, 1]),
        ({"oldest_first": True}, [1, 2, 3, 4, 5]),
        ({"limit": 2}, [5, 4]),
        ({"position": (40.0, "sesn_4"), "limit": 2}, [3, 2]),
        ({"position": (20.0, "sesn_2"), "backwards": True, "limit": 2}, [4, 3]),
        ({"position": (20.0, "sesn_2"), "oldest_first": True}, [3, 4, 5]),
        ({"position": (40.0, "sesn_4"), "oldest_first": True, "backwards": True, "limit": 2}, [2, 3]),
        ({"agents": frozenset({"agent_odd"})}, [5, 3, 1]),
        ({"agents": frozenset()}, []),
        ({"agent_id": "agent_even"}, [4, 2]),
        ({"agent_version": 2}, [3]),
        ({"statuses": [SessionStatus.RUNNING]}, [4]),
        ({"created_after": 20.0, "created_until": 40.0}, [4, 3]),
        ({"created_since": 20.0, "created_before": 40.0}, [3, 2]),
        ({"include_archived": True}, [6, 5, 4, 3, 2, 1]),
        ({"tenant": None}, [7]),
        ({"tenant": Tenant("nobody")}, []),
    ],
)
async def test_a_list_shows_what_it_was_asked_for(store: Store, fields: dict[str, object], expected: list[int]) -> None:
    for number in range(1, 8):
        await store.sessions.create(
            batch(
                session(
                    number,
                    tenant=None if number == 7 else "acme",
                    agent_id="agent_odd" if number % 2 else "agent_even",
                    agent_version=2 if number == 3 else 1,
                    status=SessionStatus.RUNNING if number == 4 else SessionStatus.IDLE,
                    created_at=number * 10.0,
                    archived_at=1.0 if number == 6 else None,
                ),
                0,
            )
        )

    found = await store.sessions.list(SessionFilter(**{"tenant": Tenant("acme"), **fields}))  # type: ignore[arg-type]

    assert [each.id for each in found] == [f"sesn_{number}" for number in expected]


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        (EventFilter(after=3), [4, 5]),
        (EventFilter(limit=2), [1, 2]),
        (EventFilter(newest_first=True, limit=2), [5, 4]),
        (EventFilter(newest_first=True, after=3), [2, 1]),
        (EventFilter(types=["odd"]), [1, 3, 5]),
        (EventFilter(processed_after=20.0, processed_until=40.0), [3, 4]),
        (EventFilter(processed_since=20.0, processed_before=40.0), [2, 3]),
    ],
)
async def test_events_are_found_by_place_kind_and_time(either: Store, which: EventFilter, expected: list[int]) -> None:
    first = batch(session(), 5)
    events = tuple(
        replace(event, type="odd" if event.seq % 2 else "even", processed_at=event.seq * 10.0) for event in first.events
    )
    await either.sessions.create(replace(first, events=events))

    assert [event.seq for event in await either.sessions.events("sesn_1", which)] == expected


async def test_two_hundred_who_read_events_do_not_wait_for_who_writes(store: Store, clock: ManualClock) -> None:
    await store.sessions.create(batch(session(), 100))
    begun, end = asyncio.Event(), asyncio.Event()

    async def write_slowly(_connection: object) -> None:
        begun.set()
        await end.wait()

    writing = asyncio.create_task(store.sessions._database.write(write_slowly, lambda _: None))
    await begun.wait()
    async with asyncio.timeout(PATIENCE):
        lists = await asyncio.gather(*(seqs(store) for _ in range(200)))
    end.set()
    await writing

    assert all(each == list(range(1, 101)) for each in lists)


async def test_who_is_killed_in_the_middle_of_appends_leaves_whole_batches(tmp_path: Path, clock: ManualClock) -> None:
    async with opened(tmp_path, clock):
        pass
    promised: dict[str, int] = {}
    writer = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        WRITER,
        f"sqlite:///{tmp_path / 'state.db'}",
        tmp_path / "files",
        stdout=asyncio.subprocess.PIPE,
    )
    assert writer.stdout is not None
    async with asyncio.timeout(PATIENCE):
        while sum(promised.values()) < 150:
            number, last_seq = (await writer.stdout.readline()).split()
            promised[f"sesn_{int(number)}"] = int(last_seq)
    writer.kill()
    await writer.communicate()

    async with opened(tmp_path, clock) as store:
        for session_id, told in promised.items():
            found = (await store.sessions.read(session_id)).last_seq
            assert found >= told
            assert found % 3 == 1  # one event, then three at a time
            assert await seqs(store, session_id) == list(range(1, found + 1))
