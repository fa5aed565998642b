from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from arrowslit.errors import Error
from arrowslit.principal import Change, KeyRevoked
from arrowslit.session import SessionStatus
from arrowslit.store.open import Store
from arrowslit.work import QueueFacts, Work, WorkKind, WorkState
from tests.store.kit import DAY, ManualClock, batch, opened, session, work


def deliver(item: Work) -> Work | None:
    """Each once."""
    return None if item.delivered_at else replace(item, delivered_at=1.0, generation=item.generation + 1)


async def environment(store: Store) -> str:
    return (await store.environments.create("team-default")).id


async def late(store: Store, token: str) -> bool | None:
    worker = await store.work.worker(token)
    return None if worker is None else worker.late


async def poll(store: Store, where: str, step: Callable[[Work], Work | None]) -> tuple[Work, str] | None:
    """What a worker with a key of its own is handed."""
    key, _ = await store.environments.create_key(where)
    return await store.work.next(where, key.id, step)


async def test_an_item_is_the_same_after_reopening(tmp_path: Path, clock: ManualClock) -> None:
    async with opened(tmp_path, clock) as store:
        item = work(
            await environment(store),
            metadata={"a": "b"},
            state=WorkState.ACTIVE,
            heartbeat="h",
            previous_heartbeat="g",
            lease_until=9.0,
            beat_by=2,
        )
        await store.work.add(item)
    async with opened(tmp_path, clock) as store:
        assert await store.work.read(item.environment_id, item.id) == item


async def test_a_session_has_one_item_however_many_ask_for_it(either: Store) -> None:
    where = await environment(either)
    at = await either.sessions.create(batch(session(environment_id=where), 0))

    answers = await asyncio.gather(*(either.work.add(work(where, work_id=f"work_{n}")) for n in range(10)))
    await either.sessions.append(batch(at, 1, work=work(where, work_id="work_more")))

    assert {answer.id for answer in answers} == {answers[0].id}
    assert await either.work.list(where) == [answers[0]] == [await either.work.of_session("sesn_1")]


async def test_a_session_whose_item_was_stopped_can_have_another(either: Store) -> None:
    where = await environment(either)
    await either.work.add(work(where))
    await either.work.change(where, "work_1", lambda item: replace(item, state=WorkState.STOPPED, stopped_at=1.0))

    again = await either.work.add(work(where, work_id="work_2"))

    assert again.id == "work_2"


async def test_of_twenty_who_poll_each_item_is_anothers(either: Store) -> None:
    where = await environment(either)
    for number in range(12):
        await either.work.add(work(where, f"sesn_{number}", f"work_{number:02}", created_at=float(number)))

    answers = await asyncio.gather(*(poll(either, where, deliver) for _ in range(20)))

    delivered = [answer for answer in answers if answer is not None]
    assert sorted(item.id for item, _ in delivered) == [f"work_{number:02}" for number in range(12)]
    assert len({token for _, token in delivered}) == 12


async def test_the_oldest_comes_first_and_nobody_before_its_time(either: Store, clock: ManualClock) -> None:
    where, other = await environment(either), await environment(either)
    await either.work.add(work(where, "sesn_1", "work_1", created_at=1.0, not_before=clock.now() + 5))
    await either.work.add(work(where, "sesn_2", "work_2", created_at=3.0))
    await either.work.add(work(where, "sesn_3", "work_3", created_at=2.0))
    await either.work.add(work(other, "sesn_4", "work_4"))

    found = [await poll(either, where, deliver) for _ in range(3)]
    clock.turn(5)
    found.append(await poll(either, where, deliver))

    assert [each and each[0].id for each in found] == ["work_3", "work_2", None, "work_1"]


async def test_a_token_is_good_for_its_delivery_then_late_then_nothing(either: Store, clock: ManualClock) -> None:
    where = await environment(either)
    await either.work.add(work(where))
    first = await poll(either, where, deliver)
    assert first is not None
    worker = await either.work.worker(first[1])
    assert worker is not None
    assert (worker.id, worker.environment_id, worker.work_id) == ("work_1", where, "work_1")
    assert (worker.session_id, worker.generation, worker.late) == ("sesn_1", 1, False)

    await either.work.change(where, "work_1", lambda item: replace(item, state=WorkState.ACTIVE))
    assert await late(either, first[1]) is False
    await either.work.change(where, "work_1", lambda item: replace(item, state=WorkState.QUEUED, delivered_at=None))
    assert await late(either, first[1]) is True
    clock.turn(100)
    second = await poll(either, where, deliver)
    assert second is not None
    assert await late(either, second[1]) is False
    clock.turn(80)
    assert await late(either, first[1]) is None
    await either.work.change(where, "work_1", lambda item: replace(item, state=WorkState.STOPPED))
    assert await late(either, second[1]) is True


async def test_a_delivery_that_was_repeated_makes_the_first_late(either: Store) -> None:
    where = await environment(either)
    await either.work.add(work(where))

    def again(item: Work) -> Work:
        return replace(item, generation=item.generation + 1)

    tokens = [found[1] for found in [await poll(either, where, again) for _ in range(2)] if found]

    assert [await late(either, token) for token in tokens] == [True, False]


@pytest.mark.parametrize("wrong", ["", "asl_wrk_", "nonsense", "asl_wrk_" + "0" * 49])
async def test_a_wrong_token_is_nobodys(store: Store, wrong: str) -> None:
    _, api_key = await store.keys.create(scopes=frozenset())

    assert await store.work.worker(wrong) is None
    assert await store.work.worker(api_key) is None


async def test_steps_at_once_lose_nothing(either: Store) -> None:
    where = await environment(either)
    await either.work.add(work(where))

    def one_more(item: Work) -> Work:
        return replace(item, attempts=item.attempts + 1)

    await asyncio.gather(*(either.work.change(where, "work_1", one_more) for _ in range(20)))

    assert (await either.work.read(where, "work_1")).attempts == 20


async def test_a_step_that_refuses_changes_nothing(store: Store) -> None:
    where = await environment(store)
    item = await store.work.add(work(where))

    def refuse(item: Work) -> Work:
        raise Error("heartbeat_precondition_failed", "no")

    with pytest.raises(Error) as refused:
        await store.work.change(where, "work_1", refuse)

    assert refused.value.code == "heartbeat_precondition_failed"
    assert await store.work.read(where, "work_1") == item


async def test_an_item_of_another_environment_is_not_found(store: Store) -> None:
    where, other = await environment(store), await environment(store)
    await store.work.add(work(where))

    for attempt in (store.work.read(other, "work_1"), store.work.change(other, "work_1", lambda item: item)):
        with pytest.raises(Error) as refused:
            await attempt
        assert refused.value.code == "work_not_found"


async def test_due_is_what_nobody_kept(either: Store) -> None:
    where = await environment(either)
    for number, (state, until) in enumerate(
        [
            (WorkState.ACTIVE, 10.0),
            (WorkState.STARTING, 5.0),
            (WorkState.STOPPING, 10.5),
            (WorkState.STOPPED, 1.0),
            (WorkState.QUEUED, None),
        ]
    ):
        await either.work.add(work(where, f"sesn_{number}", f"work_{number}", state=state, lease_until=until))

    assert [item.id for item in await either.work.due(10.0)] == ["work_1", "work_0"]


async def test_the_facts_tell_who_waits_from_who_is_expected_to_answer(either: Store) -> None:
    where = await environment(either)
    assert await either.work.facts(where) == QueueFacts(0, 0, None)
    for number in range(4):
        await either.work.add(work(where, f"sesn_{number}", f"work_{number}", created_at=10.0 + number))
    await either.work.change(where, "work_3", lambda item: replace(item, state=WorkState.ACTIVE))

    await poll(either, where, deliver)

    assert await either.work.facts(where) == QueueFacts(depth=2, pending=1, oldest_queued_at=10.0)


async def test_stopped_items_are_listed_for_a_day_and_then_forgotten(either: Store, clock: ManualClock) -> None:
    where = await environment(either)
    await either.work.add(work(where, created_at=clock.now()))
    delivered = await poll(either, where, deliver)
    now = clock.now()
    await either.work.change(where, "work_1", lambda item: replace(item, state=WorkState.STOPPED, stopped_at=now))
    clock.turn(DAY)
    assert [item.id for item in await either.work.list(where)] == ["work_1"]

    clock.turn(1)
    assert await either.work.list(where) == []
    await either.work.add(work(where, work_id="work_2", created_at=clock.now()))

    assert delivered is not None
    assert [item.id for item in await either.work.list(where)] == ["work_2"]
    with pytest.raises(Error):
        await either.work.read(where, "work_1")


async def test_who_waits_for_work_hears_of_it(store: Store) -> None:
    heard: list[str] = []
    where = await environment(store)
    store.work.on_queued(heard.append)

    at = await store.sessions.create(batch(session(1, environment_id=where), 1, work=work(where)))
    await store.work.change(where, "work_1", lambda item: replace(item, state=WorkState.STOPPED))
    assert len(heard) == 1
    await store.sessions.append(batch(at, 1, work=work(where, work_id="work_2")))
    await store.work.add(work(where, "sesn_2", "work_3"))

    assert heard == [where] * 3


async def test_what_a_worker_has_open_ends_when_it_is_late(store: Store) -> None:
    heard: list[Change] = []
    where = await environment(store)
    await store.work.add(work(where))
    await poll(store, where, deliver)
    store.on_change(heard.append)

    await store.work.change(where, "work_1", lambda item: replace(item, state=WorkState.ACTIVE))
    assert heard == []
    await store.work.change(where, "work_1", lambda item: replace(item, generation=item.generation + 1))

    assert heard == [KeyRevoked("work_1")]


async def test_items_of_sessions_that_are_over_are_found(either: Store) -> None:
    where = await environment(either)
    for number, status in enumerate([SessionStatus.IDLE, SessionStatus.TERMINATED, SessionStatus.TERMINATED]):
        item = work(where, f"sesn_{number}", f"work_{number}", state=WorkState.ACTIVE)
        await either.sessions.create(batch(session(number, environment_id=where, status=status), 1, work=item))
    await either.work.change(where, "work_2", lambda item: replace(item, state=WorkState.STOPPING))
    await either.work.add(work(where, "sesn_gone", "work_3"))
    await either.work.add(replace(work(where, "work_4", "work_4"), kind=WorkKind.HEALTHCHECK))

    found = await either.work.of_ended_sessions()

    assert {item.id for item in found} == {"work_1", "work_3"}


@pytest.mark.promise("P11")
async def test_a_token_ends_with_the_key_that_it_was_handed_to(store: Store) -> None:
    where = await environment(store)
    await store.work.add(work(where))
    key, _ = await store.environments.create_key(where)
    found = await store.work.next(where, key.id, deliver)
    assert found is not None
    assert await store.work.worker(found[1]) is not None

    await store.environments.revoke_key(where, key.id)

    assert await store.work.worker(found[1]) is None


async def test_a_deleted_sessions_worker_is_late(store: Store) -> None:
    where = await environment(store)
    await store.sessions.create(batch(session(1, environment_id=where), 1, work=work(where)))
    found = await poll(store, where, deliver)
    assert found is not None

    heard: list[Change] = []
    store.on_change(heard.append)
    await store.sessions.delete("sesn_1")

    assert heard == [KeyRevoked("work_1")]
    assert await late(store, found[1]) is True
    assert (await store.work.read(where, "work_1")).state is WorkState.STOPPED
