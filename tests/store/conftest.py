"""Fixtures of the store's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from arrowslit.demo.postgres import Postgres
from arrowslit.store.open import Store
from tests.store.kit import ManualClock, opened, opened_postgres


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest_asyncio.fixture
async def store(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Store]:
    async with opened(tmp_path, clock) as store:
        yield store


@pytest.fixture(params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest) -> Postgres | None:
    """Which database `either` is in: None for a file."""
    return request.getfixturevalue("postgres") if request.param == "postgresql" else None


@pytest_asyncio.fixture
async def either(server: Postgres | None, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Store]:
    """A store in each kind of database: the test runs twice."""
    async with opened(tmp_path, clock) if server is None else opened_postgres(server, clock, tmp_path) as store:
        yield store
