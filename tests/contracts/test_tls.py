"""The door behind TLS, as `--tls-cert` puts it there: there is no half-close, and what is refused still arrives."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from arrowslit.edge import door as door_module
from tests.cli import certificates
from tests.support.front import Behind, Front, fronted
from tests.support.wire import dial, request, until

MIB = 1024 * 1024


@pytest.fixture
def behind() -> Behind:
    return Behind()


@pytest.fixture
def issued(tmp_path: Path) -> certificates.Issued:
    return certificates.issue(tmp_path, "localhost")


@pytest_asyncio.fixture
async def front(behind: Behind, issued: certificates.Issued) -> AsyncIterator[Front]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(issued.cert, issued.key)
    async with fronted(behind, tls=context) as front:
        yield front


@pytest.fixture
def trusting(issued: certificates.Issued) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(issued.authority))
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # the default from Python 3.13: about authorities, not about us
    return context


async def test_both_kinds_of_traffic_pass(front: Front, trusting: ssl.SSLContext) -> None:
    async with dial(front.port, tls=trusting) as wire:
        for path in ("/mcp/echo", "/v1/echo", "/mcp/echo"):
            await wire.send(request("POST", path, b"x" * 100_000))
            echoed = (await wire.answer()).json
            assert (echoed["path"], echoed["body"]) == (path, "x" * 100_000)


@pytest.mark.parametrize("path", ["/mcp/echo", "/v1/echo"])
async def test_a_refusal_arrives_and_the_connection_is_closed(
    front: Front, trusting: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    for limit in ("MCP_BODY", "V1_BODY"):
        monkeypatch.setattr(door_module, limit, MIB)
    monkeypatch.setattr(door_module, "REFUSAL_TIME", 0.5)
    async with dial(front.port, tls=trusting) as wire:
        whole = request("POST", path, b"x" * 8 * MIB)
        for at in range(0, len(whole), MIB):  # all of it, before it looks for an answer
            await wire.send(whole[at : at + MIB])
        answer = await wire.answer()
        assert (answer.status, answer.code) == (413, "payload_too_large")
        assert await wire.rest() == b""
    await until(lambda: not front.state.connections)


@pytest.mark.parametrize("leave", ["close", "reset"])
async def test_a_call_is_cancelled_at_once_when_its_client_leaves(
    front: Front, behind: Behind, trusting: ssl.SSLContext, leave: str
) -> None:
    async with dial(front.port, tls=trusting) as wire:
        await wire.send(request("POST", "/mcp/slow"))
        await behind.begins("/mcp/slow")
        if leave == "reset":
            wire.reset()
        else:
            wire.writer.close()
        await until(lambda: behind.cancelled == ["/mcp/slow"])
        await until(lambda: not front.state.connections)


async def test_a_slow_reader_fills_no_memory(front: Front, behind: Behind, trusting: ssl.SSLContext) -> None:
    piece = b"x" * 32 * 1024
    for _ in range(512):
        behind.pieces.put_nowait(piece)
    behind.pieces.put_nowait(None)
    async with dial(front.port, tls=trusting, receive_buffer=8 * 1024) as wire:
        await wire.send(request("GET", "/mcp/stream"))
        await wire.head()
        connection = front.connection
        await until(lambda: connection.flow.write_paused)
        assert connection.transport.get_write_buffer_size() < MIB
        size = 0
        while chunk := await wire.chunk():
            size += len(chunk)
        assert size == 512 * len(piece)
