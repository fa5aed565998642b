"""What the tests of the store, and of those who use it, share: a clock turned by hand, and a store on a real file."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

from arrowslit.agent import Definition, Permission, ToolRule, Toolset
from arrowslit.credential import RootKey
from arrowslit.outcome import Effect
from arrowslit.store.open import Store
from arrowslit.tunnel import Server

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
    async with Store.open(f"sqlite:///{file}", root=root, clock=clock, random=_chance.randbytes) as store:
        if not _made and root == ROOT:
            _made.append(_empty_copy(folder))
        yield store


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
