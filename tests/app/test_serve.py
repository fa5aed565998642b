"""The listeners of a relay, a connector and a worker: each is behind the same guard."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from arrowslit.app import serve
from arrowslit.app.config import Listen
from arrowslit.edge import door
from tests.harness import PATIENCE
from tests.support.wire import Wire, dial, request

WEBSOCKET = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


async def alive(_: Request) -> PlainTextResponse:
    return PlainTextResponse("alive")


@pytest_asyncio.fixture
async def health(unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """The port of a health listener, where seconds of the head are hundredths."""
    monkeypatch.setattr(door, "HEAD_TIME", 0.1)
    app = Starlette(routes=[Route("/healthz", alive)])
    running = asyncio.create_task(serve.serve_health(app, Listen("127.0.0.1", unused_tcp_port)))
    async with asyncio.timeout(PATIENCE):
        while not running.done():
            with contextlib.suppress(ConnectionRefusedError):
                async with dial(unused_tcp_port) as wire:
                    await _said(wire, request("GET", "/healthz"))
                break
            await asyncio.sleep(0)
    yield unused_tcp_port
    running.cancel()
    await asyncio.wait([running])


async def _said(wire: Wire, said: bytes) -> int:
    await wire.send(said)
    return (await wire.answer()).status


async def test_who_asks_by_a_name_of_this_machine_is_answered(health: int) -> None:
    async with dial(health) as wire:
        for host in ("localhost", f"127.0.0.1:{health}", "[::1]"):
            assert await _said(wire, request("GET", "/healthz", host=host)) == 200


REFUSED = {
    "a name that was rebound": (request("GET", "/healthz", host="evil.example"), 421),
    "a page of another origin": (request("GET", "/healthz", headers=("Origin: https://evil.example",)), 403),
    "a second Host": (request("GET", "/healthz", headers=("Host: localhost",)), 400),
    "an absolute target": (request("GET", "http://localhost/healthz"), 400),
    "a long head": (request("GET", "/healthz", headers=("X: " + "x" * 17 * 1024,)), 431),
    "a long body": (request("GET", "/healthz", headers=("Content-Length: 70000",)), 413),
    "an MCP endpoint": (request("POST", "/mcp/stock/inventory", b"{}"), 404),
    "a connector": (request("GET", "/connect", headers=WEBSOCKET), 404),
    "half a head": (b"GET /healthz HTTP/1.1\r\nHost: local", 408),
    "nothing": (b"", 408),
}


@pytest.mark.parametrize(("said", "status"), REFUSED.values(), ids=REFUSED.keys())
async def test_the_guard_stands_before_a_health_port_too(health: int, said: bytes, status: int) -> None:
    async with dial(health) as wire:
        assert await _said(wire, said) == status
    async with dial(health) as wire:
        assert await _said(wire, request("GET", "/healthz")) == 200
