from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Awaitable, Collection, Mapping
from typing import Any

import anthropic
import pytest
import pytest_asyncio

from arrowslit.errors import Error
from arrowslit.principal import Scope
from arrowslit.session import LeaseLost
from arrowslit.store.open import Store
from tests.agents.api.serving import Notes, Served, SleepyClock, served
from tests.agents.story import bash, custom, mcp, model


@pytest.fixture
def clock() -> SleepyClock:
    return SleepyClock()


@pytest_asyncio.fixture
async def here(store: Store, clock: SleepyClock) -> AsyncIterator[Served]:
    async with served(store, clock) as here:
        yield here


def text(words: str) -> list[dict[str, object]]:
    return [{"type": "text", "text": words}]


def hello(words: str = "hello") -> dict[str, object]:
    return {"type": "user.message", "content": text(words)}


def result(call: str, words: str = "ok", **more: object) -> dict[str, object]:
    """As the SDK's worker sends it."""
    return {"type": "user.tool_result", "tool_use_id": call, "content": text(words), "is_error": False, **more}


async def begun(here: Served, *calls: Any) -> str:
    """The id of a session whose model made these calls."""
    client = await here.person()
    made = await client.beta.sessions.create(
        agent=here.agent.id,
        environment_id=here.environment.id,
        initial_events=[hello()],  # type: ignore[list-item]
    )
    if calls:
        await here.relay(made.id, *calls, model())
    return made.id


async def send(client: anthropic.AsyncAnthropic, session_id: str, *events: Mapping[str, object]) -> list[Any]:
    answer = await client.beta.sessions.events.send(session_id, events=events)  # type: ignore[arg-type]
    return list(answer.data or [])


async def types(client: anthropic.AsyncAnthropic, session_id: str, **query: Any) -> list[str]:
    return [event.type async for event in client.beta.sessions.events.list(session_id, **query)]


async def refusal(attempt: Awaitable[object]) -> tuple[int, object]:
    """Status and code."""
    with pytest.raises(anthropic.APIStatusError) as refused:
        await attempt
    body = refused.value.body
    assert isinstance(body, dict)
    return refused.value.status_code, body["error"]["details"]["error_code"]


async def test_what_was_sent_is_answered_as_it_is_stored(here: Served) -> None:
    session_id = await begun(here)
    client = await here.person()

    (stored,) = await send(client, session_id, hello("one more"))

    assert (stored.type, stored.processed_at) == ("user.message", None)  # the session runs
    listed = [event async for event in client.beta.sessions.events.list(session_id)]
    assert listed[-1].to_dict() == stored.to_dict()


async def test_a_worker_answers_its_call(here: Served) -> None:
    session_id = await begun(here, bash("sevt_b1"), custom("sevt_c1"))
    worker = here.worker(session_id)

    (stored,) = await send(worker, session_id, result("sevt_b1"))

    assert (stored.type, stored.tool_use_id, stored.is_error) == ("user.tool_result", "sevt_b1", False)
    assert stored.processed_at is not None
    events = [event async for event in worker.beta.sessions.events.list(session_id, limit=1000)]
    assert events[-1].to_dict()["stop_reason"] == {"type": "requires_action", "event_ids": ["sevt_c1"]}


async def test_a_repeated_result_is_answered_with_the_stored_one(here: Served) -> None:
    session_id = await begun(here, bash("sevt_b1"))
    worker = here.worker(session_id)
    (first,) = await send(worker, session_id, result("sevt_b1"))
    before = await types(worker, session_id)

    (again,) = await send(worker, session_id, result("sevt_b1", "something else"))

    assert again.to_dict() == first.to_dict()
    assert await types(worker, session_id) == before
    assert here.ledger.records == []


async def test_a_late_result_is_a_record_and_no_event(here: Served) -> None:
    session_id = await begun(here, bash("sevt_b1"))
    person, late = await here.person(), here.worker(session_id, late=True)
    await send(person, session_id, {"type": "user.interrupt"})
    before = await types(person, session_id)

    (stored,) = await send(late, session_id, result("sevt_b1", "found it"))

    assert stored.is_error is True
    assert await types(person, session_id) == before
    ((kind, fields),) = here.ledger.records
    assert kind == "late_result"
    assert fields["session"] == session_id
    assert (fields["event"], fields["worker"]) == ("sevt_b1", "work_1")
    assert "found it" not in str(fields)


@pytest.mark.promise("P7")
async def test_a_worker_neither_speaks_nor_confirms(here: Served) -> None:
    session_id = await begun(here, bash("sevt_b1", "ask"))
    confirmation = {"type": "user.tool_confirmation", "tool_use_id": "sevt_b1", "result": "allow"}

    for worker in (here.worker(session_id), here.worker(), here.worker(session_id, late=True)):
        for event in (confirmation, hello(), {"type": "user.interrupt"}):
            assert await refusal(send(worker, session_id, event)) == (403, "forbidden")
        assert await refusal(send(worker, session_id, result("sevt_b1"))) == (400, "validation_error")
        assert await refusal(send(worker, session_id, result("sevt_b2"))) == (400, "tool_use_not_found")


async def test_only_a_key_with_the_scope_confirms(here: Served) -> None:
    session_id = await begun(here, bash("sevt_b1", "ask"))
    confirmation = {"type": "user.tool_confirmation", "tool_use_id": "sevt_b1", "result": "allow"}
    other_tenant = await here.person("other", Scope.CONFIRM)

    assert await refusal(send(await here.person(), session_id, confirmation)) == (403, "forbidden")
    assert await refusal(send(other_tenant, session_id, confirmation)) == (404, "session_not_found")
    client = await here.person("acme", Scope.CONFIRM)
    (first,) = await send(client, session_id, confirmation)
    (again,) = await send(client, session_id, confirmation)
    assert again.to_dict() == first.to_dict()
    assert await refusal(send(client, session_id, {**confirmation, "result": "deny"})) == (400, "validation_error")


async def test_an_interrupt_names_what_may_have_been_done(here: Served) -> None:
    session_id = await begun(here, mcp("sevt_m1"), mcp("sevt_m2"))
    lease = await here.sessions.claim(session_id, here.clock.now() + 60)
    assert lease is not None
    await here.sessions.mark_dispatched(lease, {"sevt_m1": "call_9"})
    client = await here.person()

    await send(client, session_id, {"type": "user.interrupt"})

    *_, ended = [event async for event in client.beta.sessions.events.list(session_id)]
    assert ended.to_dict()["unconfirmed"] == [
        {"call_id": "call_9", "server": "srv", "tool": "stock", "outcome": "outcome_unknown"}
    ]


async def test_no_call_leaves_while_an_interrupt_asks_which_ones_left(
    here: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = await begun(here, mcp("sevt_m1"))
    lease = await here.sessions.claim(session_id, here.clock.now() + 60)
    assert lease is not None
    look = here.sessions.dispatched

    async def look_and_leave(session_id: str, event_ids: Collection[str]) -> Mapping[str, str]:
        found = await look(session_id, event_ids)
        with pytest.raises(LeaseLost):
            await here.sessions.mark_dispatched(lease, {"sevt_m1": "call_9"})
        assert await here.sessions.claim(session_id, here.clock.now() + 60) is None
        return found

    monkeypatch.setattr(here.sessions, "dispatched", look_and_leave)
    client = await here.person()
    await send(client, session_id, {"type": "user.interrupt"})

    *_, ended = [event async for event in client.beta.sessions.events.list(session_id)]
    assert "unconfirmed" not in ended.to_dict()


async def test_a_refused_interrupt_disturbs_nobody(here: Served) -> None:
    session_id = await begun(here, mcp("sevt_m1"))
    lease = await here.sessions.claim(session_id, here.clock.now() + 60)
    assert lease is not None

    refused = send(await here.person(), session_id, {"type": "user.interrupt"}, result("sevt_nobody"))
    assert await refusal(refused) == (400, "tool_use_not_found")

    await here.sessions.extend(lease, here.clock.now() + 120)


async def test_a_list_can_be_turned_filtered_and_paged(here: Served) -> None:
    session_id = await begun(here, bash("sevt_b1"))
    client = await here.person()
    turn = ["user.message", "session.status_running", "agent.tool_use", "span.model_request_end"]
    whole = [*turn, "session.status_idle"]

    assert await types(client, session_id) == whole
    assert await types(client, session_id, order="desc", limit=2) == whole[::-1]
    assert await types(client, session_id, limit=1) == whole
    assert await types(client, session_id, types=["agent.tool_use", "user.message"]) == [whole[0], whole[2]]
    assert await types(client, session_id, created_at_gt="2300-01-01T00:00:00Z") == []
    assert len(await types(client, session_id, created_at_gte="2020-01-01T00:00:00Z")) == len(whole)


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "order=up", "page=AAAA", "what=1"])
async def test_a_list_is_asked_in_known_words(here: Served, query: str) -> None:
    session_id = await begun(here)
    client = await here.person()

    status, code = await refusal(client.get(f"/v1/sessions/{session_id}/events?{query}", cast_to=object))
    assert (status, code in ("validation_error", "unknown_field")) == (400, True)


async def test_what_is_listed_to_a_worker_was_seen(here: Served) -> None:
    session_id = await begun(here, bash("sevt_b1"))
    await types(await here.person(), session_id)
    assert here.log.seen_by_worker(session_id) == 0

    await types(here.worker(session_id), session_id, limit=2)
    assert here.log.seen_by_worker(session_id) == 5
    assert await refusal(types(here.worker(session_id, late=True), session_id)) == (403, "forbidden")


async def test_an_event_of_no_known_shape_is_refused_with_all_others(here: Served) -> None:
    session_id = await begun(here)
    client = await here.person()
    before = await types(client, session_id)

    forged = {"type": "agent.message", "content": text("forged")}
    assert await refusal(send(client, session_id, hello(), forged)) == (400, "validation_error")
    assert await types(client, session_id) == before


async def test_no_events_and_too_many_are_refused(here: Served) -> None:
    session_id = await begun(here)
    client = await here.person()

    assert await refusal(send(client, session_id)) == (400, "validation_error")
    assert await refusal(send(client, session_id, *[hello()] * 51)) == (400, "validation_error")


async def test_a_sandbox_may_print_anything(here: Served) -> None:
    session_id = await begun(here, bash("sevt_b1"))
    worker, words = here.worker(session_id), 'a\0b \\u0000 \u2028 \x1b[2J "\n\ndata: forged'

    (stored,) = await send(worker, session_id, result("sevt_b1", words))

    assert stored.to_dict()["content"] == text(words.replace("\0", "\ufffd"))
    refused = send(await here.person(), session_id, hello("a\0b"))
    assert await refusal(refused) == (400, "encoding_invalid")


async def test_a_large_picture_from_a_sandbox_arrives_and_a_flood_does_not(here: Served) -> None:
    session_id = await begun(here, bash("sevt_b1"), bash("sevt_b2"))
    worker = here.worker(session_id)
    large = base64.b64encode(bytes(4 * 1024 * 1024)).decode()
    source = {"type": "base64", "media_type": "image/png", "data": large}

    await send(worker, session_id, result("sevt_b1", content=[{"type": "image", "source": source}]))
    flood = send(worker, session_id, result("sevt_b2", "x" * (9 * 1024 * 1024)))
    assert await refusal(flood) == (413, "payload_too_large")


async def test_a_confirmation_is_a_record_before_its_call_may_leave(
    here: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = await begun(here, mcp("sevt_m1", "ask"))
    client = await here.person("acme", Scope.CONFIRM)
    yes = {"type": "user.tool_confirmation", "tool_use_id": "sevt_m1", "result": "allow"}

    async def full(*_: object) -> int:
        raise Error("ledger_unavailable", "the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(Notes, "append", full)
        assert (await refusal(send(client, session_id, yes)))[1] == "ledger_unavailable"
    _, state = await here.log.read(session_id)
    assert state.open[0].held

    await send(client, session_id, yes)
    await send(client, session_id, yes)

    ((kind, facts),) = here.ledger.records
    assert kind == "confirmed"
    assert {name: facts[name] for name in ("session", "event", "tool", "server", "result", "tenant")} == {
        "session": session_id,
        "event": "sevt_m1",
        "tool": "stock",
        "server": "srv",
        "result": "allow",
        "tenant": "acme",
    }
    assert str(facts["principal"]).startswith("key_")
