"""Chores: the background tasks of one target, which end when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")


class Chores:
    """A task group whose tasks are cancelled on the way out. An exception of one ends the target: let it raise none."""

    def __init__(self) -> None:
        self.open = False
        self._group = asyncio.TaskGroup()
        self._running: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        self.open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.open = False
        for task in self._running:
            task.cancel()
        await self._group.__aexit__(None, None, None)  # what ended the target stays what it is, outside of any group

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run `work` beside everything else. Only while `open`."""
        task = self._group.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task
