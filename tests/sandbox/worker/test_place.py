"""A place whose sandboxes the test can take away, block and count."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

from arrowslit.clock import SystemClock
from arrowslit.errors import Error
from arrowslit.ledger.chain import seal
from arrowslit.record import Fields
from arrowslit.sandbox.egress.resolver import SystemResolver
from arrowslit.sandbox.files import Shelved
from arrowslit.sandbox.isolation.isolation import Command, Ended, Isolation, Sandbox, Why
from arrowslit.sandbox.journal import JSON, Courier, Journal, Taking
from arrowslit.sandbox.place import PROXY, Place, Surroundings, open_place
from arrowslit.sandbox.tools.tool import Block, Tool, ToolError, text
from tests.sandbox.worker.ours import Book

PATIENCE = 5.0


class Box:
    """A sandbox."""

    def __init__(self, listener: socket.socket | None, began: asyncio.Event) -> None:
        self.listener = listener
        self.began = began
        self.alive = True
        self.closed = asyncio.Event()

    async def run(self, _command: Command) -> AsyncGenerator[Ended, None]:
        """See Sandbox: there are no outputs."""
        yield Ended(why=Why.EXIT, status=1)

    async def close(self) -> None:
        """See Sandbox."""
        self.alive = False
        self.closed.set()
        if self.listener is not None:
            self.listener.close()


class Boxes:
    """An isolation."""

    def __init__(self) -> None:
        self.made: list[Box] = []
        self.refuses: Error | None = None
        self.began = asyncio.Event()

    async def open(self, _session: str, *, listen: int | None = None) -> Box:
        """See Isolation."""
        if self.refuses is not None:
            raise self.refuses
        listener = None if listen is None else socket.create_server(("127.0.0.1", 0))
        self.made.append(Box(listener, self.began))
        return self.made[-1]


class Bash:
    """A tool that does as it is told."""

    name = "bash"
    input_schema: Mapping[str, object] = {}

    def __init__(self, box: Box, environment: Mapping[str, str]) -> None:
        self._box = box
        self._environment = environment

    async def call(self, input: Mapping[str, object]) -> Sequence[Block]:
        """See Tool."""
        match input["command"]:
            case "wait":
                self._box.began.set()
                await self._box.closed.wait()
                raise Error("sandbox_ended", "the sandbox ended while bash ran")
            case "fail":
                raise ToolError("no")
            case "die":
                await self._box.close()
                raise Error("sandbox_ended", "the sandbox ended while bash ran")
        return text(self._environment.get("http_proxy", "no way out"))

    async def close(self) -> None:
        """See Tool."""


class Empty:
    """A shelf."""

    async def list(self) -> Sequence[Shelved]:
        """See Shelf."""
        return []

    async def read(self, file_id: str, size: int) -> bytes:
        """See Shelf."""
        raise Error("file_not_found", "no")

    async def put(self, name: str, content: bytes) -> str:
        """See Shelf."""
        raise Error("quota_exceeded", "no")


@asynccontextmanager
async def place(boxes: Boxes, book: Book, *, egress: bool = False) -> AsyncIterator[Place]:
    """A place, recorded in a book."""
    clock, resolver = SystemClock(), SystemResolver()

    def make(sandbox: Sandbox, environment: Mapping[str, str]) -> Sequence[Tool]:
        return [Bash(cast(Box, sandbox), environment)]

    async def send(_: Sequence[JSON]) -> None:
        """Everything arrives."""

    around = Surroundings(
        isolation=cast(Isolation, boxes), rules=(), egress=egress, resolve=resolver, make_tools=make, clock=clock
    )
    courier = Courier(seal, send, Taking(), clock)
    journal = Journal(book, {"session": "sesn_1"}, courier)
    async with open_place("sesn_1", around, journal, courier, Empty(), Taking("files")) as found:
        yield found
    resolver.close()
    assert not any(box.alive for box in boxes.made)


async def bash(where: Place, command: str) -> tuple[str, bool]:
    """What bash says, and whether that is an error."""
    answer = await where.call("bash", {"command": command})
    return str(answer.blocks[0]["text"]), answer.is_error


async def begun(boxes: Boxes) -> None:
    """Once a call runs."""
    async with asyncio.timeout(PATIENCE):
        await boxes.began.wait()


def ends(book: Book) -> list[Any]:
    """How the executions in a book ended."""
    return [fields["ended"] for kind, fields in book.records if kind == "execution"]


async def test_a_sandbox_is_opened_for_the_first_call_and_kept_for_the_others() -> None:
    boxes, book = Boxes(), Book()
    async with place(boxes, book) as where:
        assert not boxes.made
        assert await bash(where, "x") == ("no way out", False)
        assert await bash(where, "fail") == ("no", True)

    assert len(boxes.made) == 1
    assert ends(book) == ["ok", "error"]


async def test_a_sandbox_that_died_in_a_call_or_between_two_is_replaced() -> None:
    boxes, book = Boxes(), Book()
    async with place(boxes, book) as where:
        assert await bash(where, "die") == ("bash: the sandbox ended while bash ran", True)
        assert await bash(where, "x") == ("no way out", False)
        await boxes.made[-1].close()
        assert await bash(where, "x") == ("no way out", False)

    assert len(boxes.made) == 3
    assert ends(book) == ["sandbox_ended", "ok", "ok"]


async def test_a_call_for_which_there_is_no_sandbox_is_answered() -> None:
    boxes, book = Boxes(), Book()
    boxes.refuses = Error("sandbox_unavailable", "no room")
    async with place(boxes, book) as where:
        assert await bash(where, "x") == ("bash: no room", True)
        boxes.refuses = None
        assert await bash(where, "x") == ("no way out", False)

    assert ends(book) == ["sandbox_unavailable", "ok"]


async def test_closing_ends_the_call_that_runs_and_no_sandbox_is_opened_any_more() -> None:
    boxes, book = Boxes(), Book()
    async with place(boxes, book) as where:
        running = asyncio.create_task(bash(where, "wait"))
        await begun(boxes)
        await where.close()
        said, failed = await running
        assert failed
        assert "unknown" in said
        assert (await bash(where, "x"))[1]

    assert len(boxes.made) == 1
    assert ends(book) == ["stopped", "stopped"]


async def test_a_call_that_is_given_up_is_recorded_all_the_same() -> None:
    boxes, book = Boxes(), Book()
    async with place(boxes, book) as where:
        running = asyncio.create_task(bash(where, "wait"))
        await begun(boxes)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    assert ends(book) == ["cancelled"]


class NoEgress(Book):
    """A ledger in which no attempt to get out fits."""

    async def append(self, kind: str, fields: Fields) -> int:
        """See Ledger."""
        if kind == "egress":
            raise Error("ledger_unavailable", "the disk is full")
        return await super().append(kind, fields)


async def test_what_tries_to_get_out_is_recorded_or_ends_the_sandbox() -> None:
    for book, alive in ((Book(), True), (NoEgress(), False)):
        boxes = Boxes()
        async with place(boxes, book, egress=True) as where:
            assert await bash(where, "x") == (PROXY, False)
            (box,) = boxes.made
            assert box.listener is not None
            reader, writer = await asyncio.open_connection(*box.listener.getsockname())
            writer.write(b"GET http://no.test/ HTTP/1.1\r\nHost: no.test\r\n\r\n")
            async with asyncio.timeout(PATIENCE):
                assert b"403" in await reader.readline()
                writer.close()
                if not alive:
                    await box.closed.wait()
            assert box.alive == alive
        assert [fields["host"] for kind, fields in book.records if kind == "egress"] == ["no.test"] * alive
