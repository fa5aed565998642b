from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from arrowslit.agent import Definition
from arrowslit.errors import Error
from arrowslit.outcome import Effect
from arrowslit.principal import AgentChanged, Change, Principal, Scope, Tenant
from arrowslit.store.open import Store
from tests.store.kit import ManualClock, definition, opened


def holder(*agents: str) -> Principal:
    """Somebody whose key names these agents."""
    return Principal("key_1", Tenant("acme"), frozenset({Scope.INVOKE}), frozenset(agents))


def renamed(name: str) -> Definition:
    return definition(name, "check_stock")


async def test_an_agent_is_the_same_after_reopening_with_all_its_versions(tmp_path: Path, clock: ManualClock) -> None:
    async with opened(tmp_path, clock) as store:
        first = await store.agents.create(definition("a", "check_stock", effect=Effect.READ_ONLY))
        clock.turn(5)
        second = await store.agents.update(first.id, lambda before: replace(before, system="be brief"), version=1)
        archived = await store.agents.archive(first.id)
    async with opened(tmp_path, clock) as store:
        assert store.agents.read(first.id) == archived == replace(second, archived_at=clock.now())
        versions = await store.agents.versions(first.id)

    assert [version.version for version in versions] == [2, 1]
    assert versions[1].definition == first.definition
    assert (second.created_at, second.updated_at) == (first.created_at, clock.now())


@pytest.mark.promise("P6")
async def test_a_grant_holds_what_was_enabled_by_name(store: Store) -> None:
    agent = await store.agents.create(definition("a", "check_stock", effect=Effect.READ_ONLY))

    grant = store.grants.find(holder(agent.id), agent.id, "stock")

    assert grant.tools == {"check_stock"}
    assert not grant.allows("adjust_stock")
    assert grant.effect("check_stock") is Effect.READ_ONLY
    assert grant.server.tunnel_id == "tnl_stock"


@pytest.mark.promise("P6")
async def test_a_new_version_counts_at_once(store: Store) -> None:
    heard: list[Change] = []
    agent = await store.agents.create(definition("a", "check_stock", "adjust_stock"))
    store.on_change(heard.append)

    await store.agents.update(agent.id, lambda _: definition("a", "check_stock"))

    grant = store.grants.find(holder(agent.id), "a", "stock")
    assert grant.tools == {"check_stock"}
    assert grant.agent_version == 2
    assert heard == [AgentChanged(agent.id)]


async def test_an_update_without_a_change_makes_no_version(store: Store) -> None:
    agent = await store.agents.create(definition())

    assert await store.agents.update(agent.id, lambda before: before) == agent
    assert len(await store.agents.versions(agent.id)) == 1


async def test_of_two_who_change_the_same_version_one_is_told(store: Store) -> None:
    agent = await store.agents.create(definition())

    answers = await asyncio.gather(
        store.agents.update(agent.id, lambda _: renamed("x"), version=1),
        store.agents.update(agent.id, lambda _: renamed("y"), version=1),
        return_exceptions=True,
    )

    refused = [answer for answer in answers if isinstance(answer, Error)]
    assert [error.code for error in refused] == ["version_conflict"]
    assert store.agents.read(agent.id).version == 2


async def test_unconditional_updates_at_once_all_count(store: Store) -> None:
    agent = await store.agents.create(definition())

    def longer(before: Definition) -> Definition:
        return replace(before, system=(before.system or "") + "x")

    await asyncio.gather(*(store.agents.update(agent.id, longer) for _ in range(10)))

    assert store.agents.read(agent.id).definition.system == "x" * 10
    assert [each.version for each in await store.agents.versions(agent.id)] == list(range(11, 0, -1))


async def test_what_is_absent_archived_or_not_yours_looks_the_same(store: Store) -> None:
    mine = await store.agents.create(definition("mine"))
    archived = await store.agents.create(definition("old"))
    await store.agents.create(definition("theirs"))
    await store.agents.archive(archived.id)
    caller = holder(mine.id, archived.id)

    answers = set()
    for name in ("agent_none", "nobody", "theirs", "old", archived.id):
        with pytest.raises(Error) as refused:
            store.grants.find(caller, name, "stock")
        answers.add((refused.value.code, refused.value.message, refused.value.hint))

    assert len(answers) == 1
    assert answers.pop()[0] == "agent_not_found"
    assert store.grants.find(caller, "mine", "stock").agent_id == mine.id


async def test_a_key_without_the_invoke_scope_invokes_nothing(store: Store) -> None:
    agent = await store.agents.create(definition("a"))

    with pytest.raises(Error) as refused:
        store.grants.find(Principal("key_1", None, frozenset(), frozenset({agent.id})), "a", "stock")

    assert refused.value.code == "agent_not_found"


async def test_a_name_means_the_one_agent_of_that_name_that_the_key_may_invoke(store: Store) -> None:
    first = await store.agents.create(definition("twin"))
    second = await store.agents.create(definition("twin"))
    admin = Principal("key_2", None, frozenset({Scope.ADMIN}))

    assert store.grants.find(holder(first.id), "twin", "stock").agent_id == first.id
    for undecided in (holder(first.id, second.id), admin):
        with pytest.raises(Error):
            store.grants.find(undecided, "twin", "stock")
    assert store.grants.find(admin, second.id, "stock").agent_id == second.id
    with pytest.raises(Error) as several:
        store.agents.named("twin")
    assert several.value.code == "validation_error"
    await store.agents.archive(first.id)
    assert store.agents.named("twin").id == second.id


async def test_an_agent_is_found_by_its_new_name_only(store: Store) -> None:
    agent = await store.agents.create(definition("before"))

    await store.agents.update(agent.id, lambda _: renamed("after"))

    assert store.grants.find(holder(agent.id), "after", "stock").agent_name == "after"
    with pytest.raises(Error):
        store.grants.find(holder(agent.id), "before", "stock")


async def test_a_server_that_the_agent_does_not_have_is_named_as_such(store: Store) -> None:
    agent = await store.agents.create(definition("a"))

    with pytest.raises(Error) as refused:
        store.grants.find(holder(agent.id), "a", "crm")

    assert refused.value.code == "server_not_found"
    assert refused.value.hint == "it has: stock"


async def test_an_archived_agent_stays_as_it_is(store: Store) -> None:
    agent = await store.agents.create(definition("a"))
    archived = await store.agents.archive(agent.id)

    assert await store.agents.archive(agent.id) == archived
    with pytest.raises(Error) as refused:
        await store.agents.update(agent.id, lambda _: renamed("b"))
    assert refused.value.code == "archived"
