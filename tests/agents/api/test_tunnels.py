from __future__ import annotations

import pytest

from arrowslit.store.open import Store
from arrowslit.tunnel import KeyBinding, fingerprint
from tests.agents.kit import Caller
from tests.store.kit import HOUR, ManualClock

KEY = b"k" * 32


async def test_a_tunnel_has_the_official_shape_and_ours(admin: Caller) -> None:
    made = await admin.ok("POST", "/v1/tunnels", {"display_name": "Inventory", "name": "internal-inventory"})

    assert made == {
        "id": "tnl_internal_inventory",
        "type": "tunnel",
        "domain": "internal-inventory.tunnel.localhost",
        "display_name": "Inventory",
        "created_at": "2026-11-18T11:06:40.000Z",
        "archived_at": None,
        "name": "internal-inventory",
        "tenant_optional": False,
        "key_binding": "pinned",
    }
    assert await admin.ok("GET", "/v1/tunnels/tnl_internal_inventory") == made


async def test_the_official_sdk_needs_to_send_nothing(admin: Caller) -> None:
    first = await admin.ok("POST", "/v1/tunnels", {})
    second = (await admin.post("/v1/tunnels", headers={"content-type": "application/json"})).json()

    assert first["display_name"] is None
    assert first["domain"] != second["domain"]


async def test_options_of_a_tunnel_reach_the_store(admin: Caller, store: Store) -> None:
    await admin.ok("POST", "/v1/tunnels", {"name": "a", "tenant_optional": True, "key_binding": "none"})

    tunnel = store.tunnels.read("tnl_a")
    assert (tunnel.tenant_optional, tunnel.key_binding) == (True, KeyBinding.NONE)


async def test_a_token_stays_until_it_is_rotated(admin: Caller, store: Store, clock: ManualClock) -> None:
    await admin.ok("POST", "/v1/tunnels", {"name": "a"})

    first = await admin.ok("POST", "/v1/tunnels/tnl_a/reveal_token")
    await store.tunnels.mark_used("tnl_a", 1)
    again = await admin.ok("POST", "/v1/tunnels/tnl_a/reveal_token")
    rotated = await admin.ok("POST", "/v1/tunnels/tnl_a/rotate_token", {"reason": "monthly"})

    assert first == again
    assert first["type"] == "tunnel_token"
    assert rotated["id"] != first["id"]
    assert store.tunnels.tunnel_by_token(first["tunnel_token"]) is None  # officially there is no grace
    assert store.tunnels.tunnel_by_token(rotated["tunnel_token"]) is not None


async def test_a_rotated_token_may_live_on_for_a_while(admin: Caller, store: Store, clock: ManualClock) -> None:
    await admin.ok("POST", "/v1/tunnels", {"name": "a"})
    first = await admin.ok("POST", "/v1/tunnels/tnl_a/reveal_token")

    await admin.ok("POST", "/v1/tunnels/tnl_a/rotate_token", {"grace_seconds": 3600})

    clock.turn(HOUR - 1)
    assert store.tunnels.tunnel_by_token(first["tunnel_token"]) is not None
    clock.turn(1)
    assert store.tunnels.tunnel_by_token(first["tunnel_token"]) is None


async def test_an_archived_tunnel_is_listed_on_request_only(admin: Caller) -> None:
    for name in ("a", "b"):
        await admin.ok("POST", "/v1/tunnels", {"name": name})

    archived = await admin.ok("POST", "/v1/tunnels/tnl_a/archive")

    assert archived["archived_at"] is not None
    assert await admin.ok("POST", "/v1/tunnels/tnl_a/archive") == archived
    assert [each["name"] for each in (await admin.ok("GET", "/v1/tunnels"))["data"]] == ["b"]
    every = await admin.ok("GET", "/v1/tunnels?include_archived=true")
    assert {each["name"] for each in every["data"]} == {"a", "b"}
    assert await admin.refused("POST", "/v1/tunnels/tnl_a/reveal_token") == (400, "archived")
    assert await admin.refused("POST", "/v1/tunnels", {"name": "a"}) == (409, "name_taken")


async def test_a_list_comes_in_pages_newest_first(admin: Caller, clock: ManualClock) -> None:
    for number in range(5):
        await admin.ok("POST", "/v1/tunnels", {"name": f"t{number}"})
        clock.turn(number % 2)  # some at the same moment

    seen: list[str] = []
    path = "/v1/tunnels?limit=2"
    while path:
        page = await admin.ok("GET", path)
        assert len(page["data"]) <= 2
        seen += [each["name"] for each in page["data"]]
        if len(seen) == 2:
            await admin.ok("POST", "/v1/tunnels", {"name": "late"})  # does not repeat or hide another
        path = f"/v1/tunnels?limit=2&page={page['next_page']}" if page["next_page"] else ""

    assert seen == ["t4", "t3", "t2", "t1", "t0"]


async def test_status_shows_keys_token_and_links(admin: Caller, store: Store) -> None:
    await admin.ok("POST", "/v1/tunnels", {"name": "a"})
    await store.tunnels.pin("tnl_a", KEY)
    await store.tunnels.remember_refused("tnl_a", b"o" * 32)

    status = await admin.ok("GET", "/v1/tunnels/tnl_a/status")

    assert status["connector_key"] == fingerprint(KEY)
    assert status["refused_key"] == fingerprint(b"o" * 32)
    assert status["token"]["generation"] == 1
    assert status["token"]["used_at"] is None
    assert status["token"]["expires_at"] > status["token"]["issued_at"]
    assert status["connected"] is False


async def test_approve_pins_the_key_that_was_meant(admin: Caller, store: Store) -> None:
    await admin.ok("POST", "/v1/tunnels", {"name": "a"})
    assert await admin.refused("POST", "/v1/tunnels/tnl_a/approve") == (400, "validation_error")
    await store.tunnels.remember_refused("tnl_a", KEY)

    wrong = {"fingerprint": fingerprint(b"x" * 32)}
    assert await admin.refused("POST", "/v1/tunnels/tnl_a/approve", wrong) == (400, "validation_error")
    await admin.ok("POST", "/v1/tunnels/tnl_a/approve", {"fingerprint": fingerprint(KEY)})

    assert store.tunnels.read("tnl_a").connector_key == KEY


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"name": "Internal"}, "validation_error"),
        ({"name": "a.b"}, "validation_error"),
        ({"name": "-a"}, "validation_error"),
        ({"name": ""}, "validation_error"),
        ({"name": 5}, "validation_error"),
        ({"display_name": ""}, "validation_error"),
        ({"display_name": "x" * 256}, "validation_error"),
        ({"display_name": "a\u001b[31mb"}, "validation_error"),
        ({"display_name": "a\u0000b"}, "encoding_invalid"),
        ({"tenant_optional": "yes"}, "validation_error"),
        ({"key_binding": "maybe"}, "validation_error"),
        ({"nmae": "a"}, "unknown_field"),
        ([], "validation_error"),
        ("a", "validation_error"),
    ],
)
async def test_a_tunnel_that_makes_no_sense_is_refused(admin: Caller, store: Store, body: object, code: str) -> None:
    assert await admin.refused("POST", "/v1/tunnels", body) == (400, code)
    assert not store.tunnels.every()


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "limit=-1", "limit=x", "limit=²", "page=x", "page=bnVsbA", "include_archived=yes"],
)
async def test_a_query_that_makes_no_sense_is_refused(admin: Caller, query: str) -> None:
    assert await admin.refused("GET", f"/v1/tunnels?{query}") == (400, "validation_error")


@pytest.mark.parametrize("grace", [-1, 7 * 86400 + 1, "1h", None, True])
async def test_a_grace_is_a_number_of_seconds_up_to_a_week(admin: Caller, grace: object) -> None:
    await admin.ok("POST", "/v1/tunnels", {"name": "a"})

    refused = await admin.refused("POST", "/v1/tunnels/tnl_a/rotate_token", {"grace_seconds": grace})

    assert refused == (400, "validation_error")
