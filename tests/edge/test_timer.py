"""One timer for all deadlines of a connection."""

from __future__ import annotations

import asyncio

from arrowslit.edge.timer import Timer
from arrowslit.testing.loop import run


def test_it_is_late_once_and_with_the_last_word() -> None:
    late: list[tuple[str, float]] = []

    async def story() -> None:
        loop = asyncio.get_running_loop()
        timer = Timer(loop, lambda word: late.append((word, round(loop.time(), 3))))
        timer.set(10, "head")
        await asyncio.sleep(6)
        timer.set(10, "body")
        await asyncio.sleep(20)
        assert late == [("body", 16.0)]
        timer.set(75, "idle")
        timer.set(10, "head")  # sooner than what the loop waits for
        await asyncio.sleep(11)
        assert late[1:] == [("head", 36.0)]

    run(0, story)


def test_what_was_cleared_or_closed_is_never_late() -> None:
    late: list[str] = []

    async def story() -> None:
        timer = Timer(asyncio.get_running_loop(), late.append)
        timer.set(1, "cleared")
        timer.clear()
        assert not timer.runs
        await asyncio.sleep(2)
        timer.set(1, "closed")
        timer.close()
        await asyncio.sleep(2)

    run(0, story)
    assert not late
