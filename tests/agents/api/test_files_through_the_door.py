"""Files over a real connection: as large as they may be, with readers that are slow and clients that leave."""

from __future__ import annotations

import asyncio
import socket
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
import pytest_asyncio
from starlette.applications import Starlette

from arrowslit.file import MOST_BYTES
from arrowslit.store.open import Store
from tests.agents.api.delivered import Delivered, deliver
from tests.harness import PATIENCE
from tests.store.kit import ManualClock
from tests.support.front import Behind, listening
from tests.support.wire import until

PIECE = 64 * 1024
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Desk:
    """A tenant's client, where its files are, and the folder that they are in."""

    client: httpx2.AsyncClient
    place: Delivered
    port: int
    folder: Path

    @property
    def files(self) -> str:
        return self.place.files

    def head(self, method: str, path: str) -> bytes:
        """A request without its last line, for connections that are made by hand."""
        return f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {self.place.key}\r\n".encode()

    def arriving(self) -> list[Path]:
        return list(self.folder.glob("*.part")) if self.folder.is_dir() else []

    def open_files(self) -> list[str]:
        """What this process has open of the folder."""
        links = [each.readlink() for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
        return [str(each) for each in links if str(each).startswith(str(self.folder))]


@pytest_asyncio.fixture
async def desk(app: Starlette, store: Store, tmp_path: Path) -> AsyncIterator[Desk]:
    place, behind = await deliver(app, store), Behind()
    headers = {"authorization": f"Bearer {place.key}"}
    async with listening(behind.mcp, behind.admit, app) as front:
        address = f"http://127.0.0.1:{front.port}"
        async with httpx2.AsyncClient(base_url=address, headers=headers, trust_env=False) as client:
            yield Desk(client, place, front.port, tmp_path / "files")


async def pieces(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // PIECE):
        yield bytes(PIECE)


async def test_the_largest_file_passes_in_pieces_in_both_directions(desk: Desk) -> None:
    tracemalloc.start()
    put = await desk.client.post(f"{desk.files}?filename=a", content=pieces(MOST_BYTES))
    assert put.json()["size_bytes"] == MOST_BYTES
    size = 0
    async with desk.client.stream("GET", f"{desk.files}/{put.json()['id']}/content") as got:
        async for piece in got.aiter_raw():
            size += len(piece)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert size == MOST_BYTES
    assert peak < 6 * MIB  # of client and server together


async def test_a_byte_more_is_refused_and_the_client_hears_why(desk: Desk) -> None:
    async def one_more() -> AsyncIterator[bytes]:
        async for piece in pieces(MOST_BYTES):
            yield piece
        yield b"x"

    refused = await desk.client.post(f"{desk.files}?filename=a", content=one_more())
    assert (refused.status_code, refused.json()["error"]["details"]["error_code"]) == (413, "payload_too_large")
    await until(lambda: not desk.arriving())
    assert (await desk.client.get(desk.files)).json()["data"] == []


async def test_an_upload_whose_client_leaves_leaves_nothing(desk: Desk) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", desk.port)
    writer.write(desk.head("POST", f"{desk.files}?filename=a") + b"content-length: %d\r\n\r\n" % MIB + bytes(MIB // 2))
    await writer.drain()
    await until(lambda: bool(desk.arriving()))

    writer.transport.abort()

    await until(lambda: not desk.arriving())
    assert list(desk.folder.iterdir()) == []


async def test_a_download_whose_client_leaves_or_stands_still_is_let_go(desk: Desk) -> None:
    put = await desk.client.post(f"{desk.files}?filename=a", content=pieces(MOST_BYTES))
    path = f"{desk.files}/{put.json()['id']}"
    slow = socket.create_connection(("127.0.0.1", desk.port))
    slow.sendall(desk.head("GET", f"{path}/content") + b"\r\n")
    await until(lambda: bool(desk.open_files()))

    await desk.client.delete(path)  # who reads it may go on
    assert desk.open_files()
    slow.close()

    await until(lambda: not desk.open_files())


@pytest.mark.promise("P11")
async def test_who_may_no_longer_read_gets_no_more_of_a_file_and_keeps_none(
    desk: Desk, store: Store, clock: ManualClock
) -> None:
    put = await desk.client.post(f"{desk.files}?filename=a", content=pieces(MOST_BYTES))
    reader, writer = await asyncio.open_connection("127.0.0.1", desk.port)
    writer.write(desk.head("GET", f"{desk.files}/{put.json()['id']}/content") + b"\r\n")
    assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
    _, sender = await asyncio.open_connection("127.0.0.1", desk.port)
    sender.write(desk.head("POST", f"{desk.files}?filename=b") + b"content-length: 2\r\n\r\nx")
    await until(lambda: bool(desk.arriving()))

    await store.keys.revoke(desk.place.key_id)
    clock.turn(1)
    sender.write(b"x")

    async with asyncio.timeout(PATIENCE):
        assert len(await reader.read(-1)) < MOST_BYTES // 2
        await until(lambda: not desk.arriving())
    assert [file.name for file in await store.files.list(desk.place.session)] == ["a"]
    assert not desk.open_files()
    for each in (writer, sender):
        each.close()
