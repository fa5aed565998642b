"""Our worker in the place of the SDK's in the stories of tests/official: in this process, with a folder as its sandbox.

A folder, because the stories look at the files of the worker's machine; the walls are tested elsewhere.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from arrowslit.clock import SystemClock
from arrowslit.ledger.chain import seal
from arrowslit.record import Fields
from arrowslit.sandbox.egress.resolver import SystemResolver
from arrowslit.sandbox.files import Shelf
from arrowslit.sandbox.isolation.isolation import Command, Ended, Isolation, Output, Process, Report, Sandbox
from arrowslit.sandbox.isolation.unconfined import Place as Bare
from arrowslit.sandbox.isolation.unconfined import Unconfined
from arrowslit.sandbox.journal import Courier, Journal, Send, Taking
from arrowslit.sandbox.official import OfficialQueue, OfficialSessions, open_client
from arrowslit.sandbox.place import Place, Surroundings, open_place
from arrowslit.sandbox.tools.tool import Tool
from arrowslit.sandbox.tools.tools import tools
from arrowslit.sandbox.work import Item
from arrowslit.sandbox.worker import Worker
from tests.official.ground import Ground, Stage, ground
from tests.official.proxy import Fault


@dataclass(slots=True)
class Book:
    """A ledger in memory."""

    records: list[tuple[str, Fields]] = field(default_factory=list)

    async def append(self, kind: str, fields: Fields) -> int:
        """See Ledger."""
        self.records.append((kind, fields))
        return len(self.records)

    def digest(self, data: bytes) -> str:
        """See Ledger."""
        return ""


class Room:
    """A sandbox that is a folder, which stays when it is closed."""

    listener = None

    def __init__(self, inner: Bare, folder: Path) -> None:
        self._inner = inner
        self._folder = folder
        self.session = inner.session
        self.report = inner.report

    @property
    def alive(self) -> bool:
        """See Sandbox."""
        return self._inner.alive

    async def start(self, command: Command) -> Process:
        """See Sandbox."""
        return await self._inner.start(replace(command, cwd=str(self._folder)))

    def run(self, command: Command) -> AsyncGenerator[Output | Ended, None]:
        """See Sandbox."""
        return self._inner.run(replace(command, cwd=str(self._folder)))

    async def close(self) -> None:
        """See Sandbox."""
        await self._inner.close()


class Folder:
    """An isolation that isolates nothing: every sandbox is the same folder."""

    def __init__(self, folder: Path) -> None:
        self._bare = Unconfined()
        self._folder = folder
        self.report: Report = self._bare.report

    async def __aenter__(self) -> Self:
        await self._bare.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._bare.__aexit__(kind, error, trace)

    async def open(self, session: str, *, listen: int | None = None) -> Room:
        """See Isolation."""
        return Room(await self._bare.open(session, listen=listen), self._folder)


@asynccontextmanager
async def worker(
    url: str, environment: str, key: str, isolation: Isolation, book: Book, *, capacity: int = 1, idle: float = 0.2
) -> AsyncIterator[Worker]:
    """Our worker, which takes nothing yet."""
    clock, taking, keeping = SystemClock(), Taking("records"), Taking("files")
    resolver = SystemResolver()

    def make(sandbox: Sandbox, environment: Mapping[str, str]) -> Sequence[Tool]:
        return tools(sandbox, environment=environment)

    def place(item: Item, send: Send, shelf: Shelf) -> AbstractAsyncContextManager[Place]:
        courier = Courier(seal, send, taking, clock)
        journal = Journal(book, {"work": item.id}, courier)
        return open_place(item.subject, around, journal, courier, shelf, keeping)

    async with isolation, open_client(url, key, verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), proxy=None) as client:
        around = Surroundings(
            isolation=isolation, rules=(), egress=False, resolve=resolver, make_tools=make, clock=clock
        )
        queue, sessions = OfficialQueue(client, environment, "ours"), OfficialSessions(client, key, place, idle)
        yield Worker(queue, sessions, capacity=capacity, clock=clock, random=os.urandom)
    resolver.close()


class OurStage(Stage):
    """A stage whose worker is ours."""

    async def work(self, **options: Any) -> None:
        """Be our worker, for ever or until something goes wrong."""
        folder, book = Folder(self.workdir), options.pop("book", Book())
        async with worker(self.proxy.url, self.environment, self.key, folder, book, **options) as ours:
            try:
                await ours.take()
            finally:
                await ours.end()


class OurGround(Ground):
    """A ground whose stages have our worker."""

    @asynccontextmanager
    async def stage(self, *faults: Fault) -> AsyncIterator[Stage]:
        """See Ground."""
        async with super().stage(*faults) as stage:
            yield OurStage(**_fields(stage))


@asynccontextmanager
async def our_ground(folder: Path) -> AsyncIterator[OurGround]:
    """See `ground`."""
    async with ground(folder) as found:
        yield OurGround(**_fields(found))


def _fields(value: Ground | Stage) -> dict[str, Any]:
    return {each.name: getattr(value, each.name) for each in fields(value)}
