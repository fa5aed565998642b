from __future__ import annotations

import pytest
from starlette.applications import Starlette

from arrowslit.principal import Scope, Tenant
from arrowslit.store.open import Store
from tests.agents.kit import Caller, code_of
from tests.store.kit import definition


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PATCH", "PUT"])
@pytest.mark.parametrize(
    "path",
    [
        "/v1/vaults",
        "/v1/vaults/vlt_1/credentials/vcrd_1",
        "/v1/memory_stores",
        "/v1/files/file_1/content",
        "/v1/skills",
        "/v1/deployments/x",
        "/v1/webhooks",
        "/v1/messages",
    ],
)
async def test_what_is_not_there_says_so_and_what_to_do_instead(admin: Caller, method: str, path: str) -> None:
    response = await admin.request(method, path)

    assert code_of(response) == (400, "not_supported")
    assert response.json()["error"]["details"]["hint"]


async def test_a_worker_is_told_as_well_and_a_stranger_is_not(app: Starlette, store: Store) -> None:
    environment = await store.environments.create("a")
    _, key = await store.environments.create_key(environment.id)

    async with Caller(app, key) as worker, Caller(app, None) as stranger:
        assert await worker.refused("GET", "/v1/skills/skill_1/versions/1") == (400, "not_supported")
        assert await stranger.refused("GET", "/v1/skills/skill_1/versions/1") == (401, "unauthenticated")


async def test_a_session_has_no_threads_or_resources_and_takes_none(app: Starlette, store: Store) -> None:
    agent = await store.agents.create(definition())
    environment = await store.environments.create("a")
    _, key = await store.keys.create(scopes={Scope.INVOKE}, agents={agent.id}, tenant=Tenant("acme"))
    _, foreign = await store.keys.create(scopes={Scope.INVOKE}, agents={agent.id}, tenant=Tenant("globex"))

    async with Caller(app, key) as owner, Caller(app, foreign) as other:
        made = await owner.ok("POST", "/v1/sessions", {"agent": agent.id, "environment_id": environment.id})
        session = f"/v1/sessions/{made['id']}"
        for parts in ("threads", "resources"):
            assert await owner.ok("GET", f"{session}/{parts}?limit=5") == {"data": [], "next_page": None}
            assert await owner.refused("GET", f"{session}/{parts}/x_1") == (404, "not_found")
            assert await other.refused("GET", f"{session}/{parts}") == (404, "session_not_found")
        file = {"type": "file", "file_id": "file_1"}
        assert await owner.refused("POST", f"{session}/resources", file) == (400, "not_supported")
