from __future__ import annotations

import asyncio

import pytest

from arrowslit.connector.targets.conversations.outbox import Item, Outbox
from arrowslit.connector.targets.target import Lost, TooLarge


async def test_messages_come_out_in_order_and_end_with_the_last() -> None:
    outbox = Outbox()
    reading = asyncio.create_task(outbox.peek())
    await asyncio.sleep(0)
    outbox.put(Item(b"1"))
    outbox.put(Item(b"2", last=True))
    outbox.put(Item(b"3"))

    assert (await reading, await outbox.next(), await outbox.next()) == (Item(b"1"), Item(b"1"), Item(b"2", last=True))
    assert await outbox.next() is None


async def test_an_answer_that_came_before_the_end_is_not_lost() -> None:
    outbox = Outbox()
    outbox.put(Item(b"1", last=True))
    outbox.fail(Lost("died"))
    assert await outbox.next() == Item(b"1", last=True)


async def test_a_failure_wakes_the_reader() -> None:
    outbox = Outbox()
    reading = asyncio.create_task(outbox.next())
    await asyncio.sleep(0)
    outbox.fail(Lost("died"))
    with pytest.raises(Lost, match="died"):
        await reading


async def test_what_has_been_read_makes_room() -> None:
    outbox = Outbox(limit=3)
    for _ in range(5):
        outbox.put(Item(b"123"))
        await outbox.next()

    outbox.put(Item(b"12"))
    outbox.put(Item(b"34"))
    with pytest.raises(TooLarge):
        await outbox.next()
