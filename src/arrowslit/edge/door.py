"""The door: one port and one parser for everything that comes to the relay over HTTP.

It is uvicorn's httptools protocol with three additions: limits before anything else reads (heads, the time for them,
bodies by path; a refusal is sent, then the rest is read and discarded for 2 s so that it arrives), `/mcp/` is
answered from the parser's callbacks without ASGI, and an upgrade of `/connect` becomes a link on the same transport.
Everything else is the ASGI application. uvicorn asks of a request only what `_Turn` declares, so its own pipelining,
keep-alive and shutdown serve ours too; these inner names are why uvicorn is pinned, and tests/contracts/test_door.py
is what a newer one has to pass.

A client that closes its half of the connection has left: its call is cancelled.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Union

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from arrowslit.edge import guard
from arrowslit.edge.problem import Problem, mcp_problem, v1_problem
from arrowslit.errors import Error
from arrowslit.tunnel import Headers

log = logging.getLogger(__name__)

HEAD_TIME = 10.0  # seconds to read a head, from its first byte or from the connection's start
BODY_TIME = 30.0
REFUSAL_TIME = 2.0  # what still comes after a refusal is read that long, so that the client sees it and not a reset
MCP_BODY = 4 * 1024 * 1024
V1_BODY = 32 * 1024 * 1024
OTHER_BODY = 64 * 1024

Upgrade = Callable[[asyncio.Transport, bytes], None]
"""Takes over a transport, given the value of Sec-WebSocket-Key."""


@dataclass(frozen=True, slots=True)
class Gate:
    """What is behind the door: the MCP endpoint, and who admits connectors (raises Error, or returns what takes
    over).
    """

    mcp: Callable[[McpRequest], Coroutine[Any, Any, None]]
    admit: Callable[[Headers, str], Upgrade]
    rules: guard.Rules


_Cycle = Union["McpRequest", RequestResponseCycle]


class _InertEvent:
    """uvicorn sets a request's event again when the connection is lost; to ours that means nothing."""

    def set(self) -> None:
        return


class McpRequest:
    """One request at `/mcp/`, complete, and the Answer to it. What uvicorn calls a cycle."""

    message_event = _InertEvent()

    def __init__(
        self, door: Door, method: str, target: bytes, headers: guard.Fields, keep_alive: bool, old: bool
    ) -> None:
        self.method = method
        path, _, query = target.partition(b"?")
        self.path = path.decode("latin-1")
        self.query = query.decode("latin-1")
        self.headers: Headers = [(name.decode("latin-1"), value.strip().decode("latin-1")) for name, value in headers]
        self.client = door.address(headers)
        self.body = bytearray()
        self.more_body = True
        self.task: asyncio.Task[None] | None = None
        self.head_sent = False
        # what uvicorn reads and writes
        self.response_complete = False
        self.disconnected = False
        self.keep_alive = keep_alive
        self._door = door
        self._old = old  # HTTP/1.0: no chunks, the end of the connection ends the body
        self._chunked = False
        self._out: list[bytes] = []
        self._flush_due = False

    # ------------------------------------------------------------ Answer

    def head(self, status: int, headers: Headers) -> None:
        """See Answer. Without a content-length the body is sent in chunks."""
        if self.head_sent or self.response_complete:
            return
        self.head_sent = True
        lines = [STATUS_LINE[status]]
        lines += [name + b": " + value + b"\r\n" for name, value in self._door.server_state.default_headers]
        lines += [f"{name}: {value}\r\n".encode("latin-1") for name, value in headers]
        sized = any(name == "content-length" for name, _ in headers)
        if not sized and status not in (204, 304):
            self._chunked = not self._old
            self.keep_alive = self.keep_alive and self._chunked
            lines += [b"transfer-encoding: chunked\r\n"] if self._chunked else []
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        self._write(b"".join(lines))

    def piece(self, data: bytes) -> None:
        """See Answer."""
        if data and not self.response_complete:
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
            self._door.transport.close()
        self._door.on_response_complete()

    def abort(self) -> None:
        """See Answer."""
        if not self.response_complete:
            self._flush()
            self.response_complete = True
            self.keep_alive = False
            self._door.transport.close()

    async def drain(self) -> None:
        """See Answer."""
        flow: FlowControl = self._door.flow
        if flow.write_paused and not self.disconnected:
            self._flush()
            await flow.drain()

    def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """Answer with a complete body."""
        self.head(status, [*headers, ("content-length", str(len(body)))])
        self.piece(body)
        self.end()

    def problem(self, problem: Problem) -> None:
        """Answer with an error; on an answer that has begun, break it off."""
        if self.head_sent:
            self.abort()
        else:
            self.whole(problem.status, problem.headers, problem.body)

    def _write(self, data: bytes) -> None:
        """Let head, pieces and end of one tick leave as one write."""
        self._out.append(data)
        if not self._flush_due:
            self._flush_due = True
            self._door.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        transport = self._door.transport
        if self._out and not transport.is_closing():
            transport.write(b"".join(self._out))
        self._out.clear()


class Door(HttpToolsProtocol):
    """See the module. One instance is one connection."""

    cycle: Any  # the newest request: a RequestResponseCycle of uvicorn, or an McpRequest

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        gate: Gate,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._gate = gate
        self._in_head = True
        self._head_bytes = 0
        self._body_limit = OTHER_BODY
        self._body_bytes = 0
        self._refused = False
        self._timer: asyncio.TimerHandle | None = None
        self._active: _Cycle | None = None  # the request that is being answered
        self._upgrade: Upgrade | None = None

    def address(self, headers: guard.Fields) -> str:
        """The client's address, for limits."""
        return guard.client_address(self.client[0] if self.client else "", headers, self._gate.rules)

    # ------------------------------------------------------------ the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._arm(HEAD_TIME, "the head of a request took too long")

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        active = self._active
        super().connection_lost(exc)
        if active is not None and not active.response_complete:
            active.disconnected = True
            if isinstance(active, McpRequest):
                if active.task is not None:
                    active.task.cancel()
            else:
                active.message_event.set()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._unset_keepalive_if_required()
        while data:
            if self._in_head:
                self._head_bytes += len(data)
            try:
                self.parser.feed_data(data)
                data = b""
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
                if self._upgrade is not None:
                    self._hand_over(data)
                    return
            except httptools.HttpParserCallbackError as error:
                self._refuse(_cause(error))
                return
            except httptools.HttpParserError as error:
                self._refuse(Error("bad_http", f"not valid HTTP: {error}"))
                return
        if self._in_head and self._head_bytes > guard.MAX_HEAD:
            self._refuse(_head_too_large())

    # ------------------------------------------------------------ parser callbacks

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes, self._body_bytes = True, 0, 0
        self._arm(HEAD_TIME, "the head of a request took too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self.headers) >= guard.MAX_FIELDS:
            raise _head_too_large()
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > guard.MAX_HEAD:
            raise _head_too_large()
        method, version = self.parser.get_method(), self.parser.get_http_version()
        guard.check(method, self.url, version, self.headers, self._gate.rules)
        path = self.url.partition(b"?")[0]
        if path == b"/connect":
            self._upgrade = self._admit(method)
            self._in_head = False
            return
        self._body_limit = _body_limit(path)
        length = guard.field(self.headers, b"content-length")
        if length is not None and int(length) > self._body_limit:
            raise _body_too_large(self._body_limit)
        if path.startswith(b"/mcp/"):
            self._begin_mcp(method.decode("ascii"), version)
        else:
            super().on_headers_complete()
        self._in_head = False
        self._arm(BODY_TIME, "the body of a request took too long")

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > self._body_limit:
            raise _body_too_large(self._body_limit)
        if isinstance(self.cycle, McpRequest):
            self.cycle.body += body
        elif self._upgrade is None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._disarm()
        if self._upgrade is not None:
            return
        if isinstance(self.cycle, McpRequest):
            self.cycle.more_body = False
            if self._active is self.cycle:
                self._dispatch(self.cycle)
        else:
            super().on_message_complete()

    # ------------------------------------------------------------ requests at /mcp/

    def _begin_mcp(self, method: str, version: str) -> None:
        keep_alive = version != "1.0" and self.parser.should_keep_alive()
        request = McpRequest(self, method, self.url, self.headers, keep_alive, version == "1.0")
        before = self.cycle
        self.cycle = request
        if before is None or before.response_complete:
            self._active = request
            if self.expect_100_continue:
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((request, self.app))  # type: ignore[arg-type]

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """uvicorn's word for: it is this request's turn."""
        self._active = cycle
        if isinstance(cycle, McpRequest):
            if not cycle.more_body:
                self._dispatch(cycle)
        else:
            super()._start_asgi_task(cycle, app)

    def _dispatch(self, request: McpRequest) -> None:
        """Start a complete request, once in its life."""
        if request.task is None:
            request.task = task = self.loop.create_task(self._serve(request))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _serve(self, request: McpRequest) -> None:
        try:
            await self._gate.mcp(request)
        except Exception:
            log.exception("an MCP request could not be answered")
            request.problem(mcp_problem(Error("internal_error", "the relay failed; its log says why")))
        finally:
            if not request.response_complete and not self.transport.is_closing():
                request.abort()

    # ------------------------------------------------------------ connectors

    def _admit(self, method: bytes) -> Upgrade:
        if method != b"GET" or (guard.field(self.headers, b"upgrade") or b"").lower() != b"websocket":
            raise Error("bad_http", "connectors come here with a WebSocket", hint="run: arrowslit connect")
        if guard.field(self.headers, b"sec-websocket-version") != b"13" or not _is_nonce(self._key()):
            raise Error("bad_http", "not a valid WebSocket handshake (RFC 6455)")
        headers = [(name.decode("latin-1"), value.strip().decode("latin-1")) for name, value in self.headers]
        return self._gate.admit(headers, self.address(self.headers))

    def _key(self) -> bytes:
        return guard.field(self.headers, b"sec-websocket-key") or b""

    def _hand_over(self, rest: bytes) -> None:
        """Give the transport away; no timer of ours may touch it afterwards."""
        assert self._upgrade is not None
        busy = self.cycle is not None and not self.cycle.response_complete
        if rest or busy:
            self._refuse(Error("bad_http", "nothing may be sent before the upgrade is answered"))
            return
        self._disarm()
        self._unset_keepalive_if_required()
        self.connections.discard(self)
        self._upgrade(self.transport, self._key())

    # ------------------------------------------------------------ limits

    def _arm(self, seconds: float, why: str) -> None:
        self._disarm()
        self._timer = self.loop.call_later(seconds, self._too_slow, why)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self, why: str) -> None:
        self._timer = None
        if self._active is not None and not self._active.response_complete and self._active is not self.cycle:
            return  # a pipelined request waits behind one that is being answered: nothing is read meanwhile
        self._refuse(Error("request_timeout", why))

    def _refuse(self, error: Error) -> None:
        """Say no, take no more requests from this connection, and let the answer arrive."""
        self._disarm()
        self._unset_keepalive_if_required()
        self._refused = True
        busy = self._active
        if (
            busy is not None
            and not busy.response_complete
            and (self._in_head or busy is not self.cycle or _begun(busy))
        ):
            busy.keep_alive = False  # an earlier request is being answered; this one will see the connection close
            return
        if isinstance(busy, RequestResponseCycle) and not busy.response_complete:
            busy.disconnected = True
            busy.message_event.set()
        if self.transport.is_closing():
            return
        problem = mcp_problem(error) if self._at_mcp() else v1_problem(error)
        lines = [STATUS_LINE[problem.status], *(f"{n}: {v}\r\n".encode("latin-1") for n, v in problem.headers)]
        lines.append(b"content-length: %d\r\nconnection: close\r\n\r\n" % len(problem.body))
        self.transport.write(b"".join(lines) + problem.body)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(REFUSAL_TIME, self.transport.close)

    def _at_mcp(self) -> bool:
        return bool(getattr(self, "url", b"").startswith(b"/mcp/"))


def _begun(cycle: _Cycle) -> bool:
    return cycle.head_sent if isinstance(cycle, McpRequest) else cycle.response_started


def _body_limit(path: bytes) -> int:
    if path.startswith(b"/mcp/"):
        return MCP_BODY
    return V1_BODY if path.startswith(b"/v1/") else OTHER_BODY


def _head_too_large() -> Error:
    return Error("header_too_large", f"a head has at most {guard.MAX_HEAD} bytes and {guard.MAX_FIELDS} fields")


def _body_too_large(limit: int) -> Error:
    return Error("payload_too_large", f"a body here has at most {limit} bytes")


def _is_nonce(key: bytes) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except binascii.Error:
        return False


def _cause(error: httptools.HttpParserCallbackError) -> Error:
    """What a callback raised. Anything but an Error is a defect of ours, and is logged as one."""
    cause = error.__context__
    if isinstance(cause, Error):
        return cause
    log.error("a request head could not be handled", exc_info=cause)
    return Error("internal_error", "the relay failed; its log says why")
