"""What the tests of the store, and of those who use it, share: a clock turned by hand, and a store on a real file."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg

from arrowslit.agent import Definition, Permission, ToolRule, Toolset
from arrowslit.credential import RootKey
from arrowslit.demo.postgres import SUPERUSER, Postgres
from arrowslit.outcome import Effect
from arrowslit.principal import Tenant
from arrowslit.session import Batch, Event, Session
from arrowslit.store.open import Store
from arrowslit.store.tables import metadata
from arrowslit.tunnel import Server
from arrowslit.work import Work, WorkKind

ROOT = RootKey(b"r" * 32)
HOUR = 3600.0
DAY = 24 * HOUR

_chance = random.Random(2)
_made: list[bytes] = []


class ManualClock:
    """A clock that stands until it is turned. Nobody sleeps by it."""

    def __init__(self, now: float = 1_795_000_000.0) -> None:
        self._now = now

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing here waits for time to pass")

    def turn(self, seconds: float) -> None:
        self._now += seconds


@asynccontextmanager
async def opened(folder: Path, clock: ManualClock, root: RootKey = ROOT) -> AsyncIterator[Store]:
    """A store on `folder/state.db`, with the randomness of a seed.

    A new one is a copy of the first: making the tables takes a tenth of a second, and hundreds of tests ask for them.
    """
    file = folder / "state.db"
    if not file.exists() and _made:
        file.touch(0o600)
        file.write_bytes(_made[0])
    url, files = f"sqlite:///{file}", folder / "files"
    async with Store.open(url, files=files, root=root, clock=clock, random=_chance.randbytes) as store:
        if not _made and root == ROOT:
            _made.append(_empty_copy(folder))
        yield store


@asynccontextmanager
async def opened_postgres(server: Postgres, clock: ManualClock, folder: Path) -> AsyncIterator[Store]:
    """A store in a PostgreSQL database, where each one finds the tables that the first one made, empty."""
    connection = await asyncpg.connect(server.admin_dsn)
    try:
        if not await connection.fetchval("select exists (select from pg_database where datname = 'store')"):
            await connection.execute("create database store")
    finally:
        await connection.close()
    url = server.dsn(SUPERUSER, server.secret(SUPERUSER), "store")
    files = folder / "files"
    async with Store.open(url, files=files, root=ROOT, clock=clock, random=_chance.randbytes) as store:
        yield store
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("".join(f"delete from {table.name};" for table in reversed(metadata.sorted_tables)))
    finally:
        await connection.close()


def _empty_copy(folder: Path) -> bytes:
    """The bytes of a store that was just made."""
    with closing(sqlite3.connect(folder / "state.db")) as source, closing(sqlite3.connect(":memory:")) as copy:
        source.backup(copy)
        return copy.serialize()


def definition(
    name: str = "assistant", *tools: str, server: str = "stock", effect: Effect = Effect.WRITE
) -> Definition:
    """An agent with one server and these tools."""
    rules = tuple(ToolRule(tool, True, Permission.ALWAYS_ALLOW, effect) for tool in tools)
    toolset = Toolset(Server(server, "tnl_stock"), "https://stock.tunnel.localhost/mcp", rules)
    return Definition(name, {"id": "none"}, toolsets=(toolset,))


def session(number: int = 1, *, tenant: str | None = "acme", **fields: Any) -> Session:
    """A session without events."""
    return Session(
        id=f"sesn_{number}",
        tenant=None if tenant is None else Tenant(tenant),
        principal_id="key_1",
        agent_id=fields.pop("agent_id", "agent_1"),
        agent_version=fields.pop("agent_version", 1),
        definition=definition(),
        **fields,
    )


def batch(before: Session, count: int = 1, **fields: Any) -> Batch:
    """That many events after what is there, as if nothing else had changed."""
    seqs = range(before.last_seq + 1, before.last_seq + 1 + count)
    events = tuple(Event(seq, f"sevt_{_chance.randbytes(8).hex()}", "user.message", 1.0, 1.0, {}) for seq in seqs)
    after = replace(before, last_seq=before.last_seq + count, **fields.pop("session", {}))
    return Batch(after=before.last_seq, session=after, events=events, **fields)


def work(environment_id: str, subject: str = "sesn_1", work_id: str = "work_1", **fields: Any) -> Work:
    """An item of a session's, queued."""
    return Work(id=work_id, environment_id=environment_id, kind=WorkKind.SESSION, subject=subject, **fields)
