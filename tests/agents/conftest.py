"""The API on a real store, behind a real Starlette application, and an administrator who talks to it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
import pytest_asyncio
from starlette.applications import Starlette

from arrowslit.agents.api.routes import routes
from arrowslit.agents.sessions.log import Log
from arrowslit.agents.work.polling import Polling
from arrowslit.agents.work.reaper import Reaper
from arrowslit.edge.auth import WrongCredentials
from arrowslit.ledger.chain import seal
from arrowslit.ledger.find import CallFinder
from arrowslit.principal import Scope
from arrowslit.store.open import Store
from arrowslit.tunnel import Server
from tests.agents.bench import Records
from tests.agents.kit import Caller
from tests.store.kit import ManualClock, opened


class NoLinks:
    """Nobody is connected."""

    def check(self, server: Server) -> None:
        return

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
def ledger() -> Records:
    return Records()


@pytest.fixture
def app(store: Store, clock: ManualClock, ledger: Records, tmp_path: Path) -> Starlette:
    """Nothing but /v1: nobody takes sessions further here."""
    log = Log(store.sessions, clock, os.urandom)
    return Starlette(
        routes=routes(
            credentials=store.grants,
            wrong=WrongCredentials(clock),
            tunnels=store.tunnels,
            certificates=store.certificates,
            agents=store.agents,
            pins=store.pins,
            keys=store.keys,
            environments=store.environments,
            queue=store.work,
            files=store.files,
            chains=store.chains,
            seal=seal,
            log=log,
            polling=Polling(store.work, clock),
            reaper=Reaper(store.work, log, clock, os.urandom),
            ledger=ledger,
            calls=CallFinder(tmp_path / "ledger"),
            cursor_key=b"c" * 32,
            links=NoLinks(),
            clock=clock,
            random=os.urandom,
            relay_fingerprint="f" * 64,
            prove=lambda nonce, certificate: (b"key", certificate, nonce),
        )
    )


@pytest_asyncio.fixture
async def admin(app: Starlette, store: Store) -> AsyncIterator[Caller]:
    """Somebody with an administrator's key."""
    _, key = await store.keys.create(scopes={Scope.ADMIN})
    async with Caller(app, key) as caller:
        yield caller
