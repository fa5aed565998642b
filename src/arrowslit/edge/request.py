"""A request at `/mcp/`, complete, and the answer to it: what uvicorn calls a cycle."""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import TYPE_CHECKING

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from arrowslit.edge.head import Head
from arrowslit.edge.problem import Problem
from arrowslit.errors import Error
from arrowslit.principal import Principal
from arrowslit.tunnel import Headers

if TYPE_CHECKING:
    from arrowslit.edge.door import Door


ONE_WRITE = 64 * 1024  # bytes that are gathered before they are written
_BODILESS = (204, 304)


class _InertEvent:
    """uvicorn sets a request's event again when the connection is lost; to ours that means nothing."""

    def set(self) -> None:
        return


class McpRequest:
    """One request at `/mcp/`, complete, and the Answer to it. What uvicorn calls a cycle."""

    message_event = _InertEvent()

    def __init__(self, door: Door, head: Head, keep_alive: bool, body: bytes | None = None) -> None:
        """`body` if it is there whole; otherwise its pieces are still to come."""
        self.known = head
        self.method = head.method
        self.path = head.path
        self.headers = head.headers
        self.principal: Principal | None = None  # one of these two is set by the door
        self.refusal: Error | None = None
        self.pieces = [] if body is None else [body]
        self.more_body = self.waited = body is None  # since it was known who sends it
        self.waiting_for_100_continue = False
        self.task: asyncio.Task[None] | None = None
        self.head_sent = False
        # what uvicorn reads and writes
        self.response_complete = False
        self.disconnected = False
        self.keep_alive = keep_alive
        self._door = door
        self._old = head.version == "1.0"  # no chunks, the end of the connection ends the body
        self._chunked = False
        self._bodiless = head.method == "HEAD"  # RFC 9112, 6.3: a body would be taken for the next answer
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._flush_due = False

    @property
    def body(self) -> bytes:
        """What has come of the body."""
        return b"".join(self.pieces)

    def caller(self) -> Principal:
        """Who sends this. Raises the Error of whoever is nobody."""
        if self.principal is None:
            raise self.refusal or Error("unauthenticated", "nobody was asked who this is")
        return self.principal

    # ------------------------------------------------------------ Answer

    def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """See Answer."""
        if self.head_sent or self.response_complete:
            return
        if self._bodiless or not self.keep_alive or status in _BODILESS:
            self.head(status, [*headers, ("content-length", str(len(body)))])
            self.piece(body)
            self.end()
            return
        self.head_sent = self.response_complete = True
        door = self._door
        if not door.transport.is_closing():
            fields = _always(door) + _lines(headers)
            door.transport.write(b"%b%bcontent-length: %d\r\n\r\n%b" % (STATUS_LINE[status], fields, len(body), body))
        door.on_response_complete()

    def head(self, status: int, headers: Headers) -> None:
        """See Answer. Without a content-length the body is sent in chunks."""
        if self.head_sent or self.response_complete:
            return
        self.head_sent = True
        if status in _BODILESS:
            self._bodiless = True
            headers = [field for field in headers if field[0] != "content-length"]
        lines = [STATUS_LINE[status], _always(self._door), _lines(headers)]
        announced = "content-length" in [name for name, _ in headers]
        if not announced and not self._bodiless:
            self._chunked = not self._old
            self.keep_alive = self.keep_alive and self._chunked
            lines += [b"transfer-encoding: chunked\r\n"] if self._chunked else []
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        self._flush_due = announced  # of a body with a known length all is there, and its end is what flushes
        self._write(b"".join(lines))

    def piece(self, data: bytes) -> None:
        """See Answer."""
        if data and not self.response_complete and not self._bodiless:
            self._write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def end(self) -> None:
        """See Answer."""
        if self.response_complete:
            return
        if self._chunked:
            self._out.append(b"0\r\n\r\n")
        self._flush()
        self.response_complete = True
        if not self.keep_alive:
            self._door.close_within(self._door.timeout_keep_alive)
        self._door.on_response_complete()

    def abort(self) -> None:
        """See Answer."""
        if not self.response_complete:
            self._flush()
            self.response_complete = True
            self.keep_alive = False
            self._door.close_within()

    async def drain(self) -> None:
        """See Answer."""
        flow: FlowControl = self._door.flow
        if self._out_bytes > ONE_WRITE:
            self._flush()
        if flow.write_paused and not self.disconnected:
            self._flush()
            await flow.drain()

    def problem(self, problem: Problem) -> None:
        """Answer with an error; on an answer that has begun, break it off."""
        if self.head_sent:
            self.abort()
        else:
            self.whole(problem.status, problem.headers, problem.body)

    def _write(self, data: bytes) -> None:
        """Let head, pieces and end of one tick leave as one write."""
        self._out.append(data)
        self._out_bytes += len(data)
        if not self._flush_due:
            self._flush_due = True
            self._door.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        transport = self._door.transport
        if self._out and not transport.is_closing():
            transport.write(b"".join(self._out))
        self._out.clear()
        self._out_bytes = 0


def _always(door: Door) -> bytes:
    """The lines that stand in every answer."""
    always = door.server_state.default_headers
    return b"".join([name + b": " + value + b"\r\n" for name, value in always]) if always else b""


def _lines(headers: Headers) -> bytes:
    """Fields as they travel. A tuple of them is one that comes again."""
    return _lines_again(headers) if type(headers) is tuple else _written(headers)


def _written(headers: Headers) -> bytes:
    return "".join([f"{name}: {value}\r\n" for name, value in headers]).encode("latin-1")


_lines_again = lru_cache(maxsize=256)(_written)
