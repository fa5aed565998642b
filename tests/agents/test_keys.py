from __future__ import annotations

import pytest

from arrowslit.store.open import Store
from tests.agents.kit import Caller
from tests.store.kit import ManualClock, definition


@pytest.mark.promise("P7")
async def test_a_key_is_shown_once_and_opens_what_it_names(admin: Caller, store: Store) -> None:
    agent = await store.agents.create(definition("assistant"))

    made = await admin.ok("POST", "/v1/keys", {"agents": ["assistant"], "tenant": "acme", "name": "for acme"})

    principal = store.grants.principal(made["key"])
    assert principal is not None
    assert (principal.id, principal.tenant) == (made["id"], "acme")
    assert principal.may_invoke(agent.id)
    assert not principal.may_invoke("agent_other")
    shown = {name: value for name, value in made.items() if name != "key"}
    assert shown["agents"] == [agent.id]
    assert shown["last_four"] == made["key"][-4:]
    assert await admin.ok("GET", f"/v1/keys/{made['id']}") == shown
    page = (await admin.get("/v1/keys")).text
    assert made["id"] in page
    assert made["key"] not in page


async def test_a_registration_token_covers_its_pattern(admin: Caller, store: Store) -> None:
    made = await admin.ok("POST", "/v1/keys", {"register": "edge-*", "expires_at": "2027-01-01T00:00:00Z"})

    registration = store.tunnels.registration(made["key"])
    assert registration is not None
    assert registration.matches("edge-1")
    assert (made["type"], made["register"]) == ("registration_token", "edge-*")
    assert made["expires_at"] == "2027-01-01T00:00:00.000Z"
    assert store.grants.principal(made["key"]) is None


@pytest.mark.promise("P11")
async def test_a_revoked_key_is_refused_by_the_very_next_request(admin: Caller) -> None:
    other = await admin.ok("POST", "/v1/keys", {"scopes": ["admin"]})
    headers = {"authorization": f"Bearer {other['key']}"}
    assert (await admin.get("/v1/keys", headers=headers)).status_code == 200

    revoked = await admin.ok("DELETE", f"/v1/keys/{other['id']}")
    again = await admin.ok("DELETE", f"/v1/keys/{other['id']}")

    assert (await admin.get("/v1/keys", headers=headers)).status_code == 401
    assert revoked == again
    assert revoked["revoked_at"] is not None
    assert other["id"] not in (await admin.get("/v1/keys")).text
    assert other["id"] in (await admin.get("/v1/keys?include_revoked=true")).text


async def test_a_key_expires(admin: Caller, clock: ManualClock) -> None:
    other = await admin.ok("POST", "/v1/keys", {"scopes": ["admin"], "expires_at": "2026-11-18T12:00:00+00:00"})
    headers = {"authorization": f"Bearer {other['key']}"}

    assert (await admin.get("/v1/keys", headers=headers)).status_code == 200
    clock.turn(3600)
    assert (await admin.get("/v1/keys", headers=headers)).status_code == 401


async def test_an_archived_agent_gets_no_new_keys(admin: Caller, store: Store) -> None:
    agent = await store.agents.create(definition("a"))
    await store.agents.archive(agent.id)

    assert await admin.refused("POST", "/v1/keys", {"agents": [agent.id]}) == (400, "archived")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "validation_error"),  # names no agent
        ({"agents": []}, 400, "validation_error"),
        ({"agents": ["nobody"]}, 404, "agent_not_found"),
        ({"agents": ["old"]}, 404, "agent_not_found"),  # archived
        ({"agents": "assistant"}, 400, "validation_error"),
        ({"agents": ["assistant"], "tenant": ""}, 400, "validation_error"),
        ({"agents": ["assistant"], "tenant": "a b"}, 400, "validation_error"),
        ({"agents": ["assistant"], "tenant": "acme\n"}, 400, "validation_error"),
        ({"agents": ["assistant"], "scopes": []}, 400, "validation_error"),
        ({"agents": ["assistant"], "scopes": ["root"]}, 400, "validation_error"),
        ({"agents": ["assistant"], "expires_at": "2020-01-01T00:00:00Z"}, 400, "validation_error"),
        ({"agents": ["assistant"], "expires_at": "2030-01-01T00:00:00"}, 400, "validation_error"),  # no zone
        ({"agents": ["assistant"], "expires_at": 1_900_000_000}, 400, "validation_error"),
        ({"agents": ["assistant"], "key": "asl_sk_mine"}, 400, "unknown_field"),
        ({"register": "edge-*", "agents": ["assistant"]}, 400, "validation_error"),
        ({"register": "edge-*", "tenant": "acme"}, 400, "validation_error"),
        ({"register": "*a*"}, 400, "validation_error"),
    ],
)
async def test_a_key_that_makes_no_sense_is_refused(
    admin: Caller, store: Store, body: object, status: int, code: str
) -> None:
    await store.agents.create(definition("assistant"))
    await store.agents.archive((await store.agents.create(definition("old"))).id)
    before = len(store.keys.every())

    assert await admin.refused("POST", "/v1/keys", body) == (status, code)
    assert len(store.keys.every()) == before
