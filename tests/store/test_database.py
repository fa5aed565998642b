from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from arrowslit.session import LeaseLost
from arrowslit.store.database import open_database


async def test_a_write_that_fails_after_its_caller_has_left_is_no_news_to_the_event_loop(tmp_path: Path) -> None:
    database = await open_database(f"sqlite:///{tmp_path / 'state.db'}")
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    begun, go = asyncio.Event(), asyncio.Event()

    async def refuse(_: AsyncConnection) -> None:
        begun.set()
        await go.wait()
        raise LeaseLost

    caller = asyncio.create_task(database.write(refuse, lambda _: None))
    await begun.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    go.set()
    await database.write(nothing, lambda _: None)  # which had to wait for its turn
    del caller
    gc.collect()

    assert told == []
    await database.close()


async def nothing(_: AsyncConnection) -> None:
    """A write."""
