from __future__ import annotations

import asyncio

import pytest

from arrowslit.connector.targets.conversations import outbox as module
from arrowslit.connector.targets.conversations.outbox import Item, Outbox
from arrowslit.connector.targets.target import Lost, TooLarge


async def test_messages_come_out_in_order_and_end_with_the_last() -> None:
    outbox = Outbox()
    reader = outbox.reader()
    reading = asyncio.create_task(reader.peek())
    await asyncio.sleep(0)
    outbox.put(Item(b"1"))
    outbox.put(Item(b"2", last=True))
    outbox.put(Item(b"3"))

    assert (await reading, await reader.next(), await reader.next()) == (Item(b"1"), Item(b"1"), Item(b"2", last=True))
    assert await reader.next() is None


async def test_an_answer_that_came_before_the_end_is_not_lost() -> None:
    outbox = Outbox()
    outbox.put(Item(b"1", last=True))
    outbox.fail(Lost("died"))
    assert await outbox.reader().next() == Item(b"1", last=True)


async def test_a_failure_wakes_the_reader() -> None:
    outbox = Outbox()
    reading = asyncio.create_task(outbox.reader().next())
    await asyncio.sleep(0)
    outbox.fail(Lost("died"))
    with pytest.raises(Lost, match="died"):
        await reading


async def test_what_has_been_read_makes_room() -> None:
    outbox = Outbox(limit=3)
    reader = outbox.reader()
    for _ in range(5):
        outbox.put(Item(b"123"))
        await reader.next()

    outbox.put(Item(b"12"))
    outbox.put(Item(b"34", last=True))
    with pytest.raises(TooLarge):
        await reader.next()


async def test_another_reader_goes_on_where_the_first_was_and_sends_it_away() -> None:
    outbox = Outbox()
    first = outbox.reader()
    outbox.put(Item(b"1"))
    await first.next()
    waiting = asyncio.create_task(first.next())
    await asyncio.sleep(0)

    second = outbox.reader()
    outbox.put(Item(b"2", last=True))

    assert await waiting is None
    assert (await second.next(), await first.next()) == (Item(b"2", last=True), None)


async def test_while_the_reader_is_gone_the_oldest_make_room_and_the_answer_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "UNREAD_LIMIT", 4)
    outbox = Outbox()
    first = outbox.reader()
    outbox.put(Item(b"111"))
    first.leave()
    outbox.put(Item(b"222"))
    outbox.put(Item(b"longer than that", last=True))

    assert (outbox.left, outbox.attended) == (True, False)
    reader = outbox.reader()
    assert (outbox.left, await reader.next(), await reader.next()) == (
        False,
        Item(b"longer than that", last=True),
        None,
    )


async def test_a_beat_comes_only_into_silence() -> None:
    outbox = Outbox()
    reader = outbox.reader()
    reader.beat()
    outbox.put(Item(b"1"))
    reader.beat()
    reader.beat()
    assert await reader.next() == Item(b"1")

    reader.beat()
    reader.beat()
    assert await reader.next() == Item(b"")
    reader.leave()
    reader.beat()
    reader.beat()
    outbox.end()
    assert await outbox.reader().next() is None


async def test_a_reader_who_was_replaced_neither_leaves_nor_beats_for_the_one_who_reads_on() -> None:
    outbox = Outbox()
    first, second = outbox.reader(), outbox.reader()
    reading = asyncio.create_task(second.next())
    await asyncio.sleep(0)

    first.beat()
    first.beat()
    first.leave()
    assert outbox.attended
    outbox.put(Item(b"1", last=True))

    assert await reading == Item(b"1", last=True)
