"""The files of sessions: rows in the database, bytes in a folder; the port Files.

Bytes are in the folder before there is a row, and the row goes before they do: what a row names is there. Bytes that
nothing names any more are swept away at the next start.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Row, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from arrowslit.clock import Clock
from arrowslit.errors import Error
from arrowslit.file import MOST_BYTES, SESSION_BYTES, SESSION_FILES, File, Purpose, in_the_way
from arrowslit.ids import RandomBytes, new_id
from arrowslit.store.database import Database
from arrowslit.store.tables import session_files as table
from arrowslit.store.tables import sessions

PIECE = 256 * 1024  # bytes that are read or written at once, each on a thread: the loop does not wait for the disk
_ARRIVING = ".part"


class StoredFiles:
    """All files. `folder` is made with the first one."""

    def __init__(self, database: Database, folder: Path, clock: Clock, random: RandomBytes) -> None:
        self._database, self._folder, self._clock, self._random = database, folder, clock, random
        self._arriving: Counter[str] = Counter()  # bytes on their way, by session

    async def add(
        self, session_id: str, name: str, purpose: Purpose, media_type: str, content: AsyncIterator[bytes]
    ) -> File:
        """See `Files.add`."""
        file_id = new_id("file", self._random)
        size, sha256 = await self._receive(session_id, file_id, content)
        file = File(
            id=file_id,
            session_id=session_id,
            name=name,
            purpose=purpose,
            media_type=media_type,
            size=size,
            sha256=sha256,
            created_at=self._clock.now(),
        )
        try:
            replaced = await self._database.write(lambda connection: _insert(connection, file), _nothing)
        except Error:
            await self.discard([file_id])
            raise
        await self.discard(replaced)
        return file

    async def list(self, session_id: str) -> Sequence[File]:
        """See `Files.list`."""
        query = _of(session_id).order_by(table.c.created_at.desc(), table.c.id.desc())
        return [_from_row(row) for row in await self._database.read(query)]

    async def read(self, session_id: str, file_id: str) -> File:
        """See `Files.read`."""
        for row in await self._database.read(_of(session_id).where(table.c.id == file_id)):
            return _from_row(row)
        raise _not_found()

    async def open(self, session_id: str, file_id: str) -> tuple[File, StoredContent]:
        """See `Files.open`."""
        file = await self.read(session_id, file_id)
        try:
            return file, StoredContent((self._folder / file_id).open("rb"))
        except FileNotFoundError:
            raise _not_found() from None  # it was deleted in between

    async def delete(self, session_id: str, file_id: str) -> None:
        """See `Files.delete`."""
        this = (table.c.session_id == session_id) & (table.c.id == file_id)

        async def forget(connection: AsyncConnection) -> None:
            if (await connection.execute(delete(table).where(this))).rowcount != 1:
                raise _not_found()

        await self._database.write(forget, _nothing)
        await self.discard([file_id])

    async def discard(self, file_ids: Iterable[str]) -> None:
        """Remove the bytes of files that have no row any more."""
        gone = [self._folder / each for each in file_ids]
        if gone:
            await asyncio.to_thread(_unlink, gone)

    async def sweep(self) -> None:
        """At a start: remove what the process before left behind."""
        known = {row.id for row in await self._database.read(select(table.c.id))}
        await asyncio.to_thread(_sweep, self._folder, known)

    async def _receive(self, session_id: str, file_id: str, content: AsyncIterator[bytes]) -> tuple[int, str]:
        """Bring the bytes into the folder under the file's id: their number and SHA-256."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        taken = sum(file.size for file in await self.list(session_id))
        arriving = _Arriving(self._folder / (file_id + _ARRIVING))
        try:
            buffer = bytearray()
            async for piece in content:
                buffer += piece
                self._arriving[session_id] += len(piece)
                arriving.count(len(piece))
                if taken + self._arriving[session_id] > SESSION_BYTES + MOST_BYTES:  # one may replace as much as it is
                    raise _full()
                if len(buffer) >= PIECE:
                    await asyncio.to_thread(arriving.write, bytes(buffer))
                    buffer.clear()
            await asyncio.to_thread(arriving.finish, bytes(buffer), self._folder / file_id)
        except BaseException:
            arriving.discard()
            raise
        finally:
            self._arriving[session_id] -= arriving.size
            self._arriving += Counter()  # forget those that are zero
        return arriving.size, arriving.sha256


class StoredContent:
    """The port Content over an open file."""

    def __init__(self, file: io.BufferedReader) -> None:
        self._file = file

    async def read(self) -> bytes:
        """See `Content.read`."""
        return await asyncio.to_thread(self._file.read, PIECE)

    def close(self) -> None:
        """See `Content.close`."""
        self._file.close()


class _Arriving:
    """A file under a name of its own, until it is whole."""

    def __init__(self, path: Path) -> None:
        self.size = 0
        self._path = path
        self._hash = hashlib.sha256()
        self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def count(self, size: int) -> None:
        """That many bytes more have come. Raises Error `payload_too_large`."""
        self.size += size
        if self.size > MOST_BYTES:
            raise Error("payload_too_large", f"a file has at most {MOST_BYTES // 2**20} MiB", hint="send it in parts")

    def write(self, data: bytes) -> None:
        self._hash.update(data)
        self._file.write(data)

    def finish(self, data: bytes, path: Path) -> None:
        """Write the rest, and give it its name once it is on the disk. The name, too, survives a loss of power."""
        self.write(data)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._path.rename(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def discard(self) -> None:
        with suppress(OSError):
            self._file.close()
        self._path.unlink(missing_ok=True)


async def forget(connection: AsyncConnection, session_id: str) -> Sequence[str]:
    """Forget the files of a session in the caller's transaction; their ids, for `discard` after it."""
    ids = list((await connection.scalars(select(table.c.id).where(table.c.session_id == session_id))).all())
    await connection.execute(delete(table).where(table.c.session_id == session_id))
    return ids


async def _insert(connection: AsyncConnection, file: File) -> Sequence[str]:
    """Add the row if the session has room for it; the ids of those whose place it takes."""
    if (await connection.execute(select(sessions.c.id).where(sessions.c.id == file.session_id))).first() is None:
        raise Error("session_not_found", "there is no such session", hint="see which there are: GET /v1/sessions")
    there = [_from_row(row) for row in await connection.execute(_of(file.session_id))]
    replaced = [each for each in there if (each.purpose, each.name) == (file.purpose, file.name)]
    staying = [each for each in there if each not in replaced]
    if len(staying) >= SESSION_FILES or sum(each.size for each in staying) + file.size > SESSION_BYTES:
        raise _full()
    for each in staying:
        if each.purpose is file.purpose and in_the_way(each.name, file.name):
            raise Error(
                "name_taken", "one of two files would be a folder in the other's path", hint="choose another name"
            )
    if replaced:
        await connection.execute(delete(table).where(table.c.id.in_([each.id for each in replaced])))
    await connection.execute(insert(table).values(**msgspec.to_builtins(file)))
    return [each.id for each in replaced]


def _of(session_id: str) -> Any:
    return select(table).where(table.c.session_id == session_id)


def _from_row(row: Row[Any]) -> File:
    return msgspec.convert({field.name: getattr(row, field.name) for field in fields(File)}, File)


def _unlink(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _sweep(folder: Path, known: set[str]) -> None:
    if folder.is_dir():
        _unlink(path for path in folder.iterdir() if path.name not in known)


def _full() -> Error:
    return Error(
        "quota_exceeded",
        f"a session has at most {SESSION_FILES} files, and {SESSION_BYTES // 2**20} MiB of them",
        hint="delete some of its files first",
    )


def _not_found() -> Error:
    return Error("file_not_found", "the session has no such file", hint="see its list of files")


def _nothing(_result: object) -> None:
    """What follows a write that changes nothing in memory."""
