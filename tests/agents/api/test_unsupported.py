from __future__ import annotations

import pytest
from starlette.applications import Starlette

from arrowslit.store.open import Store
from tests.agents.kit import Caller, code_of


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
