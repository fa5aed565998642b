"""The database behind the store: URL to engine, migrations, and one transaction at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from sqlite3 import Connection as SQLiteConnection
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy import Connection, Executable, Row, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from arrowslit.errors import Error

T = TypeVar("T")

_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}


class Database:
    """One engine. Writes of this process take turns; what was begun is finished, also when its caller has left."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._turn = asyncio.Lock()
        self._running: set[asyncio.Task[Any]] = set()

    async def write(self, work: Callable[[AsyncConnection], Awaitable[T]], then: Callable[[T], None]) -> T:
        """Run `work` in one transaction and, once it is on disk, `then` with its result; return that result.

        No other write runs in between, so `work` may decide by what earlier `then`s left in memory. A caller that is
        cancelled does not stop it: a key revoked on disk must not live on in memory.
        """
        task = asyncio.create_task(self._write(work, then))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def read(self, query: Executable) -> Sequence[Row[Any]]:
        """The rows of `query`."""
        async with self._turn, self._engine.connect() as connection:
            result = await connection.execute(query)
            rows: Sequence[Row[Any]] = result.all()
            return rows

    async def close(self) -> None:
        """Finish what runs, then close the connections."""
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._engine.dispose()

    async def _write(self, work: Callable[[AsyncConnection], Awaitable[T]], then: Callable[[T], None]) -> T:
        async with self._turn:
            async with self._engine.begin() as connection:
                result = await work(connection)
            then(result)
        return result


async def open_database(address: str) -> Database:
    """The database at a URL (`sqlite:///file`, `postgresql://…`), with the tables of this version.

    Raises Error `state_unusable` if it cannot be used, or was made by a newer version.
    """
    try:
        engine = _engine(make_url(address))
    except (ArgumentError, ModuleNotFoundError, OSError) as error:
        raise _unusable(str(error)) from error
    try:
        async with engine.begin() as connection:
            await connection.run_sync(migrate)
    except CommandError as error:
        await engine.dispose()
        raise _unusable(f"it was made by another version of arrowslit ({error})") from error
    except (DBAPIError, OSError) as error:
        await engine.dispose()
        raise _unusable(str(error)) from error
    return Database(engine)


def migrate(connection: Connection) -> None:
    """Take every step that this database has not taken yet, in the transaction of the caller."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _engine(url: URL) -> AsyncEngine:
    url = url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))
    if url.get_backend_name() != "sqlite":
        return create_async_engine(url, pool_pre_ping=True)
    if url.database:
        Path(url.database).touch(mode=0o600)  # SQLite gives its log files the mode of this one
    engine = create_async_engine(url)
    event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    event.listen(engine.sync_engine, "begin", _begin_immediate)
    return engine


def _prepare_sqlite(connection: SQLiteConnection, _record: object) -> None:
    """What every SQLite connection needs to be told."""
    connection.isolation_level = None  # we begin transactions, not the driver
    cursor = connection.cursor()
    cursor.execute("PRAGMA busy_timeout=10000")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")  # in WAL mode NORMAL may lose the last commits when the power fails
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_immediate(connection: Connection) -> None:
    """Take the write lock at once: a reader that turns writer in the middle can deadlock with another."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _unusable(why: str) -> Error:
    return Error(
        "state_unusable",
        f"the database cannot be used: {why}",
        hint="check the path and its permissions, or name another one with --state or --database",
    )
