"""A running PostgreSQL for tests: one server for the whole run, and the demo's database fresh for each test."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest_asyncio

from arrowslit.demo.postgres import Postgres
from arrowslit.demo.schema import prepare


@contextmanager
def open_folder() -> Iterator[Path]:
    """A temporary folder that PostgreSQL's user may pass through; pytest's own are closed to it when root runs us."""
    folder = Path(tempfile.mkdtemp(prefix="arrowslit-")).resolve()
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres() -> AsyncIterator[Postgres]:
    """A PostgreSQL server, started once; what is in it is shared by all tests."""
    with open_folder() as folder:
        async with Postgres(folder / "postgres") as server:
            yield server


@pytest_asyncio.fixture
async def stock_dsn(postgres: Postgres) -> str:
    """What INTERNAL_DB_DSN is to be: the database of the stock server, holding `demo.schema.ROWS` and nothing else."""
    return await prepare(postgres)
