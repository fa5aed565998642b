"""/v1/agents/{id}/definitions: what was seen of an agent's tools, and who may approve what."""

from __future__ import annotations

import json

import pytest
from starlette.applications import Starlette

from arrowslit.agent import Definition
from arrowslit.pin import Pin
from arrowslit.policy.definitions import read, seen
from arrowslit.store.open import Store
from tests.agents.bench import Records
from tests.agents.kit import Caller

FIRST, SECOND = b'{"name":"look","description":"One."}', b'{"name":"look","description":"Two."}'


async def changed(store: Store) -> Pin:
    """A tool of a new agent that its server has changed."""
    agent = await store.agents.create(Definition("a", {"id": "none"}))
    names = (agent.id, "stock", "look")
    pin = seen(seen(None, names, read(FIRST), 1.0), names, read(SECOND), 2.0)
    store.pins.put(pin)
    await store.pins.save(pin)
    return pin


async def test_a_change_is_shown_and_approved_on_the_record(admin: Caller, store: Store, ledger: Records) -> None:
    pin = await changed(store)
    path = f"/v1/agents/{pin.agent_id}/definitions"

    (shown,) = (await admin.ok("GET", path))["data"]
    assert (shown["state"], shown["diff"]) == (
        "changed",
        ["  name: look", "- description: One.", "+ description: Two."],
    )
    assert shown["offered"]["definition"] == {"name": "look", "description": "Two."}
    assert (await admin.ok("GET", f"{path}?server=stock&tool=other"))["data"] == []

    body = {"server": "stock", "tool": "look", "digest": shown["offered"]["digest"]}
    after = await admin.ok("POST", f"{path}/approve", body)
    assert (after["state"], after["approved"]["digest"], after["offered"]) == ("pinned", body["digest"], None)
    assert shown["meanwhile"] == after["meanwhile"] == []
    assert after["approved_by"].startswith("key_")
    assert await admin.ok("POST", f"{path}/approve", body) == after
    (record,) = [fields for kind, fields in ledger.kept if kind == "definition"]
    assert (record["state"], record["tool"], record["principal"]) == ("approved", "look", after["approved_by"])


async def test_what_a_server_showed_in_between_is_shown(admin: Caller, store: Store) -> None:
    pin = await changed(store)
    long = b'{"name":"look","description":"' + b"x" * 20_000 + b'"}'
    for at, entry in enumerate([long, FIRST, b'{"name":"look","description":"\\u200b"}', FIRST], 3):
        pin = seen(pin, (pin.agent_id, "stock", "look"), read(entry), float(at))
    store.pins.put(pin)

    (shown,) = (await admin.ok("GET", f"/v1/agents/{pin.agent_id}/definitions"))["data"]

    assert (shown["state"], shown["diff"]) == ("changed", ["  name: look", "  description: One."])
    second, third, fourth = shown["meanwhile"]
    assert second["definition"] == {"name": "look", "description": "Two."}
    assert (second["at"], second["diff"][1:]) == (
        "1970-01-01T00:00:02.000Z",
        ["- description: One.", "+ description: Two."],
    )
    assert (third["digest"], third["definition"], third["diff"]) == (read(long).digest, {}, [])
    assert fourth["refused"] == "it holds a character that is not seen, U+200B"

    path = f"/v1/agents/{pin.agent_id}/definitions/approve"
    body = {"server": "stock", "tool": "look", "digest": shown["offered"]["digest"]}
    looked_at = [each["digest"] for each in shown["meanwhile"]]
    assert await admin.refused("POST", path, {**body, "meanwhile": looked_at[:-1]}) == (409, "version_conflict")
    assert (await admin.ok("POST", path, {**body, "meanwhile": looked_at}))["state"] == "pinned"


async def test_only_what_was_seen_last_can_be_approved(admin: Caller, store: Store) -> None:
    pin = await changed(store)
    path = f"/v1/agents/{pin.agent_id}/definitions/approve"
    body = {"server": "stock", "tool": "look", "digest": "0" * 64}

    assert await admin.refused("POST", path, body) == (409, "version_conflict")
    assert await admin.refused("POST", path, {**body, "tool": "other"}) == (404, "definition_not_found")
    assert await admin.refused("POST", "/v1/agents/agent_0/definitions/approve", body) == (404, "agent_not_found")


@pytest.mark.promise("P6")
async def test_who_may_invoke_an_agent_may_not_approve_its_tools(app: Starlette, admin: Caller, store: Store) -> None:
    pin = await changed(store)
    assert pin.offered is not None
    made = await admin.ok("POST", "/v1/keys", {"agents": [pin.agent_id], "tenant": "acme"})
    body = {"server": "stock", "tool": "look", "digest": pin.offered.digest}
    path = f"/v1/agents/{pin.agent_id}/definitions"

    async with Caller(app, made["key"]) as invoker:
        assert await invoker.refused("POST", f"{path}/approve", body) == (403, "forbidden")
        assert await invoker.refused("GET", path) == (403, "forbidden")
    assert store.pins.find(pin.agent_id, "stock", "look") == pin


async def test_a_page_of_long_definitions_has_fewer_of_them(admin: Caller, store: Store) -> None:
    agent = await store.agents.create(Definition("a", {"id": "none"}))
    for number in range(8):
        entry = json.dumps({"name": "look", "description": "so it says. " * 10_000}).encode()
        store.pins.put(seen(None, (agent.id, "stock", f"look{number}"), read(entry), float(number)))
    path = f"/v1/agents/{agent.id}/definitions"

    page = await admin.ok("GET", f"{path}?limit=1000")
    found = [each["tool"] for each in page["data"]]
    assert 1 <= len(found) < 8
    while page["next_page"] is not None:
        page = await admin.ok("GET", f"{path}?limit=1000&page={page['next_page']}")
        found += [each["tool"] for each in page["data"]]
    assert found == [f"look{number}" for number in range(7, -1, -1)]


async def test_the_longest_definitions_are_shown_one_by_one(admin: Caller, store: Store) -> None:
    agent = await store.agents.create(Definition("a", {"id": "none"}))
    first, second = (json.dumps({"name": "look", "description": each * 260_000}).encode() for each in "ab")
    for tool in ("look", "count"):
        names = (agent.id, "stock", tool)
        store.pins.put(seen(seen(None, names, read(first), 1.0), names, read(second), 2.0))

    page = await admin.ok("GET", f"/v1/agents/{agent.id}/definitions")

    assert [each["tool"] for each in page["data"]] == ["look"]
    assert page["next_page"] is not None
    assert {line[0] for line in page["data"][0]["diff"]} == {" ", "-", "+"}
