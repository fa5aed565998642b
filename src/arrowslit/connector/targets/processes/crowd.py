"""Crowd: the running servers of one program, of which there are so many at most, and none outlives it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from arrowslit.connector.targets.processes.channel import Channel
from arrowslit.connector.targets.target import NotStarted


class TooMany(NotStarted):
    """So many servers run that no more is started. Says nothing about the health of any."""


class Member(Channel, Protocol):
    """A channel that tells of its beginning: None, or why there is none."""

    started: asyncio.Future[Exception | None]


M = TypeVar("M", bound=Member)


class Crowd:
    """At most `most` members. Leaving it closes all of them."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._group = asyncio.TaskGroup()
        self._members: set[Member] = set()

    def __len__(self) -> int:
        return len(self._members)

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for member in self._members:
            self._group.create_task(member.close())
        await self._group.__aexit__(None, None, None)

    async def start(self, member: M, life: Coroutine[Any, Any, None]) -> Exception | None:
        """Run the member's whole `life`; returns once it has started: None, or why it has not.

        Raises TooMany. If the caller leaves, so does the member.
        """
        if len(self._members) >= self.most:
            life.close()
            raise TooMany(f"{self.most} run already")
        self._members.add(member)
        self._group.create_task(self._live(member, life))
        try:
            return await asyncio.shield(member.started)
        except asyncio.CancelledError:
            self._group.create_task(member.close())
            raise

    async def _live(self, member: Member, life: Coroutine[Any, Any, None]) -> None:
        try:
            await life
        finally:
            self._members.discard(member)
