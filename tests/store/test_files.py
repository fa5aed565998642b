from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from arrowslit.errors import Error
from arrowslit.file import MOST_BYTES, File, Purpose
from arrowslit.store.open import Store
from tests.harness import PATIENCE
from tests.store.kit import ManualClock, batch, opened, session

MIB = 1024 * 1024


async def bytes_of(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def add(store: Store, name: str = "a", content: bytes = b"x", purpose: Purpose = Purpose.INPUT) -> File:
    return await store.files.add("sesn_1", name, purpose, "text/csv", bytes_of(content))


async def content_of(store: Store, file: File) -> bytes:
    _, content = await store.files.open(file.session_id, file.id)
    try:
        return b"".join([piece async for piece in _pieces(content.read)])
    finally:
        content.close()


async def _pieces(read: object) -> AsyncIterator[bytes]:
    assert callable(read)
    while piece := await read():
        yield piece


async def test_a_file_is_the_same_after_reopening(tmp_path: Path, clock: ManualClock) -> None:
    async with opened(tmp_path, clock) as store:
        await store.sessions.create(batch(session(), 0))
        file = await add(store, "data/a.csv", b"1,2")

    async with opened(tmp_path, clock) as store:
        assert list(await store.files.list("sesn_1")) == [file]
        assert await content_of(store, file) == b"1,2"


async def test_files_are_kept_in_either_database(either: Store) -> None:
    await either.sessions.create(batch(session(), 0))
    first, other = await add(either, "a"), await add(either, "a", purpose=Purpose.OUTPUT)
    second = await add(either, "a", b"yy")

    assert {file.id for file in await either.files.list("sesn_1")} == {other.id, second.id}
    with pytest.raises(Error):
        await either.files.read("sesn_1", first.id)
    await either.files.delete("sesn_1", other.id)
    await either.sessions.delete("sesn_1")
    assert await either.files.list("sesn_1") == []


async def test_bytes_are_for_their_owner_alone(store: Store, tmp_path: Path) -> None:
    await store.sessions.create(batch(session(), 0))
    file = await add(store)

    assert (tmp_path / "files").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "files" / file.id).stat().st_mode & 0o777 == 0o600


async def test_a_file_that_is_being_read_is_read_to_its_end_though_it_is_deleted(store: Store) -> None:
    await store.sessions.create(batch(session(), 0))
    file = await add(store, content=bytes(MIB))
    _, content = await store.files.open("sesn_1", file.id)
    first = await content.read()

    await store.files.delete("sesn_1", file.id)

    size = len(first)
    while piece := await content.read():
        size += len(piece)
    content.close()
    assert size == MIB


async def test_a_large_file_takes_little_memory_in_and_out(store: Store) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(MOST_BYTES // (64 * 1024)):
            yield bytes(64 * 1024)

    await store.sessions.create(batch(session(), 0))
    tracemalloc.start()
    file = await store.files.add("sesn_1", "a", Purpose.INPUT, "text/csv", pieces())
    _, content = await store.files.open("sesn_1", file.id)
    read = 0
    while piece := await content.read():
        read += len(piece)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    content.close()

    assert read == file.size == MOST_BYTES
    assert peak < 4 * MIB


async def test_what_breaks_off_leaves_nothing(store: Store, tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield bytes(MIB)
        raise ConnectionResetError

    await store.sessions.create(batch(session(), 0))
    with pytest.raises(ConnectionResetError):
        await store.files.add("sesn_1", "a", Purpose.INPUT, "text/csv", broken())

    assert await store.files.list("sesn_1") == []
    assert list((tmp_path / "files").iterdir()) == []


async def test_files_that_arrive_at_once_do_not_fill_the_disk_before_they_are_refused(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arrowslit.store.files.SESSION_BYTES", MIB)
    monkeypatch.setattr("arrowslit.store.files.MOST_BYTES", MIB)
    await store.sessions.create(batch(session(), 0))
    go_on = asyncio.Event()
    arrived = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal arrived
        arrived += MIB // 2
        yield bytes(MIB // 2)
        await go_on.wait()

    adding = [
        asyncio.create_task(store.files.add("sesn_1", str(number), Purpose.INPUT, "text/csv", pieces()))
        for number in range(8)
    ]
    refused: set[asyncio.Task[File]] = set()
    async with asyncio.timeout(PATIENCE):
        while len(refused) < 4:
            done, _ = await asyncio.wait(set(adding) - refused, return_when=asyncio.FIRST_COMPLETED)
            refused |= done
    assert {getattr(task.exception(), "code", None) for task in refused} == {"quota_exceeded"}
    assert arrived == 4 * MIB
    assert sum(path.stat().st_size for path in (tmp_path / "files").iterdir()) <= 2 * MIB

    go_on.set()
    await asyncio.gather(*adding, return_exceptions=True)
    assert sum(file.size for file in await store.files.list("sesn_1")) == MIB
    assert len(list((tmp_path / "files").iterdir())) == 2


async def test_a_file_for_a_session_that_is_deleted_meanwhile_is_not_kept(store: Store, tmp_path: Path) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"x"
        await store.sessions.delete("sesn_1")

    await store.sessions.create(batch(session(), 0))
    with pytest.raises(Error) as refused:
        await store.files.add("sesn_1", "a", Purpose.INPUT, "text/csv", pieces())

    assert refused.value.code == "session_not_found"
    assert list((tmp_path / "files").iterdir()) == []


async def test_what_a_process_left_behind_that_died_is_swept_away_at_the_next_start(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with opened(tmp_path, clock) as store:
        await store.sessions.create(batch(session(), 0))
        file = await add(store)
    for left in ("file_1.part", "file_2"):
        (tmp_path / "files" / left).write_bytes(b"x")

    async with opened(tmp_path, clock):
        assert [path.name for path in (tmp_path / "files").iterdir()] == [file.id]


async def test_bytes_that_are_lost_are_a_file_that_is_not_there(store: Store, tmp_path: Path) -> None:
    await store.sessions.create(batch(session(), 0))
    file = await add(store)
    (tmp_path / "files" / file.id).unlink()

    with pytest.raises(Error) as refused:
        await store.files.open("sesn_1", file.id)

    assert refused.value.code == "file_not_found"


async def test_nobody_gets_at_a_file_through_another_session(store: Store) -> None:
    for number in (1, 2):
        await store.sessions.create(batch(session(number), 0))
    file = await add(store)

    for attempt in (store.files.read, store.files.open, store.files.delete):
        with pytest.raises(Error) as refused:
            await attempt("sesn_2", file.id)
        assert refused.value.code == "file_not_found"
    assert await content_of(store, file) == b"x"
