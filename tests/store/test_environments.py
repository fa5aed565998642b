from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from arrowslit.errors import Error
from arrowslit.principal import Change, KeyRevoked
from arrowslit.session import SessionStatus
from arrowslit.store.open import Store
from tests.store.kit import ManualClock, batch, opened, session, work


async def test_an_environment_and_its_keys_are_the_same_after_reopening(tmp_path: Path, clock: ManualClock) -> None:
    async with opened(tmp_path, clock) as store:
        made = await store.environments.create("team-default", description="D", metadata={"a": "b"})
        key, text = await store.environments.create_key(made.id, "laptop")
        old, _ = await store.environments.create_key(made.id)
        await store.environments.revoke_key(made.id, old.id)
        keys = store.environments.keys(made.id)
    async with opened(tmp_path, clock) as store:
        assert store.environments.read(made.id) == made
        assert store.environments.keys(made.id) == keys
        worker = await store.work.worker(text)
        assert worker is not None
        assert (worker.id, worker.environment_id, worker.session_id) == (key.id, made.id, None)


async def test_the_database_holds_no_workers_key(tmp_path: Path, store: Store) -> None:
    made = await store.environments.create("team-default")
    _, text = await store.environments.create_key(made.id)

    written = b"".join(file.read_bytes() for file in tmp_path.iterdir())

    assert b"team-default" in written
    assert text.encode() not in written


@pytest.mark.promise("P11")
async def test_a_revoked_key_opens_nothing_at_once_and_says_so(store: Store) -> None:
    heard: list[Change] = []
    store.on_change(heard.append)
    made = await store.environments.create("team-default")
    key, text = await store.environments.create_key(made.id)

    first = await store.environments.revoke_key(made.id, key.id)
    again = await store.environments.revoke_key(made.id, key.id)

    assert await store.work.worker(text) is None
    assert first == again
    assert heard == [KeyRevoked(key.id)]


async def test_a_key_of_another_environment_is_not_found(store: Store) -> None:
    one, two = await store.environments.create("one"), await store.environments.create("two")
    key, _ = await store.environments.create_key(one.id)

    with pytest.raises(Error) as refused:
        await store.environments.revoke_key(two.id, key.id)

    assert refused.value.code == "key_not_found"


@pytest.mark.parametrize("text", ["team-default", "sbx_team_default"])
async def test_an_environment_is_found_by_its_id_its_name_or_the_short_form(store: Store, text: str) -> None:
    made = await store.environments.create("team-default")

    assert store.environments.named(text) == store.environments.named(made.id) == made


async def test_a_name_of_several_or_of_an_archived_one_names_none(store: Store) -> None:
    first = await store.environments.create("team-default")
    await store.environments.create("team-default")

    with pytest.raises(Error) as several:
        store.environments.named("team-default")
    await store.environments.archive(first.id)

    assert several.value.code == "validation_error"
    assert store.environments.named("team-default").archived_at is None
    assert store.environments.named(first.id).archived_at is not None
    with pytest.raises(Error) as none:
        store.environments.named("other")
    assert none.value.code == "environment_not_found"


async def test_an_archived_environment_takes_no_change_and_keeps_its_keys(store: Store, clock: ManualClock) -> None:
    made = await store.environments.create("team-default")
    _, text = await store.environments.create_key(made.id)

    first = await store.environments.archive(made.id)
    clock.turn(1)

    assert await store.environments.archive(made.id) == first
    assert await store.work.worker(text) is not None  # its sessions go on
    for attempt in (
        store.environments.update(made.id, lambda it: replace(it, name="other")),
        store.environments.create_key(made.id),
    ):
        with pytest.raises(Error) as refused:
            await attempt
        assert refused.value.code == "environment_archived"


async def test_updates_at_once_lose_nothing(either: Store) -> None:
    made = await either.environments.create("team-default")

    async def note(number: int) -> None:
        await either.environments.update(made.id, lambda it: replace(it, metadata={**it.metadata, str(number): "x"}))

    await asyncio.gather(*(note(number) for number in range(10)))

    assert len(either.environments.read(made.id).metadata) == 10


async def test_an_environment_is_deleted_once_no_session_can_go_on(either: Store) -> None:
    heard: list[Change] = []
    made = await either.environments.create("team-default")
    key, text = await either.environments.create_key(made.id)
    start = await either.sessions.create(batch(session(environment_id=made.id), 1, work=work(made.id)))
    await either.work.next(made.id, key.id, lambda item: replace(item, generation=1))
    with pytest.raises(Error) as refused:
        await either.environments.delete(made.id)
    assert refused.value.code == "environment_in_use"

    await either.sessions.append(batch(start, 1, session={"status": SessionStatus.TERMINATED}))
    either.on_change(heard.append)
    await either.environments.delete(made.id)

    assert heard == [KeyRevoked(key.id)]
    assert await either.work.worker(text) is None
    assert await either.work.list(made.id) == []
    with pytest.raises(Error) as gone:
        either.environments.read(made.id)
    assert gone.value.code == "environment_not_found"
    assert (await either.sessions.read("sesn_1")).environment_id == made.id
