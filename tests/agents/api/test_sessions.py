from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable

import anthropic
import pytest
import pytest_asyncio

from arrowslit.agents.sessions.change import idle
from arrowslit.principal import Scope
from arrowslit.store.open import Store
from tests.agents.api.serving import Served, SleepyClock, served
from tests.agents.story import bash, model

HELLO = {"type": "user.message", "content": [{"type": "text", "text": "hello"}]}


@pytest.fixture
def clock() -> SleepyClock:
    return SleepyClock()


@pytest_asyncio.fixture
async def here(store: Store, clock: SleepyClock) -> AsyncIterator[Served]:
    async with served(store, clock) as here:
        yield here


async def refusal(attempt: Awaitable[object]) -> tuple[int, object]:
    """Status and code."""
    with pytest.raises(anthropic.APIStatusError) as refused:
        await attempt
    body = refused.value.body
    assert isinstance(body, dict)
    return refused.value.status_code, body["error"]["details"]["error_code"]


async def test_a_session_has_the_official_shape(here: Served) -> None:
    client = await here.person()

    made = await client.beta.sessions.create(
        agent=here.agent.id, environment_id=here.environment.id, title="T", metadata={"a": "b"}
    )

    assert (made.type, made.status, made.environment_id, made.title) == ("session", "idle", here.environment.id, "T")
    assert (made.resources, made.vault_ids, made.outcome_evaluations) == ([], [], [])
    assert (made.agent.id, made.agent.version, made.agent.skills) == (here.agent.id, 1, [])
    assert made.metadata == {"a": "b"}
    assert (made.archived_at, made.budget) == (None, None)
    again = await client.beta.sessions.retrieve(made.id)
    assert again == made
    assert here.woken == []


async def test_a_session_with_first_events_runs_at_once(here: Served) -> None:
    client = await here.person()

    made = await client.beta.sessions.create(
        agent={"type": "agent", "id": here.agent.id, "version": 1},
        environment_id=here.environment.id,
        initial_events=[HELLO, HELLO],  # type: ignore[list-item]
    )

    assert made.status == "running"
    assert here.woken == [made.id]
    assert here.sessions.work[made.id].environment_id == here.environment.id
    types = [event.type async for event in client.beta.sessions.events.list(made.id)]
    assert types == ["user.message", "user.message", "session.status_running"]


async def test_the_default_environment_is_taken(here: Served) -> None:
    client = await here.person()

    made = await client.post("/v1/sessions", cast_to=object, body={"agent": here.agent.id})

    assert isinstance(made, dict)
    assert made["environment_id"] == here.environment.id


async def test_a_session_can_use_less_than_its_agent(here: Served) -> None:
    client = await here.person()

    made = await client.beta.sessions.create(
        agent={"type": "agent_with_overrides", "id": here.agent.id, "system": "Be brief.", "tools": []},
        environment_id=here.environment.id,
    )

    assert (made.agent.system, made.agent.tools) == ("Be brief.", [])
    refused = client.beta.sessions.create(
        agent={
            "type": "agent_with_overrides",
            "id": here.agent.id,
            "tools": [{"type": "custom", "name": "x", "description": "x", "input_schema": {"type": "object"}}],
        },
        environment_id=here.environment.id,
    )
    assert (await refusal(refused))[1] == "not_granted"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"agent": "agent_nobody"}, (404, "agent_not_found")),
        ({"agent": {"type": "agent", "id": "AGENT", "version": 7}}, (404, "agent_not_found")),
        ({}, (400, "validation_error")),
        ({"agent": "AGENT", "environment_id": "env_nobody"}, (404, "environment_not_found")),
        ({"agent": "AGENT", "tenant": "evil"}, (400, "unknown_field")),
        ({"agent": "AGENT", "vault_ids": ["vlt_1"]}, (400, "not_supported")),
        ({"agent": "AGENT", "resources": [{"type": "file"}]}, (400, "not_supported")),
        ({"agent": "AGENT", "budget": {"max_list_cost": 1}}, (400, "not_supported")),
        ({"agent": "AGENT", "budget": {}}, (400, "not_supported")),
        ({"agent": "AGENT", "budget": []}, (400, "not_supported")),
        ({"agent": "AGENT", "initial_events": [{"type": "user.interrupt"}]}, (400, "validation_error")),
        ({"agent": "AGENT", "initial_events": [{"type": "user.define_outcome"}]}, (400, "not_supported")),
        ({"agent": "AGENT", "initial_events": [HELLO] * 51}, (400, "validation_error")),
        ({"agent": "AGENT", "metadata": {str(n): "x" for n in range(17)}}, (400, "validation_error")),
        ({"agent": "AGENT", "title": "two\nlines"}, (400, "validation_error")),
    ],
)
async def test_what_cannot_be_is_refused(here: Served, body: dict[str, object], code: tuple[int, str]) -> None:
    client = await here.person()
    agent = body.get("agent")
    if agent == "AGENT":
        body = {**body, "agent": here.agent.id}
    elif isinstance(agent, dict):
        body = {**body, "agent": {**agent, "id": here.agent.id}}

    assert await refusal(client.post("/v1/sessions", cast_to=object, body=body)) == code


async def test_an_archived_agent_or_environment_begins_nothing(here: Served) -> None:
    client = await here.person()
    await here.store.environments.archive(here.environment.id)
    create = client.beta.sessions.create(agent=here.agent.id, environment_id=here.environment.id)
    assert await refusal(create) == (400, "environment_archived")

    await here.store.agents.archive(here.agent.id)
    create = client.beta.sessions.create(agent=here.agent.id, environment_id=here.environment.id)
    assert await refusal(create) == (400, "archived")


@pytest.mark.promise("P6")
async def test_not_yours_and_does_not_exist_are_the_same_answer(here: Served) -> None:
    mine = await (await here.person("acme")).beta.sessions.create(
        agent=here.agent.id, environment_id=here.environment.id
    )
    strangers = [await here.person("other"), here.worker("sesn_another"), here.client(await _other_agent(here))]

    for stranger in strangers:
        for path in ("", "/events", "/events/stream"):
            answers = [
                await _raw(stranger, f"/v1/sessions/{session_id}{path}") for session_id in (mine.id, "sesn_nothing")
            ]
            assert answers[0] == answers[1]
            assert answers[0][0] == 404
    assert [each.id async for each in strangers[0].beta.sessions.list()] == []


async def _other_agent(here: Served) -> str:
    """A key of the tenant for another agent."""
    return await here.key(agents={"agent_2"})


async def _raw(client: anthropic.AsyncAnthropic, path: str) -> tuple[int, object, object]:
    """Status, headers and body, without what names the one request."""
    with pytest.raises(anthropic.APIStatusError) as refused:
        await client.get(path, cast_to=object)
    answer = refused.value.response
    headers = {name: value for name, value in answer.headers.items() if name not in ("request-id", "date")}
    body = answer.json()
    del body["request_id"]
    return answer.status_code, headers, body


async def test_an_administrator_of_another_tenant_sees_nothing(here: Served) -> None:
    client = await here.person()
    mine = await client.beta.sessions.create(agent=here.agent.id, environment_id=here.environment.id)
    _, text = await here.store.keys.create(scopes={Scope.ADMIN})
    admin = here.client(text)

    assert await refusal(admin.beta.sessions.retrieve(mine.id)) == (404, "session_not_found")
    theirs = await admin.beta.sessions.create(agent=here.agent.id, environment_id=here.environment.id)
    assert [each.id async for each in admin.beta.sessions.list()] == [theirs.id]


async def test_a_change_is_an_event_that_says_what_changed(here: Served) -> None:
    client = await here.person()
    made = await client.beta.sessions.create(
        agent=here.agent.id, environment_id=here.environment.id, metadata={"a": "1", "b": "2"}
    )

    after = await client.beta.sessions.update(made.id, title="new", metadata={"a": None, "c": "3"})
    assert (after.title, after.metadata) == ("new", {"b": "2", "c": "3"})
    await client.beta.sessions.update(made.id, title="new")

    (event,) = [event async for event in client.beta.sessions.events.list(made.id)]
    assert event.type == "session.updated"
    assert event.to_dict().keys() == {"id", "type", "processed_at", "title", "metadata"}


async def test_tools_are_narrowed_between_turns_only(here: Served) -> None:
    client = await here.person()
    made = await client.beta.sessions.create(agent=here.agent.id, environment_id=here.environment.id)
    less = {"tools": [{"type": "agent_toolset_20260401", "configs": [{"name": "bash", "enabled": False}]}]}

    after = await client.beta.sessions.update(made.id, agent=less)  # type: ignore[arg-type]
    assert [tool.type for tool in after.agent.tools] == ["agent_toolset_20260401"]

    await client.beta.sessions.events.send(made.id, events=[HELLO])  # type: ignore[list-item]
    update = client.beta.sessions.update(made.id, agent={"tools": []})
    assert await refusal(update) == (400, "session_running")
    assert await refusal(client.beta.sessions.update(made.id, vault_ids=["vlt_1"])) == (400, "not_supported")


async def test_what_a_session_cannot_have_may_be_asked_for_only_as_nothing(here: Served) -> None:
    client = await here.person()
    made = await client.beta.sessions.create(
        agent=here.agent.id, environment_id=here.environment.id, vault_ids=[], resources=[], extra_body={"budget": None}
    )
    assert (made.vault_ids, made.resources) == ([], [])

    nothing: list[dict[str, object]] = [{"vault_ids": []}, {"vault_ids": None}, {"budget": None}]
    for body in nothing:
        await client.beta.sessions.update(made.id, extra_body=body)
    something: list[dict[str, object]] = [{"vault_ids": {}}, {"vault_ids": False}, {"budget": {}}, {"budget": 0}]
    for body in something:
        assert await refusal(client.beta.sessions.update(made.id, extra_body=body)) == (400, "not_supported")


async def test_pages_lead_forth_and_back(here: Served) -> None:
    client = await here.person()
    made = []
    for _ in range(3):
        here.clock.turn(1)
        made.append(await client.beta.sessions.create(agent=here.agent.id, environment_id=here.environment.id))
    newest = [each.id for each in reversed(made)]

    first = await client.beta.sessions.list(limit=2)
    assert [each.id for each in first.data] == newest[:2]
    second = await client.beta.sessions.list(limit=2, page=first.next_page or "")
    assert [each.id for each in second.data] == newest[2:]
    assert second.next_page is None
    assert second.prev_page is not None
    back = await client.beta.sessions.list(limit=2, page=second.prev_page)
    assert [each.id for each in back.data] == newest[:2]
    assert [each.id async for each in client.beta.sessions.list(limit=1, order="asc")] == newest[::-1]


async def test_a_list_shows_what_is_asked_for(here: Served) -> None:
    client = await here.person()
    create = client.beta.sessions.create
    resting = await create(agent=here.agent.id, environment_id=here.environment.id)
    running = await create(
        agent=here.agent.id,
        environment_id=here.environment.id,
        initial_events=[HELLO],  # type: ignore[list-item]
    )

    async def ids(**filters: object) -> list[str]:
        return [each.id async for each in client.beta.sessions.list(**filters)]  # type: ignore[arg-type]

    assert await ids(statuses=["running"]) == [running.id]
    assert await ids(agent_id=here.agent.id, agent_version=1, statuses=["idle"]) == [resting.id]
    assert await ids(agent_id="agent_2") == []
    assert await ids(created_at_gt="2300-01-01T00:00:00Z") == []
    await client.beta.sessions.archive(resting.id)
    assert await ids() == [running.id]
    assert len(await ids(include_archived=True)) == 2
    assert await refusal(_ask(client, agent_version=1)) == (400, "validation_error")
    assert await refusal(_ask(client, memory_store_id="mem_1")) == (400, "not_supported")
    assert await refusal(_ask(client, limit=0)) == (400, "validation_error")
    assert await refusal(_ask(client, page="AAAA")) == (400, "validation_error")


async def _ask(client: anthropic.AsyncAnthropic, **filters: object) -> object:
    return await client.beta.sessions.list(**filters)  # type: ignore[arg-type]


async def test_an_archived_session_is_over_and_can_be_read(here: Served) -> None:
    client = await here.person()
    made = await client.beta.sessions.create(
        agent=here.agent.id,
        environment_id=here.environment.id,
        initial_events=[HELLO],  # type: ignore[list-item]
    )
    assert await refusal(client.beta.sessions.archive(made.id)) == (400, "session_running")
    assert await refusal(client.beta.sessions.delete(made.id)) == (400, "session_running")
    await here.relay(made.id, bash("b1"), model())

    ended = await client.beta.sessions.archive(made.id)

    assert (ended.status, ended.archived_at is None) == ("terminated", False)
    assert await client.beta.sessions.archive(made.id) == ended
    types = [event.type async for event in client.beta.sessions.events.list(made.id)]
    assert types[-2:] == ["user.tool_result", "session.status_terminated"]
    send = client.beta.sessions.events.send(made.id, events=[HELLO])  # type: ignore[list-item]
    assert await refusal(send) == (400, "session_terminated")
    assert await refusal(client.beta.sessions.update(made.id, title="x")) == (400, "session_terminated")


async def test_a_deleted_session_is_gone(here: Served) -> None:
    client = await here.person()
    made = await client.beta.sessions.create(agent=here.agent.id, environment_id=here.environment.id)

    gone = await client.beta.sessions.delete(made.id)

    assert (gone.id, gone.type) == (made.id, "session_deleted")
    assert await refusal(client.beta.sessions.retrieve(made.id)) == (404, "session_not_found")
    assert await refusal(client.beta.sessions.delete(made.id)) == (404, "session_not_found")


async def test_a_worker_reads_its_session_and_changes_nothing(here: Served) -> None:
    client = await here.person()
    made = await client.beta.sessions.create(
        agent=here.agent.id,
        environment_id=here.environment.id,
        initial_events=[HELLO],  # type: ignore[list-item]
    )

    for worker in (here.worker(made.id), here.worker()):
        assert (await worker.beta.sessions.retrieve(made.id)).agent.skills == []
        assert await refusal(worker.beta.sessions.archive(made.id)) == (403, "forbidden")
        assert await refusal(worker.beta.sessions.update(made.id, title="mine")) == (403, "forbidden")
    late = here.worker(made.id, late=True)
    assert await refusal(late.beta.sessions.retrieve(made.id)) == (403, "forbidden")


async def test_usage_is_shown(here: Served) -> None:
    client = await here.person()
    made = await client.beta.sessions.create(
        agent=here.agent.id,
        environment_id=here.environment.id,
        initial_events=[HELLO],  # type: ignore[list-item]
    )
    here.clock.turn(4)
    await here.relay(made.id, model(), idle("end_turn"))

    after = await client.beta.sessions.retrieve(made.id)
    assert (after.usage.input_tokens, after.usage.output_tokens) == (7, 5)
    assert after.stats.active_seconds == 4.0


async def test_a_hundred_sessions_at_once(here: Served) -> None:
    client = await here.person()
    create = client.beta.sessions.create

    made = await asyncio.gather(*(create(agent=here.agent.id, environment_id=here.environment.id) for _ in range(100)))

    assert len({each.id for each in made}) == 100
