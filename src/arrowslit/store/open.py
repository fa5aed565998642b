"""Open the store: a URL becomes what the relay looks up, what the API manages, and what both hear of changes."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from arrowslit.clock import Clock
from arrowslit.credential import Hasher, RootKey
from arrowslit.errors import Error
from arrowslit.ids import RandomBytes
from arrowslit.principal import Change
from arrowslit.store.agents import StoredAgents
from arrowslit.store.certificates import StoredCertificates
from arrowslit.store.chains import StoredChains
from arrowslit.store.database import Database, open_database
from arrowslit.store.environments import StoredEnvironments
from arrowslit.store.files import StoredFiles
from arrowslit.store.keys import StoredKeys, ensure_admin_key
from arrowslit.store.pins import StoredPins
from arrowslit.store.sessions import StoredSessions
from arrowslit.store.snapshot import Snapshot
from arrowslit.store.tables import root_key
from arrowslit.store.tunnels import StoredTunnels
from arrowslit.store.work import StoredWork

log = logging.getLogger(__name__)


class Store:
    """Everything that is kept: `grants`, `tunnels`, `agents`, `pins`, `keys`, `environments`, `certificates`,
    `sessions` and `files` fulfil the ports of those names, `work` the port WorkQueue, `chains` the port WorkerChains.

    One process has one store open on a database: what is in memory is what this process wrote.
    """

    def __init__(self, database: Database, files: Path, root: RootKey, clock: Clock, random: RandomBytes) -> None:
        hasher = Hasher(root.derive("credential-hash"))
        self.grants = Snapshot(clock, hasher)
        self.tunnels = StoredTunnels(database, self.grants, self._notify, root, hasher, clock)
        self.agents = StoredAgents(database, self.grants, self._notify, clock, random)
        self.pins = StoredPins(database)
        self.keys = StoredKeys(database, self.grants, self._notify, hasher, clock, random)
        self.environments = StoredEnvironments(database, self._notify, hasher, clock, random)
        self.work = StoredWork(database, self.environments, self._notify, hasher, clock, random)
        self.certificates = StoredCertificates(database, self.tunnels, clock, random)
        self.files = StoredFiles(database, files, clock, random)
        self.sessions = StoredSessions(database, self.environments, self.work, self.files, clock)
        self.chains = StoredChains(database)
        self._database = database
        self._root = root
        self._listeners: list[Callable[[Change], None]] = []

    @classmethod
    @asynccontextmanager
    async def open(
        cls, url: str, *, files: Path, root: RootKey, clock: Clock, random: RandomBytes
    ) -> AsyncIterator[Self]:
        """A store on the database at `url` (`sqlite:///FILE` or `postgresql://…`), its tables brought up to date.
        `files` is the folder for what sessions are given and make, this store's alone.

        Raises Error `state_unusable` if that cannot be, or if its hashes were made with another root key.
        """
        database = await open_database(url)
        try:
            store = cls(database, files, root, clock, random)
            await store._check_root_key()
            await store.keys.load()
            await store.tunnels.load()
            await store.agents.load()
            await store.pins.load()
            await store.environments.load()
            await store.files.sweep()
            yield store
        finally:
            await database.close()

    def on_change(self, listener: Callable[[Change], None]) -> None:
        """See `Changes.on_change`."""
        self._listeners.append(listener)

    async def ensure_admin_key(self, held: str | None) -> str | None:
        """The text of a new administrator's key for `admin.key`, or None if there is one that somebody can hold.

        `held` is what that file contains now, None if there is no such file.
        """
        principal = None if held is None else self.grants.principal(held)
        return await ensure_admin_key(self.keys, None if principal is None else self.grants.keys[principal.id])

    def _notify(self, change: Change) -> None:
        for listener in self._listeners:
            try:
                listener(change)
            except Exception:
                log.exception("a listener failed on %s; the others are still told", change)

    async def _check_root_key(self) -> None:
        expected = self._root.derive("root-key-check").hex()

        async def work(connection: AsyncConnection) -> str:
            known = (await connection.execute(select(root_key.c.check))).scalar_one_or_none()
            if known is None:
                await connection.execute(insert(root_key).values(id=1, check=expected))
            return known or expected

        def then(known: str) -> None:
            if known != expected:
                raise Error(
                    "state_unusable",
                    "the database belongs to another root key, so no key or token in it would be recognised",
                    hint="restore the root key that was kept with this database, or start with a new database",
                )

        await self._database.write(work, then)
