"""The API on a real store, behind a real Starlette application, and an administrator who talks to it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
import pytest_asyncio
from starlette.applications import Starlette

from arrowslit.agents.api.routes import routes
from arrowslit.edge.auth import WrongCredentials
from arrowslit.principal import Scope
from arrowslit.store.open import Store
from tests.agents.kit import Caller
from tests.store.kit import ManualClock, opened


class NoLinks:
    """Nobody is connected."""

    def status(self, tunnel_id: str) -> Mapping[str, object]:
        return {"connected": False, "connectors": []}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest_asyncio.fixture
async def store(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Store]:
    async with opened(tmp_path, clock) as store:
        yield store


@pytest.fixture
def app(store: Store, clock: ManualClock) -> Starlette:
    """Nothing but /v1."""
    return Starlette(
        routes=routes(
            grants=store.grants,
            wrong=WrongCredentials(clock),
            tunnels=store.tunnels,
            certificates=store.certificates,
            agents=store.agents,
            keys=store.keys,
            environments=store.environments,
            workers=store.work,
            cursor_key=b"c" * 32,
            links=NoLinks(),
            clock=clock,
            random=os.urandom,
            relay_fingerprint="f" * 64,
        )
    )


@pytest_asyncio.fixture
async def admin(app: Starlette, store: Store) -> AsyncIterator[Caller]:
    """Somebody with an administrator's key."""
    _, key = await store.keys.create(scopes={Scope.ADMIN})
    async with Caller(app, key) as caller:
        yield caller
