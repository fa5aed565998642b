from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from arrowslit.connector.targets.target import Lost
from arrowslit.connector.targets.upstream.connection import OVERHEAD_LIMIT, Connection, Head, Stale
from arrowslit.connector.targets.upstream.reading import HIGH_WATER, ask
from tests.connector.targets.scripted import WAIT, Line, Server, always, answer, serving

ASKING = b"POST /mcp HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n"


@asynccontextmanager
async def connected(server: Server) -> AsyncIterator[Connection]:
    """A connection to `server` that is gone afterwards."""
    alive: set[Connection] = set()
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(lambda: Connection(alive), "127.0.0.1", server.port)
    assert alive == {connection}
    try:
        yield connection
    finally:
        connection.abort()
        await connection.gone.wait()
        assert not alive


async def asked(connection: Connection, body: bytes = b"") -> tuple[Head, bytes]:
    """One whole exchange."""
    async with asyncio.timeout(WAIT):
        head, reading = await ask(connection, ASKING % len(body), body)
        pieces = []
        while piece := await reading.read():
            pieces.append(piece)
        return head, b"".join(pieces)


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "body", "kept"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", b"hello", True),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", b"", True),
        (CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", b"hello", True),
        (CHUNKED + b"2;name=value\r\nhe\r\n3\r\nllo\r\n0;end\r\nx-checksum: 1\r\n\r\n", b"hello", True),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", b"hello", False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello", b"hello", False),
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello", b"hello", False),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n", b"", True),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", b"hello", True),
        (b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + CHUNKED + b"0\r\n\r\n", b"", True),
    ],
)
async def test_a_body_ends_where_http_says_that_it_ends(sent: bytes, body: bytes, kept: bool) -> None:
    async def script(line: Line) -> None:
        await line.request()
        await line.send(sent)
        if kept:
            await line.closed_by_client()

    async with serving(script) as server, connected(server) as connection:
        head, got = await asked(connection)

        assert got == body
        assert "x-checksum" not in dict(head.headers)  # a trailer is no header
        assert connection.rest() is kept


async def test_the_head_of_an_interim_answer_is_not_the_head() -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nx-interim: 1\r\n\r\n"
    script = always(interim, answer(b"ok", "201 Created", "X-Own:  2 "))
    async with serving(script) as server, connected(server) as connection:
        head, _ = await asked(connection)

    assert head == Head(201, (("content-length", "2"), ("x-own", "2")), 2)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\ncontent-length: 0\n\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nname: a\x00b\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nname: a\r\n folded\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n", "transfer coding"),
        (b"HTTP/1.1 099 Odd\r\ncontent-length: 0\r\n\r\n", "status 99"),
        (b"HTTP/1.1 999 Odd\r\ncontent-length: 0\r\n\r\n", "status 999"),
        (b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n", "status 101"),
        (b"HTTP/1.1 200 OK\r\nlong: " + b"a" * OVERHEAD_LIMIT, "more than 64 KiB"),
        (b"HTTP/1.1 200 OK\r\n" + b"name: value\r\n" * 6000 + b"content-length: 0\r\n\r\n", "more than 64 KiB"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 4000, "more than 64 KiB"),
        (CHUNKED + b"1\r\na\r\n0\r\n" + b"x-trailer: 1\r\n" * 30_000, "more than 64 KiB"),
        (CHUNKED + b"1;" + b"a" * 70_000, "more than 64 KiB"),
        (b"", "closed the connection before it answered"),
        (b"HTTP/1.1 200 OK\r\ncontent-len", "closed the connection before it answered"),
    ],
)
async def test_what_is_no_answer_is_told_apart_by_its_reason(sent: bytes, reason: str) -> None:
    async def script(line: Line) -> None:
        await line.request()
        await line.send(sent)
        if "closed" not in reason:
            await line.closed_by_client()

    async with serving(script) as server, connected(server) as connection:
        with pytest.raises(Lost, match=reason):
            await asked(connection)

        assert not connection.rest()


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello",
        CHUNKED + b"5\r\nhello\r\n",
        CHUNKED + b"5\r\nhello\r\nnonsense\r\n",
    ],
)
async def test_what_arrived_of_a_broken_body_is_read_before_the_loss_is_told(sent: bytes) -> None:
    async def script(line: Line) -> None:
        await line.request()
        await line.send(sent)

    async with serving(script) as server, connected(server) as connection, asyncio.timeout(WAIT):
        _, reading = await ask(connection, ASKING % 0, b"")

        assert await reading.read() == b"hello"
        with pytest.raises(Lost):
            await reading.read()


async def test_a_kept_connection_that_closes_without_a_word_is_stale_and_a_new_one_is_lost() -> None:
    async def script(line: Line) -> None:
        if (await line.request()).body == b"first":
            await line.send(answer(b"ok"))
            await line.request()

    async with serving(script) as server:
        async with connected(server) as connection:
            with pytest.raises(Lost) as lost:
                await asked(connection, b"only")
            assert not isinstance(lost.value, Stale)

        async with connected(server) as connection:
            assert connection.rest()  # kept, though nothing was asked yet
            with pytest.raises(Stale):
                await asked(connection, b"only")

        async with connected(server) as connection:
            await asked(connection, b"first")
            assert connection.rest()
            with pytest.raises(Stale):
                await asked(connection, b"second")


async def test_half_a_word_on_a_kept_connection_is_an_answer_that_was_lost() -> None:
    async def script(line: Line) -> None:
        await line.request()
        await line.send(answer(b"ok"))
        await line.request()
        await line.send(b"HTTP/1.1 200 OK\r\n")

    async with serving(script) as server, connected(server) as connection:
        await asked(connection)
        assert connection.rest()
        with pytest.raises(Lost) as lost:
            await asked(connection)

    assert not isinstance(lost.value, Stale)


@pytest.mark.promise("P5")
@pytest.mark.parametrize("surplus", [answer(b"for somebody else"), b"HTTP/1.1 2", b"\r\n\r\nxx"])
async def test_a_connection_with_more_than_one_answer_carries_no_other_exchange(surplus: bytes) -> None:
    async with serving(always(answer(b"mine") + surplus)) as server, connected(server) as connection:
        _, body = await asked(connection)

        assert body == b"mine"
        assert not connection.rest()


@pytest.mark.promise("P5")
async def test_words_that_nobody_asked_for_close_an_idle_connection() -> None:
    async def script(line: Line) -> None:
        await line.request()
        await line.send(answer(b"mine"))
        await rested.wait()
        await line.send(answer(b"for somebody else"))
        await line.closed_by_client()

    rested = asyncio.Event()
    async with serving(script) as server, connected(server) as connection:
        await asked(connection)
        assert connection.rest()
        rested.set()
        async with asyncio.timeout(WAIT):
            await connection.gone.wait()

        assert not connection.usable


async def test_an_answer_that_comes_before_the_request_was_taken_is_heard() -> None:
    async def script(line: Line) -> None:
        await line.reader.readuntil(b"\r\n\r\n")
        await line.send(answer(b"too large", "413 Content Too Large"))
        await heard.wait()

    heard = asyncio.Event()
    async with serving(script) as server, connected(server) as connection:
        head, body = await asked(connection, b"x" * (16 << 20))
        heard.set()

        assert (head.status, body) == (413, b"too large")
        assert not connection.rest()  # the server still waits for the rest of the request


class Pipe(asyncio.Transport):
    """A transport that remembers when it was asked to read no more, and again."""

    def __init__(self) -> None:
        super().__init__()
        self.switched: list[str] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def abort(self) -> None:
        self.switched.append("abort")

    def is_closing(self) -> bool:
        return "abort" in self.switched

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self.switched.append("pause")

    def resume_reading(self) -> None:
        self.switched.append("resume")


@pytest.mark.promise("P15")
async def test_reading_pauses_while_enough_waits_to_be_read() -> None:
    connection, pipe = Connection(set()), Pipe()
    connection.connection_made(pipe)
    asking = asyncio.create_task(ask(connection, ASKING % 0, b""))
    await asyncio.sleep(0)

    connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (3 * HIGH_WATER + 1))
    _, reading = await asking
    connection.data_received(b"a" * HIGH_WATER)
    assert pipe.switched == []
    connection.data_received(b"b")
    assert pipe.switched == ["pause"]
    connection.data_received(b"c" * (2 * HIGH_WATER - 1))  # was already on its way
    assert pipe.switched == ["pause"]

    assert len(await reading.read()) == 3 * HIGH_WATER
    assert pipe.switched == ["pause", "resume"]
    connection.data_received(b"d")
    assert await reading.read() == b"d"
    assert await reading.read() == b""
    assert connection.rest()


async def test_an_answer_with_the_head_of_the_last_one_is_told_like_any_other() -> None:
    """Its head is known again by its bytes: what is not exactly that goes through the parser."""
    head = b"HTTP/1.1 200 OK\r\nX-Own: 1\r\ncontent-length: 3\r\n\r\n"
    answers = [
        (head + b"one", b"one"),
        (head + b"two", b"two"),
        (head.replace(b"3", b"4") + b"four", b"four"),
        (head.replace(b"X-Own: 1", b"X-Own: 2") + b"six", b"six"),
        (head + b"end", b"end"),
    ]
    connection, pipe = Connection(set()), Pipe()
    connection.connection_made(pipe)
    for sent, body in answers:
        asking = asyncio.create_task(asked(connection))
        await asyncio.sleep(0)
        connection.data_received(sent)
        told, got = await asking
        assert (got, told.status, told.length) == (body, 200, len(body))
        assert dict(told.headers)["x-own"] == ("2" if body == b"six" else "1")
        assert connection.rest()

    for cut in (1, len(head) - 1, len(head), len(head) + 1):
        asking = asyncio.create_task(asked(connection))
        await asyncio.sleep(0)
        connection.data_received((head + b"cut")[:cut])
        connection.data_received((head + b"cut")[cut:])
        assert (await asking)[1] == b"cut"
        assert connection.rest()


@pytest.mark.promise("P5")
async def test_a_known_head_with_more_than_its_answer_is_two_answers() -> None:
    whole = answer(b"one")
    connection, pipe = Connection(set()), Pipe()
    connection.connection_made(pipe)
    for surplus, kept in ((b"", True), (whole, False)):
        asking = asyncio.create_task(asked(connection))
        await asyncio.sleep(0)
        connection.data_received(whole + surplus)
        assert (await asking)[1] == b"one"
        assert connection.rest() is kept
