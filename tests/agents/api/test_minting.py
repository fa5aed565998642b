from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from starlette.applications import Starlette

from arrowslit.agents.api.minting import LONGEST, Order, mintable
from arrowslit.errors import Error
from arrowslit.principal import Principal, Scope, Tenant
from arrowslit.store.open import Store
from tests.agents.kit import Caller
from tests.store.kit import HOUR, ManualClock, definition

NOW = 1_795_000_000.0
ACME, GLOBEX = Tenant("acme"), Tenant("globex")
MINTER = Principal("key_m", ACME, frozenset({Scope.MINT, Scope.INVOKE}), frozenset({"agent_a", "agent_b"}))
ORDER = Order(frozenset({Scope.INVOKE}), frozenset({"agent_a"}), None, NOW + HOUR)

# ---------------------------------------------------------------- the decision


def test_a_minted_key_gets_its_minters_tenant() -> None:
    assert mintable(MINTER, ORDER, NOW) == replace(ORDER, tenant=ACME)
    assert mintable(MINTER, replace(ORDER, tenant=ACME, expires_at=NOW + LONGEST), NOW).tenant == ACME


def test_a_minter_without_a_tenant_mints_for_any_and_names_it() -> None:
    anybody = replace(MINTER, tenant=None)

    assert mintable(anybody, replace(ORDER, tenant=GLOBEX), NOW).tenant == GLOBEX
    with pytest.raises(Error) as refused:
        mintable(anybody, ORDER, NOW)
    assert refused.value.code == "tenant_required"


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"tenant": GLOBEX}, "forbidden"),
        ({"scopes": frozenset({Scope.INVOKE, Scope.CONFIRM})}, "forbidden"),
        ({"scopes": frozenset({Scope.INVOKE, Scope.MINT})}, "forbidden"),
        ({"scopes": frozenset({Scope.ADMIN})}, "forbidden"),
        ({"agents": frozenset({"agent_a", "agent_c"})}, "agent_not_found"),
        ({"expires_at": None}, "validation_error"),
        ({"expires_at": NOW + LONGEST + 1}, "validation_error"),
        ({"expires_at": NOW}, "validation_error"),
    ],
)
def test_no_key_mints_one_that_may_do_more(changed: dict[str, Any], code: str) -> None:
    with pytest.raises(Error) as refused:
        mintable(MINTER, replace(ORDER, **changed), NOW)

    assert refused.value.code == code
    assert refused.value.hint


def test_a_minted_key_does_not_outlive_its_minter() -> None:
    ending = replace(MINTER, expires_at=NOW + HOUR)

    assert mintable(ending, ORDER, NOW).expires_at == NOW + HOUR
    with pytest.raises(Error):
        mintable(ending, replace(ORDER, expires_at=NOW + HOUR + 1), NOW)


# ---------------------------------------------------------------- at the door

SOON, TOO_LATE = "2026-11-18T12:00:00Z", "2026-11-20T12:00:00Z"  # the clock stands at 2026-11-18T11:06:40Z


async def minter(app: Starlette, admin: Caller, **changed: Any) -> tuple[str, Caller]:
    """The id of a key that mints, and somebody who holds it."""
    body = {"agents": ["stock", "mail"], "tenant": "acme", "scopes": ["mint", "invoke", "confirm"]} | changed
    made = await admin.ok("POST", "/v1/keys", body)
    return made["id"], Caller(app, made["key"])


@pytest.fixture
async def stock(store: Store) -> str:
    """The id of one of two agents; a third is nobody's."""
    for name in ("mail", "other"):
        await store.agents.create(definition(name))
    return (await store.agents.create(definition("stock"))).id


@pytest.mark.promise("P7")
async def test_a_backend_mints_a_key_for_one_agent_and_tenant(
    app: Starlette, admin: Caller, store: Store, stock: str
) -> None:
    key_id, backend = await minter(app, admin)

    made = await backend.ok("POST", "/v1/keys", {"agents": ["stock"], "expires_at": SOON, "name": "for ada"})

    principal = store.grants.principal(made["key"])
    assert principal is not None
    assert principal.tenant == ACME
    assert principal.scopes == {Scope.INVOKE}
    assert principal.agents == {stock}
    assert principal.expires_at == store.keys.read(made["id"]).expires_at
    assert (made["minted_by"], made["tenant"], made["expires_at"]) == (key_id, "acme", "2026-11-18T12:00:00.000Z")
    shown = {name: value for name, value in made.items() if name != "key"}
    assert await backend.ok("GET", f"/v1/keys/{made['id']}") == shown
    assert (await backend.ok("DELETE", f"/v1/keys/{made['id']}"))["revoked_at"] is not None
    assert store.grants.principal(made["key"]) is None


async def test_other_keys_are_to_a_minter_as_if_they_were_not_there(
    app: Starlette, admin: Caller, store: Store, stock: str
) -> None:
    key_id, backend = await minter(app, admin)
    _, another = await minter(app, admin)
    foreign = await another.ok("POST", "/v1/keys", {"agents": [stock], "expires_at": SOON})
    registration = await admin.ok("POST", "/v1/keys", {"register": "edge-*"})

    for method in ("GET", "DELETE"):
        answers = set()
        for each in (foreign["id"], registration["id"], key_id, "key_nothing", "x"):
            response = await backend.request(method, f"/v1/keys/{each}")
            masked = response.text.replace(response.headers["request-id"], "-")
            headers = {name: value for name, value in response.headers.items() if name != "request-id"}
            answers.add((response.status_code, masked, str(headers)))
        assert len(answers) == 1
        assert answers.pop()[0] == 404
    assert store.grants.principal(foreign["key"]) is not None
    assert await backend.refused("GET", "/v1/keys") == (403, "forbidden")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"agents": ["stock"]}, 400, "validation_error"),
        ({"agents": ["stock"], "expires_at": TOO_LATE}, 400, "validation_error"),
        ({"agents": ["stock"], "expires_at": SOON, "tenant": "globex"}, 403, "forbidden"),
        ({"agents": ["stock"], "expires_at": SOON, "scopes": ["invoke", "mint"]}, 403, "forbidden"),
        ({"agents": ["stock"], "expires_at": SOON, "scopes": ["admin"]}, 403, "forbidden"),
        ({"agents": ["other"], "expires_at": SOON}, 404, "agent_not_found"),
        ({"agents": ["nobody"], "expires_at": SOON}, 404, "agent_not_found"),
        ({"expires_at": SOON}, 400, "validation_error"),
        ({"register": "edge-*", "expires_at": SOON}, 403, "forbidden"),
    ],
)
async def test_a_minter_gets_no_more_than_it_may_hand_on(
    body: object, status: int, code: str, app: Starlette, admin: Caller, store: Store, stock: str
) -> None:
    _, backend = await minter(app, admin)
    before = len(store.keys.every())

    assert await backend.refused("POST", "/v1/keys", body) == (status, code)
    assert len(store.keys.every()) == before


async def test_an_agent_that_is_not_the_minters_is_one_that_does_not_exist(
    app: Starlette, admin: Caller, store: Store, stock: str
) -> None:
    _, backend = await minter(app, admin)
    ids = [agent.id for agent in store.agents.every() if agent.definition.name == "other"]
    for _ in range(2):
        await store.agents.create(definition("twice"))

    answers = set()
    for name in ("other", *ids, "nobody", "twice", "agent_none"):
        response = await backend.post("/v1/keys", json={"agents": [name], "expires_at": SOON})
        answers.add((response.status_code, response.text.replace(response.headers["request-id"], "-")))

    assert len(answers) == 1


@pytest.mark.promise("P11")
async def test_a_revoked_minter_takes_its_keys_along(
    app: Starlette, admin: Caller, store: Store, stock: str, clock: ManualClock
) -> None:
    key_id, backend = await minter(app, admin)
    made = await backend.ok(
        "POST", "/v1/keys", {"agents": [stock], "scopes": ["invoke", "confirm"], "expires_at": SOON}
    )

    await admin.ok("DELETE", f"/v1/keys/{key_id}")

    assert store.grants.principal(made["key"]) is None
    assert await backend.refused("POST", "/v1/keys", {"agents": [stock], "expires_at": SOON}) == (
        401,
        "unauthenticated",
    )
    assert (await admin.ok("GET", f"/v1/keys/{made['id']}"))["revoked_at"] is not None


async def test_a_key_that_could_hand_on_nothing_is_not_made(admin: Caller, stock: str) -> None:
    assert await admin.refused("POST", "/v1/keys", {"scopes": ["mint"], "agents": [stock]}) == (400, "validation_error")


async def test_what_a_minter_made_mints_nothing_and_sees_no_keys(app: Starlette, admin: Caller, stock: str) -> None:
    _, backend = await minter(app, admin)
    made = await backend.ok("POST", "/v1/keys", {"agents": [stock], "expires_at": SOON})

    async with Caller(app, made["key"]) as user:
        for method, path in (("POST", "/v1/keys"), ("GET", "/v1/keys"), ("GET", f"/v1/keys/{made['id']}")):
            assert await user.refused(method, path) == (403, "forbidden")
