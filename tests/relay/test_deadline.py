"""Deadlines: exact enough, cheap, and never confused with somebody who cancels."""

from __future__ import annotations

import asyncio

import pytest

from arrowslit.relay.deadline import Deadline, Deadlines
from arrowslit.testing.loop import run


@pytest.mark.promise("P2")
@pytest.mark.parametrize("seconds", [0.001, 0.1, 1.0, 7.3, 60.0, 333.3, 600.0, 1800.0, 3600.0])
def test_a_wait_ends_at_its_time_or_hardly_later(seconds: float) -> None:
    async def story() -> float:
        await asyncio.sleep(1.234)
        began = asyncio.get_running_loop().time()
        with pytest.raises(TimeoutError), Deadline(Deadlines(), began + seconds):
            await asyncio.sleep(10_000)
        return asyncio.get_running_loop().time() - began

    assert seconds <= run(0, story) <= seconds + min(max(seconds / 32, 0.005), 0.51)


def test_it_can_be_put_off_and_those_that_share_a_moment_end_each_for_itself() -> None:
    ended: list[str] = []

    async def wait(deadlines: Deadlines, name: str, moves: bool) -> None:
        loop = asyncio.get_running_loop()
        try:
            with Deadline(deadlines, loop.time() + 10) as deadline:
                await asyncio.sleep(5)
                if moves:
                    deadline.move(loop.time() + 10)
                await asyncio.sleep(8)
            ended.append(f"{name} came through")
        except TimeoutError:
            ended.append(f"{name} was late")

    async def story() -> None:
        deadlines = Deadlines()
        await asyncio.gather(wait(deadlines, "one", False), wait(deadlines, "other", True))

    run(0, story)
    assert ended == ["one was late", "other came through"]


def test_who_cancels_is_heard_also_when_the_time_is_over() -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()

        async def waits() -> None:
            with Deadline(Deadlines(), loop.time() + 1):
                await asyncio.sleep(10)

        task = asyncio.create_task(waits())
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(5)

    run(0, story)
