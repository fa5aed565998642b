"""The door: one port and one parser for everything that comes to the relay over HTTP.

It is uvicorn's httptools protocol with three additions: limits before anything else reads (heads, the time for them,
bodies by path; a refusal is sent, then the rest is read and discarded for 2 s so that it arrives), `/mcp/` is
answered from the parser's callbacks without ASGI, and an upgrade of `/connect` becomes a link on the same transport.
Everything else is the ASGI application. uvicorn asks of a request only what `McpRequest` has as well, so its own
pipelining, keep-alive and shutdown serve ours too; these inner names are why uvicorn is pinned, and
tests/contracts/test_door.py is what a newer one has to pass.

A client that closes its half of the connection has left: its call is cancelled.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Never

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from arrowslit.edge import guard
from arrowslit.edge.again import Again
from arrowslit.edge.auth import refuse_credential_in_url
from arrowslit.edge.head import Head
from arrowslit.edge.problem import Problem, as_error, mcp_problem, v1_problem
from arrowslit.edge.request import McpRequest
from arrowslit.edge.timer import Timer
from arrowslit.errors import Error
from arrowslit.principal import Principal
from arrowslit.tunnel import Headers

log = logging.getLogger(__name__)

HEAD_TIME = 10.0  # seconds to read a head, from its first byte or from the connection's start
BODY_TIME = 30.0
REFUSAL_TIME = 2.0  # what still comes after a refusal is read that long, so that the client sees it and not a reset
HEAD_LATE, BODY_LATE = "the head of a request took too long", "the body of a request took too long"
IDLE = "nothing was asked for long"
GUESS_TIME = 0.05  # until an answer to one who showed too many wrong credentials: guessing is to cost him, and not us
STEP = 4 * 1024  # bytes for the parser at a time: it says what it read, not where
READ_AHEAD = 64 * 1024  # bytes read behind a request that is being answered: enough to notice that its client left
MCP_BODY = 4 * 1024 * 1024
V1_BODY = 32 * 1024 * 1024
OTHER_BODY = 64 * 1024

Upgrade = Callable[[asyncio.Transport, bytes], None]
"""Takes over a transport, given the value of Sec-WebSocket-Key."""


@dataclass(frozen=True, slots=True)
class Gate:
    """What is behind the door. `identify` (credential, address) and `admit` (headers, address) raise Error."""

    identify: Callable[[str | None, str], Principal]
    mcp: Callable[[McpRequest], Coroutine[Any, Any, None]]
    admit: Callable[[Headers, str], Upgrade]
    rules: guard.Rules

    @classmethod
    def none(cls, rules: guard.Rules) -> Gate:
        """For a listener that has an application behind it and nothing else."""

        def nobody(*_: object) -> Never:
            raise Error("not_found", "there is nothing at this path", hint="try /healthz, /readyz or /metrics")

        return cls(nobody, nobody, nobody, rules)


_Cycle = McpRequest | RequestResponseCycle


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
        self._overhead = 0  # bytes since a request ended or a piece of a body came: fields, chunk sizes, blank lines
        self._said = b""  # what was read since the piece in which the head began
        self._ahead = 0  # bytes read while a request waits for its turn
        self._body_limit = OTHER_BODY
        self._body_length = 0  # as announced
        self._body_bytes = 0
        self._refused = False
        self._timer = Timer(self.loop, self._late)
        self._known: Head | None = None  # the last head at /mcp/ that was let in
        self._again = Again()
        self._between = True  # nothing of a request is read that is not read whole
        self._begun = 0  # requests, by the parser
        self._end: asyncio.TimerHandle | None = None  # of the connection
        self._unread: asyncio.TimerHandle | None = None  # runs while an answer of the application is not taken
        self._active: _Cycle | None = None  # the request that is being answered
        self._current: _Cycle | None = None  # the request that is being read, once its head is complete
        self._upgrade: Upgrade | None = None
        self._unwanted_upgrade = False

    def address(self, headers: guard.Fields) -> str:
        """The client's address, for limits."""
        return guard.client_address(self.client[0] if self.client else "", headers, self._gate.rules)

    # ------------------------------------------------------------ the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._timer.set(HEAD_TIME, HEAD_LATE)

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.close()
        self._is_read()
        if self._end is not None:
            self._end.cancel()
        active = self._active
        super().connection_lost(exc)
        if active is not None and not active.response_complete:
            active.disconnected = True
            if isinstance(active, McpRequest):
                if active.task is not None:
                    active.task.cancel()
            else:
                active.message_event.set()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._wait_for_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._is_read()

    def _wait_for_reader(self) -> None:
        """One that asks and does not read would hold the connection, and the answer, for as long as it likes.

        At `/mcp/` it is asked for before the next request, see `_takes_answers`.
        """
        if self._unread is None and self.flow.write_paused and isinstance(self._active, RequestResponseCycle):
            self._unread = self.loop.call_later(BODY_TIME, self.transport.abort)

    def _is_read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._ahead += len(data)
        known = self._again.read(data) if self._between else None
        if known is None:
            self._read(data)
        else:
            self._timer.clear()
            self._begin_mcp(McpRequest(self, known[0], True, known[1]))
        self._look_after()

    def _read(self, data: bytes) -> None:
        between, begun = self._between, self._begun
        self._parse(data)
        is_one = between and self._between and self._begun == begun + 1
        if is_one and self._known is not None and self.cycle.keep_alive:
            self._again.remember(data, self._known, self._body_length)

    def _look_after(self) -> None:
        """How much has been read, and whether to read on."""
        if self._refused or self._upgrade is not None:
            return
        if not self.pipeline:
            self._ahead = 0
        elif self._ahead > READ_AHEAD:
            self.flow.pause_reading()
        else:
            self.flow.resume_reading()  # uvicorn paused it, and would not notice a client that leaves

    def _parse(self, data: bytes) -> None:
        at = 0
        while at < len(data) and not self._refused:
            piece = data[at : at + self._step()]
            at += len(piece)
            self._overhead += len(piece)
            self._said = self._said + piece if self._in_head else piece
            try:
                self.parser.feed_data(piece)
                if self._overhead > guard.MAX_HEAD:
                    self._refuse(_head_too_large())
            except httptools.HttpParserUpgrade as upgrade:
                data, at = data[at - len(piece) + upgrade.args[0] :], 0
                if self._upgrade is not None:
                    self._hand_over(data)
                    return
                data = self._without_upgrade() + data
            except httptools.HttpParserCallbackError as error:
                self._refuse(_cause(error))
            except httptools.HttpParserError as error:
                self._refuse(Error("bad_http", f"not valid HTTP: {error}", hint="send HTTP/1.1 as RFC 9112 has it"))

    def _step(self) -> int:
        """How much the parser may read next: of what counts as a head no byte more than can be refused."""
        left = 0 if self._in_head else self._body_length - self._body_bytes
        return left if left > 0 else min(STEP, max(1, guard.MAX_HEAD - self._overhead))

    def _without_upgrade(self) -> bytes:
        """The head that was just read, as if it asked for no upgrade (RFC 9110, 7.8), and a parser to read it.

        After an upgrade the parser takes what follows for another protocol; but it is this request's body.
        """
        named = [token.strip() for name, value in self.headers if name == b"connection" for token in value.split(b",")]
        fields = [field for field in self.headers if field[0] not in (b"connection", b"upgrade")]
        fields += [(b"connection", token) for token in named if token.lower() not in (b"", b"upgrade")]
        start = b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        self.parser = httptools.HttpRequestParser(self)
        return start + b"".join(name + b": " + value + b"\r\n" for name, value in fields) + b"\r\n"

    # ------------------------------------------------------------ parser callbacks

    def on_message_begin(self) -> None:
        self.url, self.headers = b"", []
        self._in_head, self._body_length, self._body_bytes = True, 0, 0
        self._between = False
        self._begun += 1
        self._current = None
        self._unwanted_upgrade = False
        self._timer.set(HEAD_TIME, HEAD_LATE)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            raise Error("bad_http", "fields after the body are not accepted", hint="send them in the head")
        if len(self.headers) >= guard.MAX_FIELDS:
            raise _head_too_large()
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self._overhead > guard.MAX_HEAD:
            raise _head_too_large()
        method, version, known = self.parser.get_method(), self.parser.get_http_version(), self._known
        guard.check_protocol(method, self.url, self._said)
        if known is None or not known.says(method, self.url, version, self.headers):
            self._known = known = self._read_head(method, version)
            if known is None:  # not one at /mcp/
                return
        self._limit_body(MCP_BODY)
        self._in_head = False
        self._timer.set(BODY_TIME, BODY_LATE)
        request = McpRequest(self, known, known.version != "1.0" and self.parser.should_keep_alive())
        request.waiting_for_100_continue = known.expects_continue
        self._begin_mcp(request)

    def _read_head(self, method: bytes, version: str) -> Head | None:
        """Raises Error for a head that may not come in. None for one that is not for /mcp/, which is begun here."""
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > guard.MAX_HEAD:
            raise _head_too_large()
        guard.check(method, self.url, version, self.headers, self._gate.rules)
        path = self.url.partition(b"?")[0]
        if path == b"/connect":
            self._upgrade = self._admit(method, version)
            self._in_head = False
            return None
        if self.parser.should_upgrade():
            self._unwanted_upgrade = True  # read again, see _without_upgrade
            return None
        if _is_mcp(path):
            return Head.read(method, self.url, version, self.headers, self.address(self.headers))
        self._limit_body(V1_BODY if path.startswith(b"/v1/") else OTHER_BODY)
        self._in_head = False
        self._timer.set(BODY_TIME, BODY_LATE)
        self._begin_other()
        self._current = self.cycle
        return None

    def _limit_body(self, limit: int) -> None:
        """A body of this request has at most so many bytes. Raises Error if it says that it has more."""
        self._body_limit = limit
        self._body_length = int(guard.field(self.headers, b"content-length") or 0)
        if self._body_length > limit:
            raise _body_too_large(limit)

    def _begin_other(self) -> None:
        """Let uvicorn hear of the head from its beginning: only its own requests cost what it makes of them."""
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        for name, value in headers:
            super().on_header(name, value)
        if self._gate.rules.proxies:
            self.scope["client"] = (self.address(headers), 0)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._overhead = 0
        self._body_bytes += len(body)
        if self._body_bytes > self._body_limit:
            raise _body_too_large(self._body_limit)
        if isinstance(self.cycle, McpRequest):
            if self.cycle.refusal is None:
                self.cycle.pieces.append(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._overhead = 0
        if self._upgrade is not None or self._unwanted_upgrade:
            return
        self._timer.clear()
        self._between = True
        if isinstance(self.cycle, McpRequest):
            self.cycle.more_body = False
            if self._active is self.cycle:
                self._dispatch(self.cycle)
        else:
            super().on_message_complete()

    # ------------------------------------------------------------ requests at /mcp/

    def _begin_mcp(self, request: McpRequest) -> None:
        """Who sends this is known before its body is read: of nobody's body nothing is kept, and little is read."""
        head = request.known
        try:
            request.principal = self._gate.identify(head.credential, head.client) if head.refusal is None else None
            request.refusal = head.refusal
        except Error as error:
            request.refusal = error
        if request.refusal is not None:
            request.pieces.clear()
            self._body_limit = OTHER_BODY
            if request.more_body and self._body_length > OTHER_BODY:
                raise request.refusal
        before, self.cycle = self.cycle, request
        self._current = request
        if before is None or before.response_complete:
            self._start_asgi_task(request, self.app)
        else:
            request.waited = True
            self.pipeline.appendleft((request, self.app))  # type: ignore[arg-type]

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """uvicorn's word for: it is this request's turn."""
        self._active = cycle
        if not isinstance(cycle, McpRequest):
            self._wait_for_reader()
            super()._start_asgi_task(cycle, app)
        elif not cycle.more_body:
            self._dispatch(cycle)
        elif cycle.waiting_for_100_continue:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _dispatch(self, request: McpRequest) -> None:
        """Start a complete request, once in its life."""
        if request.task is None:
            request.task = task = self.loop.create_task(self._serve(request))
            self.tasks.add(task)

    async def _serve(self, request: McpRequest) -> None:
        try:
            if request.refusal is not None and request.refusal.code == "rate_limited":
                await asyncio.sleep(GUESS_TIME)
            if not self.flow.write_paused or await self._takes_answers(request):
                await self._gate.mcp(request)
        except Exception as failure:
            log.exception("an MCP request could not be answered")
            request.problem(mcp_problem(as_error(failure)))
        finally:
            if not request.response_complete and not self.transport.is_closing():
                request.abort()
            self.tasks.discard(request.task)

    async def _takes_answers(self, request: McpRequest) -> bool:
        """Whether the client reads on: one that sends requests and reads no answers would fill our memory with them."""
        try:
            request.waited = True
            async with asyncio.timeout(BODY_TIME):
                await request.drain()
        except TimeoutError:
            return False
        return True

    # ------------------------------------------------------------ connectors

    def _admit(self, method: bytes, version: str) -> Upgrade:
        refuse_credential_in_url(self.url.partition(b"?")[2].decode("latin-1"))
        upgrade = (guard.field(self.headers, b"upgrade") or b"").lower()
        if method != b"GET" or version != "1.1" or upgrade != b"websocket" or not self.parser.should_upgrade():
            raise Error("bad_http", "connectors come here with a WebSocket", hint="run: arrowslit connect")
        if (
            guard.field(self.headers, b"sec-websocket-version") != b"13"
            or not _is_nonce(self._key())
            or self._has_body()
        ):
            raise Error("bad_http", "not a valid WebSocket handshake (RFC 6455)", hint="run: arrowslit connect")
        headers = [(name.decode("latin-1"), value.strip().decode("latin-1")) for name, value in self.headers]
        return self._gate.admit(headers, self.address(self.headers))

    def _has_body(self) -> bool:
        length = guard.field(self.headers, b"content-length")
        return length not in (None, b"0") or guard.field(self.headers, b"transfer-encoding") is not None

    def _key(self) -> bytes:
        return guard.field(self.headers, b"sec-websocket-key") or b""

    def _hand_over(self, rest: bytes) -> None:
        """Give the transport away; no timer of ours may touch it afterwards."""
        assert self._upgrade is not None
        if rest or self._unanswered():
            self._refuse(Error("bad_http", "an upgrade stands alone on its connection", hint="wait for its answer"))
            return
        self._timer.close()
        self._is_read()
        self.connections.discard(self)
        self._upgrade(self.transport, self._key())

    # ------------------------------------------------------------ limits

    def _late(self, what: str) -> None:
        if what == IDLE:
            self.close_within()
        elif self.flow.read_paused:  # it is not the client that is slow
            self._timer.set(HEAD_TIME if what == HEAD_LATE else BODY_TIME, what)
        else:
            self._refuse(Error("request_timeout", what, hint="send a request in one go, once it is complete"))

    def _refuse(self, error: Error) -> None:
        """Say no to what is being read, take no more from this connection, and let the answer arrive.

        Answers keep their order: where earlier requests are still to be answered, or this one's answer has begun, the
        connection is closed behind the last of them, which says the same.
        """
        self._timer.close()
        self._refused = True
        if self.transport.is_closing():
            return
        self.flow.resume_reading()  # what still comes is discarded
        current = self._current
        earlier = [cycle for cycle in self._unanswered() if cycle is not current or _begun(cycle)]
        if earlier:
            earlier[-1].keep_alive = False
            return
        if current is None or not current.response_complete:
            self._say(mcp_problem(error) if self._at_mcp() else v1_problem(error))
        if isinstance(current, RequestResponseCycle):
            current.disconnected = True
            current.message_event.set()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._end = self.loop.call_later(REFUSAL_TIME, self.close_within)

    def _unanswered(self) -> list[_Cycle]:
        """The requests whose answers are not complete, in their order."""
        waiting: list[_Cycle] = [cycle for cycle, _ in reversed(self.pipeline)]
        active = self._active
        return waiting if active is None or active.response_complete else [active, *waiting]

    def _say(self, problem: Problem) -> None:
        lines = [STATUS_LINE[problem.status], *(f"{n}: {v}\r\n".encode("latin-1") for n, v in problem.headers)]
        lines.append(b"content-length: %d\r\nconnection: close\r\n\r\n" % len(problem.body))
        self.transport.write(b"".join(lines) + problem.body)

    def on_response_complete(self) -> None:
        """What uvicorn does here, with our timer, which may run already for the head that comes next."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif not self._timer.runs:
            self._timer.set(self.timeout_keep_alive, IDLE)

    def close_within(self, seconds: float = REFUSAL_TIME) -> None:
        """Close once everything has left, and then anyway: a client that reads nothing does not hold a connection."""
        if self.transport.is_closing():
            return
        self.transport.close()
        self._end = self.loop.call_later(seconds, self.transport.abort)

    def _at_mcp(self) -> bool:
        return _is_mcp(getattr(self, "url", b"").partition(b"?")[0])


def _is_mcp(path: bytes) -> bool:
    """Whether it is one of `/mcp/AGENT/SERVER`, or `/mcp` at the host name of a server."""
    return path == b"/mcp" or path.startswith(b"/mcp/")


def _begun(cycle: _Cycle) -> bool:
    return cycle.head_sent if isinstance(cycle, McpRequest) else cycle.response_started


def _head_too_large() -> Error:
    what = f"a head has at most {guard.MAX_HEAD} bytes and {guard.MAX_FIELDS} fields"
    return Error("header_too_large", what, hint="send fewer or shorter header fields")


def _body_too_large(limit: int) -> Error:
    return Error("payload_too_large", f"a body here has at most {limit} bytes", hint="send less at once")


def _is_nonce(key: bytes) -> bool:
    try:
        nonce = base64.b64decode(key, validate=True)
    except binascii.Error:
        return False
    return len(nonce) == 16 and base64.b64encode(nonce) == key  # some read other texts as the same bytes


def _cause(error: httptools.HttpParserCallbackError) -> Error:
    """What a callback raised. Anything but an Error is a defect of ours, and is logged as one."""
    cause = error.__context__
    if isinstance(cause, Error):
        return cause
    log.error("a request head could not be handled", exc_info=cause)
    return as_error(cause or error)
