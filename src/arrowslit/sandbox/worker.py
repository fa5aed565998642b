"""Worker: takes items from the queue of an environment and has several sessions served at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from arrowslit.clock import Clock, rfc3339
from arrowslit.errors import Error
from arrowslit.ids import RandomBytes
from arrowslit.sandbox.backoff import pause, wait
from arrowslit.sandbox.work import SESSION, Item, Queue, Sessions

log = logging.getLogger(__name__)

LAST_WORDS = 10.0  # seconds for what was ended to be answered, and its items to be stopped


@dataclass(slots=True)
class State:
    """What `/readyz`, `/metrics` and the log know about this worker. Times are Unix seconds."""

    connected: bool = False
    connected_since: float | None = None
    last_error: str | None = None
    taken: int = 0
    served: int = 0
    serving: int = 0
    failures: int = 0

    def report(self) -> Mapping[str, object]:
        """As fields."""
        return {
            "connected": self.connected,
            "connected_since": None if self.connected_since is None else rfc3339(self.connected_since),
            "last_error": self.last_error,
            "items_taken": self.taken,
            "sessions_served": self.served,
            "serving": self.serving,
            "failures": self.failures,
        }


class Worker:
    """Serves up to `capacity` sessions. `take` runs until it is cancelled, then `drain` ends what was begun."""

    def __init__(self, queue: Queue, sessions: Sessions, *, capacity: int, clock: Clock, random: RandomBytes) -> None:
        self.state = State()
        self._queue = queue
        self._sessions = sessions
        self._clock = clock
        self._random = random
        self._places = asyncio.Semaphore(capacity)
        self._serving: set[asyncio.Task[None]] = set()  # no task group: at the end of patience they are abandoned

    async def take(self) -> None:
        """Take items whenever there is room for one, until cancelled. Raises Error if the queue turns us away."""
        while True:
            await self._places.acquire()
            try:
                item = await self._next()
            except BaseException:
                self._places.release()
                raise
            task = asyncio.create_task(self._serve(item))
            self._serving.add(task)
            task.add_done_callback(self._over)

    async def drain(self, seconds: float) -> None:
        """Leave all sessions. Calls that run have so many seconds; then they are ended, answered and given up."""
        log.info("leaving %d sessions", len(self._serving))
        await self._sessions.leave()
        if await self._still_serving(seconds):
            log.warning("calls still run after %.0f s: they are ended", seconds)
            await self.end()

    async def end(self) -> None:
        """Leave all sessions now."""
        await self._sessions.end()
        if await self._still_serving(LAST_WORDS):
            log.error("%d sessions cannot be left in order: their leases will end", len(self._serving))

    async def _still_serving(self, seconds: float) -> bool:
        if self._serving:
            await asyncio.wait(self._serving, timeout=seconds)
        return bool(self._serving)

    # ------------------------------------------------------------ the queue

    async def _next(self) -> Item:
        """The next session to serve: delivered and acknowledged. Waits out what passes."""
        attempt = 0
        while True:
            asked = self._clock.monotonic()
            try:
                item = await self._queue.poll()
                if item is not None and await self._acknowledged(item):
                    return item
            except Error as error:
                attempt += 1
                await self._failed(error, attempt)
                continue
            self._reached()
            attempt = 0
            if item is None:
                await self._clock.sleep(pause(self._clock.monotonic() - asked, self._chance()))

    async def _acknowledged(self, item: Item) -> bool:
        """Whether there is something to do about it. Raises a retryable Error: then it will be delivered again."""
        try:
            await self._queue.ack(item)
        except Error as error:
            if error.row.retryable:
                raise
            log.error("%s cannot be acknowledged, and is stopped: %s", item.id, error.message)
            await self._stop(item)
            return False
        self._reached()
        self.state.taken += 1
        if item.kind == SESSION:
            return True
        await self._stop(item)
        return False

    async def _stop(self, item: Item) -> None:
        try:
            await self._queue.stop(item)
        except Error as error:
            log.error("%s cannot be stopped: %s", item.id, error.message)

    def _reached(self) -> None:
        if not self.state.connected:
            log.info("connected: waiting for work")
            self.state.connected, self.state.connected_since = True, self._clock.now()
        self.state.last_error = None

    async def _failed(self, error: Error, attempt: int) -> None:
        self.state.connected, self.state.last_error = False, str(error)
        self.state.failures += 1
        if not error.row.retryable:
            raise error
        seconds = wait(attempt, self._chance())
        log.warning("%s: next try in %.1f s", error.message, seconds)
        await self._clock.sleep(seconds)

    def _chance(self) -> float:
        return int.from_bytes(self._random(6)) / 2**48

    # ------------------------------------------------------------ sessions

    async def _serve(self, item: Item) -> None:
        log.info("serving %s (%s)", item.subject, item.id)
        self.state.serving += 1
        try:
            await self._sessions.serve(item)
        finally:
            self.state.serving -= 1
            self.state.served += 1
            log.info("left %s", item.subject)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._serving.discard(task)
        self._places.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a session met a defect of the worker", exc_info=error)
