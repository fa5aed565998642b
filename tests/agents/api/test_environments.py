from __future__ import annotations

from typing import Any

import pytest
from starlette.applications import Starlette

from arrowslit.environment import Environment
from arrowslit.store.open import Store
from arrowslit.work import Worker
from tests.agents.kit import Caller
from tests.store.kit import ManualClock

SELF_HOSTED = {"type": "self_hosted"}
CLOUD = {"type": "cloud", "networking": {"type": "unrestricted"}}


async def made(admin: Caller, **fields: object) -> Any:
    return await admin.ok("POST", "/v1/environments", {"name": "team-default", "config": SELF_HOSTED, **fields})


async def test_an_environment_has_the_official_shape(admin: Caller) -> None:
    environment = await made(admin, description="The spare host.", metadata={"rack": "7"})

    assert environment == {
        "id": environment["id"],
        "type": "environment",
        "name": "team-default",
        "description": "The spare host.",
        "config": {"type": "self_hosted"},
        "metadata": {"rack": "7"},
        "scope": "organization",
        "created_at": "2026-11-18T11:06:40.000Z",
        "updated_at": "2026-11-18T11:06:40.000Z",
        "archived_at": None,
    }
    assert environment["id"].startswith("env_")
    assert await admin.ok("GET", f"/v1/environments/{environment['id']}") == environment


async def test_an_update_changes_what_it_mentions(admin: Caller, clock: ManualClock) -> None:
    before = await made(admin, description="x", metadata={"a": "1", "b": "2", "c": "3"})
    path = f"/v1/environments/{before['id']}"
    clock.turn(60)

    after = await admin.ok("POST", path, {"description": None, "metadata": {"a": None, "b": "", "d": "4"}})

    assert (after["name"], after["description"], after["metadata"]) == ("team-default", None, {"c": "3", "d": "4"})
    assert after["updated_at"] > before["updated_at"]
    assert await admin.ok("POST", path, {"config": SELF_HOSTED}) == after
    assert (await admin.ok("POST", path, {"name": "other"}))["name"] == "other"


async def test_an_environment_never_moves_into_a_cloud(admin: Caller) -> None:
    path = f"/v1/environments/{(await made(admin))['id']}"

    assert await admin.refused("POST", path, {"config": CLOUD}) == (400, "invalid_config_type_change")


async def test_an_archived_environment_is_kept_and_changed_no_more(admin: Caller) -> None:
    environment = await made(admin)
    path = f"/v1/environments/{environment['id']}"

    archived = await admin.ok("POST", f"{path}/archive")

    assert archived["archived_at"] is not None
    assert await admin.ok("POST", f"{path}/archive") == archived
    assert await admin.refused("POST", path, {"name": "x"}) == (400, "environment_archived")
    assert await admin.refused("POST", f"{path}/keys", {}) == (400, "environment_archived")
    assert (await admin.ok("GET", "/v1/environments"))["data"] == []
    assert (await admin.ok("GET", "/v1/environments?include_archived=true"))["data"] == [archived]


async def test_a_deleted_environment_is_gone_and_the_answer_says_so(admin: Caller) -> None:
    path = f"/v1/environments/{(await made(admin))['id']}"

    deleted = await admin.ok("DELETE", path)

    assert deleted == {"id": path.rpartition("/")[2], "type": "environment_deleted"}
    assert await admin.refused("GET", path) == (404, "environment_not_found")
    assert await admin.refused("DELETE", path) == (404, "environment_not_found")


async def test_a_workers_key_is_shown_once_and_opens_its_environment_until_it_is_revoked(
    admin: Caller, store: Store
) -> None:
    """API-07."""
    environment = await made(admin)
    path = f"/v1/environments/{environment['id']}/keys"

    key = await admin.ok("POST", path, {"name": "host 7"})
    text = key.pop("environment_key")

    assert key["id"].startswith("ekey_")
    assert (key["type"], key["environment_id"], key["name"]) == ("environment_key", environment["id"], "host 7")
    assert key["last_four"] == text[-4:]
    assert (await admin.ok("GET", path))["data"] == [key]
    assert await store.work.worker(text) == Worker(key["id"], environment["id"])
    revoked = await admin.ok("DELETE", f"{path}/{key['id']}")
    assert revoked["revoked_at"] is not None
    assert await admin.ok("DELETE", f"{path}/{key['id']}") == revoked
    assert await store.work.worker(text) is None
    assert (await admin.ok("GET", path))["data"] == []
    assert (await admin.ok("GET", f"{path}?include_revoked=true"))["data"] == [revoked]


async def test_a_key_is_revoked_in_its_own_environment_only(admin: Caller, store: Store) -> None:
    one, other = await made(admin), await made(admin)
    key = await admin.ok("POST", f"/v1/environments/{one['id']}/keys")

    refused = await admin.refused("DELETE", f"/v1/environments/{other['id']}/keys/{key['id']}")

    assert refused == (404, "key_not_found")
    assert await store.work.worker(key["environment_key"]) is not None


async def test_a_worker_administers_no_environment(app: Starlette, admin: Caller) -> None:
    environment = await made(admin)
    key = await admin.ok("POST", f"/v1/environments/{environment['id']}/keys")

    async with Caller(app, key["environment_key"]) as worker:
        for path in ("/v1/agents", "/v1/environments", f"/v1/environments/{environment['id']}/keys", "/v1/tunnels"):
            assert await worker.refused("POST", path, {}) == (403, "forbidden")
        assert await worker.refused("GET", f"/v1/environments/{environment['id']}") == (403, "forbidden")
        assert await worker.refused("GET", "/v1/environments/env_none") == (403, "forbidden")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"config": None}, "not_supported"),
        ({"config": CLOUD}, "not_supported"),
        ({"config": {}}, "validation_error"),
        ({"config": {"type": "lunar"}}, "validation_error"),
        ({"config": {"type": "self_hosted", "packages": {}}}, "unknown_field"),
        ({"scope": "account"}, "not_supported"),
        ({"scope": "galaxy"}, "validation_error"),
        ({"name": ""}, "validation_error"),
        ({"name": "a\nb"}, "validation_error"),
        ({"name": None}, "validation_error"),
        ({"metadata": {"k": 1}}, "validation_error"),
        ({"metadata": {str(number): "v" for number in range(17)}}, "validation_error"),
        ({"description": "x" * 2049}, "validation_error"),
        ({"owner": "me"}, "unknown_field"),
    ],
)
async def test_an_environment_that_makes_no_sense_is_refused(
    admin: Caller, store: Store, changes: dict[str, object], code: str
) -> None:
    body = {"name": "a", "config": SELF_HOSTED, **changes}

    assert await admin.refused("POST", "/v1/environments", body) == (400, code)
    nothing: list[Environment] = []
    assert list(store.environments.every()) == nothing


async def test_an_environment_without_a_config_would_be_in_a_cloud(admin: Caller) -> None:
    assert await admin.refused("POST", "/v1/environments", {"name": "a"}) == (400, "not_supported")
