"""CoroutineTarget: a Target that is written as one coroutine for each exchange."""

from __future__ import annotations

import asyncio
from typing import Protocol

from arrowslit.connector.targets.target import Asker, Cancel, Exchange, Reply, Request
from arrowslit.tunnel import Headers


class CoroutineTarget(Protocol):
    """What such a target inherits. It writes `exchange`."""

    async def exchange(self, request: Request, reply: Reply) -> None:
        """Hand the request over and pass the answer on as it comes; return when the body is complete.

        Raises NotStarted, Lost or TooLarge. When its task is cancelled it lets go of the target as `reply.cancel` asks,
        within two seconds, and raises CancelledError.
        """
        ...

    def begin(self, request: Request, asker: Asker, tasks: asyncio.TaskGroup) -> Exchange:
        """See Target."""
        return _Running(self, request, asker, tasks)


class _Running:
    """An exchange in a task of its own."""

    def __init__(self, target: CoroutineTarget, request: Request, asker: Asker, tasks: asyncio.TaskGroup) -> None:
        self._asker = asker
        self._reply = _Reply(asker)
        self._begun = False
        self._task = tasks.create_task(self._run(target, request))

    def cancel(self, why: Cancel) -> None:
        """See Exchange."""
        if self._reply.cancel is not None:
            return
        self._reply.cancel = why
        self._task.cancel()
        if not self._begun:  # the coroutine will never run
            self._asker.over(asyncio.CancelledError())

    def resume(self) -> None:
        """See Exchange."""
        self._reply.room.set()

    async def _run(self, target: CoroutineTarget, request: Request) -> None:
        self._begun = True
        try:
            await target.exchange(request, self._reply)
        except asyncio.CancelledError as error:
            self._asker.over(error)
            if self._reply.cancel is None:
                raise
        except Exception as error:
            self._asker.over(error)
        else:
            self._asker.over()


class _Reply:
    """The Reply over an Asker."""

    def __init__(self, asker: Asker) -> None:
        self.cancel: Cancel | None = None
        self.room = asyncio.Event()
        self._asker = asker

    def dispatched(self) -> None:
        """See Reply."""
        self._asker.dispatched()

    def head(self, status: int, headers: Headers) -> None:
        """See Reply."""
        self._asker.head(status, headers)

    def piece(self, data: bytes) -> None:
        """See Reply."""
        self._asker.piece(data)

    async def drain(self) -> None:
        """See Reply."""
        while self._asker.full:
            self.room.clear()
            await self.room.wait()
