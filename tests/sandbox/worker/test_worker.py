"""How the worker takes items, waits and leaves: with a queue that the test answers for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest

from arrowslit.clock import SystemClock
from arrowslit.errors import Error
from arrowslit.sandbox.work import Item
from arrowslit.sandbox.worker import Worker

TROUBLE = Error("relay_unreachable", "no answer")
PATIENCE = 5.0


class FastClock(SystemClock):
    """Remembers how long it was to sleep, and does not."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        """Return soon."""
        self.slept.append(seconds)
        await asyncio.sleep(0)


@dataclass
class Script:
    """A queue that gives these answers, and then nothing any more."""

    answers: list[Item | Error | None]
    refuses: Error | None = None
    said: list[str] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def poll(self) -> Item | None:
        """See Queue."""
        if not self.answers:
            self.over.set()
            await asyncio.Event().wait()
        answer = self.answers.pop(0)
        if isinstance(answer, Error):
            raise answer
        return answer

    async def ack(self, item: Item) -> None:
        """See Queue."""
        self.said.append(f"ack {item.id}")
        if self.refuses is not None:
            refuses, self.refuses = self.refuses, None
            raise refuses

    async def stop(self, item: Item) -> None:
        """See Queue."""
        self.said.append(f"stop {item.id}")


@dataclass
class Served:
    """Sessions that last until they are told to end."""

    now: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)
    obstinate: bool = False
    finish: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, item: Item) -> None:
        """See Sessions."""
        async with self.news:
            self.now.append(item.subject)
            self.news.notify_all()
        await self.finish.wait()
        self.now.remove(item.subject)

    async def until(self, count: int) -> None:
        """Once so many are served."""
        async with asyncio.timeout(PATIENCE), self.news:
            await self.news.wait_for(lambda: len(self.now) == count)

    async def leave(self) -> None:
        """See Sessions."""
        self.ended.append("leave")
        if not self.obstinate:
            self.finish.set()

    async def end(self) -> None:
        """See Sessions."""
        self.ended.append("end")
        self.finish.set()


def item(number: int, kind: str = "session") -> Item:
    """An item of work."""
    return Item(f"work_{number}", "env_1", kind, f"sesn_{number}")


@asynccontextmanager
async def taking(queue: Script, sessions: Served, capacity: int = 1) -> AsyncIterator[tuple[Worker, FastClock]]:
    """A worker that takes."""
    clock = FastClock()
    worker = Worker(queue, sessions, capacity=capacity, clock=clock, random=bytes)
    task = asyncio.create_task(worker.take())
    try:
        yield worker, clock
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        sessions.finish.set()
        await worker.drain(PATIENCE)


async def test_no_more_sessions_are_taken_than_there_is_room_for() -> None:
    queue, sessions = Script([item(1), item(2), item(3)]), Served()
    async with taking(queue, sessions, capacity=2) as (worker, _):
        await sessions.until(2)
        await asyncio.sleep(0)
        assert queue.answers == [item(3)]
        assert worker.state.report()["serving"] == 2

        sessions.finish.set()
        async with asyncio.timeout(PATIENCE):
            await queue.over.wait()
        assert queue.said == ["ack work_1", "ack work_2", "ack work_3"]


async def test_trouble_is_waited_out_ever_longer_and_forgotten_afterwards() -> None:
    queue = Script([*[TROUBLE] * 7, None, TROUBLE])
    async with taking(queue, Served()) as (worker, clock), asyncio.timeout(PATIENCE):
        await queue.over.wait()

    assert clock.slept[:7] == [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0]  # the shortest that chance allows
    assert clock.slept[8] == 0.5
    assert worker.state.failures == 8


async def test_an_empty_queue_is_not_asked_without_a_pause() -> None:
    queue = Script([None, None])
    async with taking(queue, Served()) as (_, clock), asyncio.timeout(PATIENCE):
        await queue.over.wait()

    assert all(0.4 < each <= 0.5 for each in clock.slept)


async def test_a_queue_that_turns_us_away_ends_the_worker() -> None:
    queue = Script([Error("unauthenticated", "the key was revoked")])
    worker = Worker(queue, Served(), capacity=1, clock=FastClock(), random=bytes)

    with pytest.raises(Error, match="revoked"):
        await worker.take()


async def test_what_cannot_be_acknowledged_for_good_is_stopped() -> None:
    queue, sessions = Script([item(1), item(2)], refuses=Error("work_not_found", "gone")), Served()
    async with taking(queue, sessions):
        await sessions.until(1)

        assert queue.said == ["ack work_1", "stop work_1", "ack work_2"]
        assert sessions.now == ["sesn_2"]


async def test_what_cannot_be_acknowledged_now_is_left_to_come_again() -> None:
    queue, sessions = Script([item(1), item(1)], refuses=TROUBLE), Served()
    async with taking(queue, sessions):
        await sessions.until(1)

        assert queue.said == ["ack work_1", "ack work_1"]


async def test_what_is_no_session_is_acknowledged_and_stopped() -> None:
    queue, sessions = Script([item(1, "healthcheck"), item(2)]), Served()
    async with taking(queue, sessions):
        await sessions.until(1)

        assert queue.said == ["ack work_1", "stop work_1", "ack work_2"]
        assert sessions.now == ["sesn_2"]


async def test_a_drain_ends_only_what_does_not_end_by_itself() -> None:
    for obstinate, ended in ((False, ["leave"]), (True, ["leave", "end"])):
        sessions = Served(obstinate=obstinate)
        async with taking(Script([item(1)]), sessions) as (worker, _):
            await sessions.until(1)
            await worker.drain(0.05)

            assert sessions.ended == ended
            assert not sessions.now
