"""A Door on a free port of the loopback interface, in the test's own loop, with whatever a test puts behind it."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from uvicorn.config import Config
from uvicorn.server import ServerState

from arrowslit.edge import guard
from arrowslit.edge.door import Door, Gate, Upgrade
from arrowslit.edge.request import McpRequest
from arrowslit.errors import Error
from arrowslit.principal import Principal, Scope
from arrowslit.tunnel import Headers
from tests.support.wire import until


@dataclass(slots=True)
class Behind:
    """What is behind the door of these tests: at `/mcp/` and at `/v1/` the same simple things, by the last segment.

    `echo` answers with path and body, `slow` does so once `go` is set, `stream` sends what `pieces` holds.
    """

    started: list[str] = field(default_factory=list)
    waited: list[bool] = field(default_factory=list)
    """Of those that were started at `/mcp/`, whether they had to wait."""
    cancelled: list[str] = field(default_factory=list)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    pieces: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)
    upgraded: list[asyncio.Transport] = field(default_factory=list)
    taken: int = 0
    """Bytes of a stream that the door took."""

    async def begins(self, path: str) -> None:
        """Return once the request that was started last is the one at `path`."""
        await until(lambda: self.started[-1:] == [path])

    async def mcp(self, request: McpRequest) -> None:
        """The MCP side."""
        self.started.append(request.path)
        self.waited.append(request.waited)
        try:
            await self._mcp(request)
        except asyncio.CancelledError:
            self.cancelled.append(request.path)
            raise

    async def _mcp(self, request: McpRequest) -> None:
        match request.path.rpartition("/")[2]:
            case "stream":
                request.head(200, [("content-type", "text/event-stream")])
                while (piece := await self.pieces.get()) is not None:
                    request.piece(piece)
                    await request.drain()
                    self.taken += len(piece)
                request.end()
                return
            case "raise":
                raise RuntimeError("a defect behind the door")
            case "forget":
                return
            case status if status.isdecimal():
                request.whole(int(status), [("content-type", "text/plain")], b"HTTP/1.1 200 OK\r\n\r\nnot an answer")
                return
            case "slow":
                await self.go.wait()
            case "late":  # has something to say after all, as an endpoint may when it is cancelled
                try:
                    await self.go.wait()
                except asyncio.CancelledError:
                    request.whole(200, [], b"too late")
                    raise
        body = json.dumps({"path": request.path, "body": request.body.decode()}).encode()
        request.whole(200, [("content-type", "application/json")], body)

    def app(self) -> Starlette:
        """The rest of the house."""

        async def other(request: Request) -> JSONResponse:
            self.started.append(request.url.path)
            try:
                if request.url.path.endswith("deaf"):
                    return JSONResponse({"refused": "before anything was read"}, 401)
                body = (await request.body()).decode()
                if request.url.path.endswith("slow"):
                    await self.go.wait()
            except ClientDisconnect:
                self.cancelled.append(request.url.path)
                raise
            return JSONResponse({"path": request.url.path, "body": body, "fields": len(request.headers)})

        return Starlette(routes=[Route("/{rest:path}", other, methods=["GET", "POST"])])

    def admit(self, headers: Headers, address: str) -> Upgrade:
        """Whoever knows the word may open a link; it is a transport that says `LINK` and echoes."""
        if ("authorization", "Bearer connector") not in headers:
            raise Error("connector_unauthenticated", "this token opens no tunnel", hint="make one")
        return self._take_over

    def _take_over(self, transport: asyncio.Transport, key: bytes) -> None:
        self.upgraded.append(transport)
        transport.set_protocol(_Echo(transport))
        transport.write(b"LINK")


class _Echo(asyncio.Protocol):
    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


@dataclass(slots=True)
class Front:
    """A listener that is open. `state.tasks` and `state.connections` are uvicorn's books."""

    port: int
    state: ServerState

    @property
    def connection(self) -> Door:
        """The only connection there is."""
        (connection,) = self.state.connections
        assert isinstance(connection, Door)
        return connection


def anybody(_credential: str | None, _address: str) -> Principal:
    """Whoever it is may come in: what is tested here is behind that."""
    return Principal("key_anybody", None, frozenset({Scope.INVOKE}))


@asynccontextmanager
async def listening(
    mcp: Callable[[McpRequest], Coroutine[Any, Any, None]],
    admit: Callable[[Headers, str], Upgrade],
    app: Any,
    *,
    identify: Callable[[str | None, str], Principal] = anybody,
    rules: guard.Rules | None = None,
    keep_alive: float = 75,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Front]:
    """Listen. Whatever is open at the end is cut off."""
    config = Config(
        app,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=keep_alive,  # type: ignore[arg-type]  # uvicorn hands it to call_later
    )
    state, gate = ServerState(), Gate(identify, mcp, admit, rules or guard.Rules())
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Door(config, state, {}, loop, gate=gate), "127.0.0.1", 0, ssl=tls)
    try:
        yield Front(server.sockets[0].getsockname()[1], state)
    finally:
        server.close()
        for connection in list(state.connections):
            connection.transport.abort()
        for task in list(state.tasks):
            task.cancel()
        await asyncio.gather(*state.tasks, return_exceptions=True)


@asynccontextmanager
async def fronted(behind: Behind, *, keep_alive: float = 75, tls: ssl.SSLContext | None = None) -> AsyncIterator[Front]:
    """A listener with `behind` behind it."""
    async with listening(behind.mcp, behind.admit, behind.app(), keep_alive=keep_alive, tls=tls) as front:
        yield front
        for transport in behind.upgraded:
            transport.abort()
