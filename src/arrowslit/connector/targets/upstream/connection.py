"""Connection: one HTTP/1.1 connection to an upstream server, as a client; it carries one exchange after the other.

The bytes of an answer are parsed as they arrive and wait here for the one coroutine that reads them: whole answers cost
it one future, and a server is told to wait (by TCP) when its reader is slow.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import Enum, auto
from typing import cast

import httptools

from arrowslit.connector.targets.target import Lost
from arrowslit.tunnel import Headers

OVERHEAD_LIMIT = 64 * 1024  # bytes of a response's head, and of anything else between the pieces of its body
HIGH_WATER = 64 * 1024  # bytes of a body that may wait here before reading from the socket pauses
WORTH_A_COPY = 32 * 1024  # bytes of a request body that is joined to its head: one buffer to write instead of two

_LONG = f"more than {OVERHEAD_LIMIT // 1024} KiB of head or trailers in the target's answer"


class Stage(Enum):
    """Where a connection is in its exchange: IDLE → ASKED → ANSWERING → COMPLETE → IDLE."""

    IDLE = auto()  # nothing was asked, and nothing may arrive
    ASKED = auto()  # a request was written, the head of its answer is not here
    ANSWERING = auto()  # the head is here, the body is not complete
    COMPLETE = auto()  # all has arrived; some of it may wait to be read


class Stale(Lost):
    """A kept connection was closed and said nothing about the request: most likely, not certainly, nobody saw it."""


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a final response: status 200 to 599, all fields, and the length of the body if it was announced."""

    status: int
    headers: Headers
    length: int | None


class Connection(asyncio.Protocol):
    """One connection. Its owner calls `ask`, then `read` until it returns nothing, then `rest` or `abort`.

    It adds itself to `alive` once it is connected and leaves it when it is gone.
    """

    __slots__ = (
        "_alive",
        "_buffered",
        "_delimited",
        "_fields",
        "_head",
        "_head_size",
        "_heard",
        "_keep_alive",
        "_kept",
        "_loop",
        "_lost",
        "_overhead",
        "_parser",
        "_paused",
        "_pieces",
        "_stage",
        "_transport",
        "_waiter",
        "gone",
        "idle_since",
    )

    def __init__(self, alive: set[Connection]) -> None:
        self.idle_since = 0.0  # the owner's to write
        self._alive = alive
        self._loop = asyncio.get_running_loop()
        self.gone = asyncio.Event()
        self._transport: asyncio.Transport
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[None] | None = None
        self._lost: str | None = None  # why nothing more will arrive
        self._kept = False  # it was idle before this exchange
        self._stage = Stage.IDLE
        self._prepare()

    def _prepare(self) -> None:
        self._head: Head | None = None
        self._fields: list[tuple[str, str]] = []
        self._head_size = 0  # of fields
        self._overhead = 0  # of reads in a row that brought nothing of a body
        self._heard = False
        self._delimited = True  # the head says how to find the end of the body; else it is the end of the connection
        self._keep_alive = False
        self._pieces: list[bytes] = []
        self._buffered = 0
        self._paused = False

    # ------------------------------------------------------------ what its owner calls

    @property
    def usable(self) -> bool:
        """Whether a request may be written, as far as this side has heard."""
        return self._stage is Stage.IDLE and self._lost is None and not self._transport.is_closing()

    async def ask(self, head: bytes, body: bytes) -> Head:
        """Write one request and return the head of its answer; the first byte is written before this awaits anything.

        Raises Lost when the connection ends before, or what comes is no HTTP/1.1; Stale where that happened to a
        connection that had been kept, before any byte of an answer.
        """
        assert self.usable
        self._stage = Stage.ASKED
        if len(body) < WORTH_A_COPY:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))
        while self._head is None:
            if self._lost is not None:
                raise Lost(self._lost) if self._heard or not self._kept else Stale(self._lost)
            await self._news()
        return self._head

    async def read(self) -> bytes:
        """What has arrived of the body since the last time, waiting for some; empty at its end.

        Raises Lost when the connection ended before the body did, after everything that did arrive was returned.
        """
        while not self._pieces:
            if self._stage is Stage.COMPLETE:
                return b""
            if self._lost is not None:
                raise Lost(self._lost)
            await self._news()
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._buffered = 0
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        return data

    def rest(self) -> bool:
        """Be ready for the next exchange. False if this connection cannot carry one: the last is not complete, the
        server said that it would close, sent more than one answer, has not taken the whole request, or nobody has read
        the whole answer.
        """
        taken = not self._pieces and not self._transport.get_write_buffer_size()
        if self._stage is Stage.COMPLETE and self._keep_alive and taken:
            self._stage = Stage.IDLE
            self._prepare()
        self._kept = True
        return self.usable

    def abort(self) -> None:
        """Close without sending what was not sent. The other side sees a client that hung up."""
        self._transport.abort()

    # ------------------------------------------------------------ what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._alive.add(self)

    def data_received(self, data: bytes) -> None:
        if self._stage is Stage.IDLE:
            self._break("the target spoke without being asked")
            return
        self._heard = True
        before = self._buffered
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            self._break(str(error.__context__))
        except httptools.HttpParserError as error:
            self._break(f"the target answered something that is not HTTP/1.1: {error}")
        self._overhead = 0 if self._buffered > before else self._overhead + len(data)
        if self._overhead > OVERHEAD_LIMIT and self._stage is not Stage.COMPLETE:
            self._break(_LONG)
        if self._buffered > HIGH_WATER and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        if self._stage is Stage.ANSWERING and not self._delimited:
            self._stage = Stage.COMPLETE
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._lost is None:
            how = "the target closed the connection" if exc is None else f"the connection to the target broke: {exc}"
            self._lost = how + (" before it answered" if self._head is None else " in the middle of its answer")
        self._alive.discard(self)
        self.gone.set()
        self._wake()

    # ------------------------------------------------------------ what the parser calls

    def on_message_begin(self) -> None:
        if self._stage is Stage.COMPLETE:
            raise ValueError("the target gave two answers")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._stage is Stage.ASKED:  # later ones are trailers
            self._head_size += len(name) + len(value) + 4
            if self._head_size > OVERHEAD_LIMIT:
                raise ValueError(_LONG)
            self._fields.append((name.decode("latin-1").lower(), value.decode("latin-1").strip()))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if 100 <= status <= 199 and status != 101:
            self._fields = []
            return
        fields = dict(self._fields)
        coding, length = fields.get("transfer-encoding"), fields.get("content-length")
        if not 200 <= status <= 599:
            raise ValueError(f"the target answered with status {status}")
        if coding is not None and coding.lower() != "chunked":
            raise ValueError(f"the target answered with a transfer coding that nobody asked for: {coding[:40]}")
        self._delimited = coding is not None or length is not None
        self._head = Head(status, self._fields, None if length is None else int(length))
        self._stage = Stage.ANSWERING

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)
        self._buffered += len(body)

    def on_message_complete(self) -> None:
        if self._stage is Stage.ANSWERING:
            self._stage = Stage.COMPLETE
            self._keep_alive = self._parser.should_keep_alive()

    # ------------------------------------------------------------

    async def _news(self) -> None:
        """Wait until something arrived, or nothing more will."""
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _break(self, reason: str) -> None:
        """Nothing more is wanted from this connection."""
        if self._lost is None:
            self._lost = reason
        self._transport.abort()
