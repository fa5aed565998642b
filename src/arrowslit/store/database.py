"""The database behind the store: URL to engines, migrations, one transaction at a time, and reads beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from sqlite3 import Connection as SQLiteConnection
from typing import Any, TypeVar

from sqlalchemy import Connection, Executable, Row, event, inspect
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from arrowslit.errors import Error

T = TypeVar("T")

STEPS = Path(__file__).parent / "migrations"
READERS = 4  # connections that only read; with SQLite each is a thread, and a read takes well under a millisecond

_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}


class Database:
    """Two engines on one database. Writes take turns, reads wait for nobody; what was begun is finished,
    also when its caller has left.
    """

    def __init__(self, writing: AsyncEngine, reading: AsyncEngine) -> None:
        self._writing, self._reading = writing, reading
        self._turn = asyncio.Lock()
        self._running: set[asyncio.Task[Any]] = set()

    async def write(self, work: Callable[[AsyncConnection], Awaitable[T]], then: Callable[[T], None]) -> T:
        """Run `work` in one transaction and, once it is on disk, `then` with its result; return that result.

        No other write runs in between, so `work` may decide by what earlier `then`s left in memory. A caller that is
        cancelled does not stop it: a key revoked on disk must not live on in memory.
        """
        return await self._finish(self._write(work, then))

    async def read(self, query: Executable) -> Sequence[Row[Any]]:
        """The rows of `query`, which sees every write that has returned."""
        return await self._finish(self._read(query))

    async def close(self) -> None:
        """Finish what runs, then close the connections."""
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._reading.dispose()
        await self._writing.dispose()

    async def _finish(self, begun: Coroutine[Any, Any, T]) -> T:
        task = asyncio.create_task(begun)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        """Nobody may be there any more to hear how it went: that is no news to the event loop."""
        self._running.discard(task)
        if not task.cancelled():
            task.exception()

    async def _read(self, query: Executable) -> Sequence[Row[Any]]:
        async with self._reading.connect() as connection:
            result = await connection.execute(query)
            rows: Sequence[Row[Any]] = result.all()
            return rows

    async def _write(self, work: Callable[[AsyncConnection], Awaitable[T]], then: Callable[[T], None]) -> T:
        async with self._turn:
            async with self._writing.begin() as connection:
                result = await work(connection)
            then(result)
        return result


async def open_database(address: str) -> Database:
    """The database at a URL (`sqlite:///file`, `postgresql://…`), with the tables of this version.

    Raises Error `state_unusable` if it cannot be used, or was made by a newer version.
    """
    try:
        writing, reading = _engines(make_url(address))
    except (ArgumentError, ModuleNotFoundError, OSError) as error:
        raise _unusable(str(error)) from error
    try:
        async with writing.begin() as connection:
            await connection.run_sync(migrate)
    except Error:
        await writing.dispose()
        raise
    except (DBAPIError, OSError) as error:
        await writing.dispose()
        raise _unusable(str(error)) from error
    return Database(writing, reading)


def migrate(connection: Connection) -> None:
    """Take every step that this database has not taken yet, in the transaction of the caller.

    Raises Error `state_unusable` if it has taken steps that this version does not know.
    """
    if _taken(connection) == newest_step():
        return
    from alembic import command  # a third of the time of a start, and most starts have no step to take
    from alembic.config import Config
    from alembic.util.exc import CommandError

    config = Config()
    config.set_main_option("script_location", str(STEPS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise _unusable(f"it was made by another version of arrowslit ({error})") from error


def newest_step() -> str:
    """The revision of the last migration, which its file has in its name: `m0003_minted.py` is 0003."""
    return max(path.name for path in (STEPS / "versions").glob("m[0-9]*_*.py"))[1:5]


def _taken(connection: Connection) -> str | None:
    """The last step that this database has taken, None for a new one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    version: str | None = connection.exec_driver_sql("select version_num from alembic_version").scalar()
    return version


def _engines(url: URL) -> tuple[AsyncEngine, AsyncEngine]:
    """One to write with, one transaction at a time, and one to read with, each read for itself."""
    url = url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))
    reads = {"pool_size": READERS, "max_overflow": 0, "isolation_level": "AUTOCOMMIT", "pool_reset_on_return": None}
    if url.get_backend_name() != "sqlite":
        url = _as_asyncpg_has_it(url)
        writing = create_async_engine(url, pool_size=1, max_overflow=0, pool_pre_ping=True)
        return writing, create_async_engine(url, pool_pre_ping=True, **reads)
    if url.database:
        Path(url.database).touch(mode=0o600)  # SQLite gives its log files the mode of this one
    writing, reading = create_async_engine(url, pool_size=1, max_overflow=0), create_async_engine(url, **reads)
    for engine in (writing, reading):
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    event.listen(writing.sync_engine, "begin", _begin_immediate)
    return writing, reading


def _as_asyncpg_has_it(url: URL) -> URL:
    """`sslmode`, as libpq's URLs have it, is `ssl` to this driver."""
    if "sslmode" not in url.query:
        return url
    return url.difference_update_query(["sslmode"]).update_query_dict({"ssl": url.query["sslmode"]})


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
