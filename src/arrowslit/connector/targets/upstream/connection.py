"""Connection: one HTTP/1.1 connection to an upstream server, as a client; it carries one exchange after the other.

The bytes of an answer are parsed as they arrive and told to whoever asked, at once and without a task. A server mostly
gives the same head with each of its answers: one that was parsed before is known by its bytes.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol, cast

import httptools

from arrowslit.connector.targets.target import Lost

OVERHEAD_LIMIT = 64 * 1024  # bytes of a response's head, and of anything else between the pieces of its body
WORTH_A_COPY = 32 * 1024  # bytes of a request body that is joined to its head: one buffer to write instead of two

_LONG = f"more than {OVERHEAD_LIMIT // 1024} KiB of head or trailers in the target's answer"


class Stage(Enum):
    """Where a connection is in its exchange: IDLE → ASKED → ANSWERING → COMPLETE → IDLE."""

    IDLE = auto()  # nothing was asked, and nothing may arrive
    ASKED = auto()  # a request was written, the head of its answer is not here
    ANSWERING = auto()  # the head is here, the body is not complete
    COMPLETE = auto()  # all has arrived


class Stale(Lost):
    """A kept connection was closed and said nothing about the request: most likely, not certainly, nobody saw it."""


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a final response: status 200 to 599, all fields, and the length of the body if it was announced."""

    status: int
    headers: tuple[tuple[str, str], ...]
    length: int | None


class Hearer(Protocol):
    """Who asked over a connection. The last it is told is either an answer that has `ended`, or that it is `lost`."""

    def heard(self, head: Head | None, data: bytes, ended: bool) -> None:
        """What one read brought: the head, once, with whatever came of the body, and whether that was the rest."""
        ...

    def lost(self, error: Lost) -> None:
        """No more of the answer will come. Stale where a connection that had been kept ended before any byte of it."""
        ...


class Connection(asyncio.Protocol):
    """One connection. Its owner calls `ask`, and `rest` when the answer has ended or is wanted no more: from then on
    nothing is told of it.

    It adds itself to `alive` once it is connected and leaves it when it is gone.
    """

    __slots__ = (
        "_alive",
        "_begun",
        "_delimited",
        "_fields",
        "_head",
        "_head_size",
        "_heard",
        "_hearer",
        "_keep_alive",
        "_kept",
        "_known",
        "_lost",
        "_overhead",
        "_parser",
        "_paused",
        "_pieces",
        "_stage",
        "_transport",
        "gone",
        "idle_since",
    )

    def __init__(self, alive: set[Connection]) -> None:
        self.idle_since = 0.0  # the owner's to write
        self._alive = alive
        self.gone = asyncio.Event()
        self._transport: asyncio.Transport
        self._parser = httptools.HttpResponseParser(self)
        self._hearer: Hearer | None = None  # until it was told the last
        self._lost: str | None = None  # why nothing more will arrive
        self._kept = False  # it was idle before this exchange
        self._paused = False
        self._known: tuple[bytes, Head] | None = None  # the last head that came with its whole body
        self._stage = Stage.IDLE
        self._prepare()

    def _prepare(self) -> None:
        self._head: Head | None = None  # until it was told
        self._fields: list[tuple[str, str]] = []
        self._head_size = 0  # of fields
        self._overhead = 0  # of reads in a row that brought nothing of a body
        self._begun = 0  # heads, interim ones too
        self._heard = False
        self._delimited = True  # the head says how to find the end of the body; else it is the end of the connection
        self._keep_alive = False
        self._pieces: list[bytes] = []

    # ------------------------------------------------------------ what its owner calls

    @property
    def usable(self) -> bool:
        """Whether a request may be written, as far as this side has heard."""
        return self._stage is Stage.IDLE and self._lost is None and not self._transport.is_closing()

    def ask(self, head: bytes, body: bytes, hearer: Hearer) -> None:
        """Write one request; `hearer` is told of its answer, and nothing before this returns."""
        assert self._stage is Stage.IDLE
        self._stage = Stage.ASKED
        self._hearer = hearer
        if len(body) < WORTH_A_COPY:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))

    def pause(self) -> None:
        """Whoever asked wants no more for now: the server is told to wait, by TCP. What is under way still comes."""
        if not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """It wants more again."""
        if self._paused:
            self._paused = False
            self._transport.resume_reading()

    def rest(self) -> bool:
        """Let go, and be ready for the next exchange. False if this connection cannot carry one: the last is not
        complete, the server said that it would close, sent more than one answer, or has not taken the whole request.
        """
        self._hearer = None
        self._kept = True
        if self._stage is Stage.COMPLETE and self._keep_alive and not self._transport.get_write_buffer_size():
            self._stage = Stage.IDLE
            self.resume()
            if self._heard:
                self._prepare()
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
        if self._known is not None and not self._heard and self._hearer is not None:
            raw, head = self._known
            if data.startswith(raw) and len(data) - len(raw) == head.length:  # the whole answer, and nothing else
                self._stage, self._keep_alive = Stage.COMPLETE, True
                self._tell(self._hearer, head, data[len(raw) :], ended=True)
                return
        self._parse(data)

    def _parse(self, data: bytes) -> None:
        first, self._heard = not self._heard, True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            self._break(str(error.__context__))
        except httptools.HttpParserError as error:
            self._break(f"the target answered something that is not HTTP/1.1: {error}")
        self._overhead = 0 if self._pieces else self._overhead + len(data)
        if self._overhead > OVERHEAD_LIMIT and self._stage is not Stage.COMPLETE:
            self._break(_LONG)
        if first and self._stage is Stage.COMPLETE and self._keep_alive and self._begun == 1 and self._lost is None:
            self._know(data)
        self._news()

    def _know(self, data: bytes) -> None:
        """An answer came at once: its head will be known again. One whose body is not counted in bytes is none."""
        raw = data[: data.find(b"\r\n\r\n") + 4]
        if self._head is not None and self._head.length == len(data) - len(raw):
            self._known = (raw, self._head)

    def eof_received(self) -> None:
        if self._stage is Stage.ANSWERING and not self._delimited:
            self._stage = Stage.COMPLETE
            self._news()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._lost is None:
            how = "the target closed the connection" if exc is None else f"the connection to the target broke: {exc}"
            early = self._stage is Stage.ASKED
            self._lost = how + (" before it answered" if early else " in the middle of its answer")
        self._alive.discard(self)
        self.gone.set()
        self._tell_loss()

    # ------------------------------------------------------------ what the parser calls

    def on_message_begin(self) -> None:
        if self._stage is Stage.COMPLETE:
            raise ValueError("the target gave two answers")
        self._begun += 1

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
        self._head = Head(status, tuple(self._fields), None if length is None else int(length))
        self._stage = Stage.ANSWERING

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        if self._stage is Stage.ANSWERING:
            self._stage = Stage.COMPLETE
            self._keep_alive = self._parser.should_keep_alive()

    # ------------------------------------------------------------

    def _news(self) -> None:
        """Tell what has arrived since the last time, and whether it was the last."""
        head, self._head = self._head, None
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        ended = self._stage is Stage.COMPLETE
        if self._hearer is not None and (head is not None or body or ended):
            self._tell(self._hearer, head, body, ended=ended)
        if self._lost is not None:
            self._tell_loss()

    def _tell(self, hearer: Hearer, head: Head | None, body: bytes, *, ended: bool) -> None:
        if ended:
            self._hearer = None
        hearer.heard(head, body, ended)

    def _tell_loss(self) -> None:
        hearer, self._hearer = self._hearer, None
        if hearer is not None and self._lost is not None:
            hearer.lost(Lost(self._lost) if self._heard or not self._kept else Stale(self._lost))

    def _break(self, reason: str) -> None:
        """Nothing more is wanted from this connection."""
        if self._lost is None:
            self._lost = reason
        self._transport.abort()
