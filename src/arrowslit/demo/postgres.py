"""Postgres: a PostgreSQL server of our own, for the demo and the tests, that lives exactly as long as we do.

It listens on the loopback interface only, wants a password, and keeps everything in one folder:

    data-18/             the database, 0700, owned by the user that runs it
    postgres.password    of the superuser, 0600; one such file for each role that `secret` was asked for
    postgres.log         what initdb and the server said since the last start
    lock                 held by the process that runs the server
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import shutil
import signal
import socket
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self
from urllib.parse import quote

import asyncpg

from arrowslit.demo.installation import Account, binaries, make_folder
from arrowslit.demo.process import STOP_SECONDS, runs_on, spawn, stop
from arrowslit.errors import Error

SUPERUSER = "postgres"
START_SECONDS = 10.0  # 0.1 s is usual; the rest is for a busy machine that has to recover from a crash
STARTS = 3  # the free port may be gone when PostgreSQL takes it, or a killed server's last process still be there
LOG_LINES = 8  # of the log that an error shows

INITDB = (
    f"--username={SUPERUSER}",
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",  # sorts alike on every machine
    "--builtin-locale=C.UTF-8",
    "--no-sync",  # a demo's empty database is worth no 0.5 s of fsync
    "--no-instructions",
)
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # a second door nobody needs
    "jit": "off",
    "shared_buffers": "16MB",
    "max_connections": "200",  # a stdio server has a pool for each MCP session
    "io_method": "sync",  # no worker processes
    "max_logical_replication_workers": "0",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "64MB",
}


class Postgres:
    """A running server: `async with Postgres(folder) as server`.

    `folder` is made if it is missing. A second server in the same folder is refused; one that a killed process of
    ours left behind is stopped first. Entering raises Error `postgres_failed`, with the end of the log where there is
    one; leaving stops the server. If we are killed, the kernel stops it (on Linux).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.port = 0
        self._account = Account.choose()
        self._data = self.folder / "data-18"
        self._life = AsyncExitStack()

    @property
    def admin_dsn(self) -> str:
        """The superuser's way to the database `postgres`."""
        return self.dsn(SUPERUSER, self.secret(SUPERUSER), "postgres")

    def dsn(self, user: str, password: str, database: str) -> str:
        """The URL that libpq and asyncpg connect with. No TLS: the way is the loopback interface."""
        return f"postgresql://{quote(user)}:{quote(password)}@127.0.0.1:{self.port}/{quote(database)}?sslmode=disable"

    def secret(self, role: str) -> str:
        """The password of a role: random, and the same each time, because it is kept in a 0600 file."""
        path = self.folder / f"{role}.password"
        if not path.exists():
            new = path.with_suffix(".new")
            with open(new, "w", opener=_private) as file:
                file.write(secrets.token_urlsafe(24))
            new.rename(path)
        return path.read_text()

    async def __aenter__(self) -> Self:
        await self._life.enter_async_context(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._life.__aexit__(kind, error, trace)

    @asynccontextmanager
    async def _run(self) -> AsyncIterator[None]:
        make_folder(self.folder, self._account)
        with _alone(self.folder), open(self.folder / "postgres.log", "wb", opener=_private) as log:
            programs = binaries(self.folder, self._account)
            if not self._has_data():
                await self._create_data(programs / "initdb", log)
            await self._stop_left_behind()
            process = await self._start(programs / "postgres", log)
            try:
                yield
            finally:
                await stop(process)

    def _has_data(self) -> bool:
        return self._data.exists()

    async def _create_data(self, initdb: Path, log: BinaryIO) -> None:
        """A new database, under its name only once it is complete."""
        new = self._data.with_suffix(".new")
        with self._lent_password() as password:
            self._make_empty(new)
            process = await spawn(self._account, log, initdb, f"--pgdata={new}", f"--pwfile={password}", *INITDB)
            try:
                status = await process.wait()
            finally:
                await stop(process)
        if status != 0:
            raise self._failed(f"initdb ended with status {status}")
        new.rename(self._data)

    async def _start(self, postgres: Path, log: BinaryIO) -> Process:
        for _ in range(STARTS):
            self.port = _free_port()
            settings = [f"--{name}={value}" for name, value in {**SETTINGS, "port": str(self.port)}.items()]
            process = await spawn(self._account, log, postgres, "-D", str(self._data), *settings)
            try:
                if await self._accepts(process):
                    return process
            except BaseException:
                await stop(process)
                raise
        raise self._failed("PostgreSQL does not start")

    async def _accepts(self, process: Process) -> bool:
        """Wait for the first connection that succeeds; False if the server has ended instead."""
        try:
            async with asyncio.timeout(START_SECONDS):
                while process.returncode is None:
                    try:
                        connection = await asyncpg.connect(self.admin_dsn)
                    except (OSError, asyncpg.CannotConnectNowError):
                        await asyncio.sleep(0.01)  # it tells nobody when it is ready: ask again, as pg_ctl does
                    else:
                        await connection.close()
                        return True
        except TimeoutError:
            raise self._failed(f"PostgreSQL was not ready after {START_SECONDS:.0f} s") from None
        except asyncpg.PostgresError as error:
            raise self._failed(f"PostgreSQL started and refuses us: {error}") from error
        return False

    async def _stop_left_behind(self) -> None:
        """Stop the server that a killed process of ours left in this folder; we hold its lock, so nobody needs it."""
        if (pid := self._left_behind()) is None:
            return
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                while runs_on(self._data, pid):  # noqa: ASYNC110 - not our child: nobody tells us when it ends
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise self._failed(f"a PostgreSQL from before (process {pid}) does not stop") from None

    def _left_behind(self) -> int | None:
        """The process id of such a server. Where there is no /proc we cannot know; PostgreSQL itself refuses then."""
        file = self._data / "postmaster.pid"
        if not file.exists():
            return None
        pid = int(file.read_text().partition("\n")[0])
        if runs_on(self._data, pid):
            return pid
        if Path(f"/proc/{pid}").exists():
            file.unlink()  # a crash left it, and the number is another process's by now: PostgreSQL would be misled
        return None

    @contextmanager
    def _lent_password(self) -> Iterator[Path]:
        """A file with the superuser's password that initdb may read, for as long as it needs it."""
        path = self.folder / "password-for-initdb"
        path.unlink(missing_ok=True)
        with open(path, "x", opener=_private) as file:
            os.fchown(file.fileno(), self._account.uid, self._account.gid)
            file.write(self.secret(SUPERUSER))
        try:
            yield path
        finally:
            path.unlink()

    def _make_empty(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        os.chown(folder, self._account.uid, self._account.gid)

    def _failed(self, message: str) -> Error:
        """The error for a person: what happened, and the end of PostgreSQL's own words."""
        log = self.folder / "postgres.log"
        words = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:])
        hint = f"read {log}; to start anew with an empty database, remove {self._data}"
        return Error("postgres_failed", f"{message}; its last words:\n{words}", hint=hint)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which the kernel frees when we die; Error `postgres_failed` if another holds it."""
    with open(folder / "lock", "w", opener=_private) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Error(
                "postgres_failed",
                f"another process runs a PostgreSQL in {folder}",
                hint="stop that one first, or give another folder",
            ) from None
        yield


def _private(path: str, flags: int) -> int:
    """An opener for files that only we may read."""
    return os.open(path, flags, mode=0o600)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
