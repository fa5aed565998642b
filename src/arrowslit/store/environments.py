"""Environments and the keys of their workers in the store: the port Environments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from arrowslit.clock import Clock
from arrowslit.credential import CredentialKind, Hasher, encode, kind_of
from arrowslit.environment import Environment, EnvironmentKey
from arrowslit.errors import Error
from arrowslit.ids import RandomBytes, new_id
from arrowslit.principal import Change, KeyRevoked
from arrowslit.session import SessionStatus
from arrowslit.store.database import Database
from arrowslit.store.tables import environment_keys, environments, sessions, work, work_tokens

_PREFIX = "sbx_"  # `sbx_team_default`, in the short form of an agent, is the environment called `team-default`


class StoredEnvironments:
    """All environments and worker's keys, answered from memory; a change is on disk and in memory when it returns."""

    def __init__(
        self,
        database: Database,
        notify: Callable[[Change], None],
        hasher: Hasher,
        clock: Clock,
        random: RandomBytes,
    ) -> None:
        self._database, self._notify, self._hasher = database, notify, hasher
        self._clock, self._random = clock, random
        self._environments: dict[str, Environment] = {}
        self._keys: dict[str, EnvironmentKey] = {}
        self._key_of: dict[str, str] = {}  # hash of a worker's key -> its id

    async def load(self) -> None:
        """Bring what is on disk into memory."""
        for row in await self._database.read(select(environments)):
            self._environments[row.id] = _from_row(row)
        for row in await self._database.read(select(environment_keys)):
            key = EnvironmentKey(row.id, row.environment_id, row.created_at, row.name, row.last_four, row.revoked_at)
            self._keys[key.id] = key
            self._key_of[row.hash] = key.id

    def read(self, environment_id: str) -> Environment:
        """See `Environments.read`."""
        found = self._environments.get(environment_id)
        if found is None:
            raise Error("environment_not_found", "there is no such environment", hint="see: arrowslit environment list")
        return found

    def named(self, text: str) -> Environment:
        """See `Environments.named`."""
        if text in self._environments:
            return self.read(text)
        name = text.removeprefix(_PREFIX).replace("_", "-") if text.startswith(_PREFIX) else text
        found = [each for each in self.every() if each.archived_at is None and each.name in (text, name)]
        if len(found) > 1:
            raise Error(
                "validation_error", "several environments have that name", hint="name the environment by its id"
            )
        return found[0] if found else self.read(text)

    def every(self) -> Sequence[Environment]:
        """See `Environments.every`."""
        return sorted(self._environments.values(), key=lambda each: (each.created_at, each.id), reverse=True)

    async def create(
        self, name: str, *, description: str | None = None, metadata: Mapping[str, str] | None = None
    ) -> Environment:
        """See `Environments.create`."""
        now = self._clock.now()
        new = Environment(new_id("env", self._random), name, now, now, description, dict(metadata or {}))

        async def work(connection: AsyncConnection) -> Environment:
            await connection.execute(insert(environments).values(_row(new)))
            return new

        return await self._database.write(work, self._put)

    async def update(self, environment_id: str, revise: Callable[[Environment], Environment]) -> Environment:
        """See `Environments.update`."""
        now = self._clock.now()

        async def work(connection: AsyncConnection) -> Environment:
            before = self.usable(environment_id)
            after = revise(before)
            if after == before:
                return before
            return await _save(connection, replace(after, updated_at=now))

        return await self._database.write(work, self._put)

    async def archive(self, environment_id: str) -> Environment:
        """See `Environments.archive`."""
        now = self._clock.now()

        async def work(connection: AsyncConnection) -> Environment:
            before = self.read(environment_id)
            if before.archived_at is not None:
                return before
            return await _save(connection, replace(before, updated_at=now, archived_at=now))

        return await self._database.write(work, self._put)

    async def delete(self, environment_id: str) -> None:
        """See `Environments.delete`."""

        async def work(connection: AsyncConnection) -> str:
            self.read(environment_id)
            await _forget(connection, environment_id)
            return environment_id

        await self._database.write(work, self._drop)

    async def create_key(self, environment_id: str, name: str | None = None) -> tuple[EnvironmentKey, str]:
        """See `Environments.create_key`."""
        text = encode(CredentialKind.ENVIRONMENT_KEY, self._random(32))
        key = EnvironmentKey(new_id("ekey", self._random), environment_id, self._clock.now(), name, text[-4:])
        key_hash = self._hasher(text)

        async def work(connection: AsyncConnection) -> EnvironmentKey:
            self.usable(environment_id)
            row = {"id": key.id, "environment_id": environment_id, "name": name, "created_at": key.created_at}
            await connection.execute(insert(environment_keys).values(**row, last_four=key.last_four, hash=key_hash))
            return key

        def then(new: EnvironmentKey) -> None:
            self._keys[new.id] = new
            self._key_of[key_hash] = new.id

        return await self._database.write(work, then), text

    def keys(self, environment_id: str) -> Sequence[EnvironmentKey]:
        """See `Environments.keys`."""
        self.read(environment_id)
        found = [key for key in self._keys.values() if key.environment_id == environment_id]
        return sorted(found, key=lambda key: (key.created_at, key.id), reverse=True)

    async def revoke_key(self, environment_id: str, key_id: str) -> EnvironmentKey:
        """See `Environments.revoke_key`."""
        now = self._clock.now()

        async def work(connection: AsyncConnection) -> EnvironmentKey:
            self.read(environment_id)
            key = self._keys.get(key_id)
            if key is None or key.environment_id != environment_id:
                raise Error(
                    "key_not_found", "the environment has no such key", hint="see: arrowslit environment key list"
                )
            if key.revoked_at is not None:
                return key
            this = environment_keys.c.id == key_id
            await connection.execute(update(environment_keys).where(this).values(revoked_at=now))
            return replace(key, revoked_at=now)

        return await self._database.write(work, self._put_revoked)

    def usable(self, environment_id: str) -> Environment:
        """The environment, if it may still be changed and take sessions. Raises Error `environment_archived`."""
        found = self.read(environment_id)
        if found.archived_at is not None:
            raise Error("environment_archived", "the environment is archived, which is for good", hint="create another")
        return found

    def key_by_text(self, text: str) -> EnvironmentKey | None:
        """Whose key this is, if it opens a door now."""
        if kind_of(text) is not CredentialKind.ENVIRONMENT_KEY:
            return None
        key = self._keys.get(self._key_of.get(self._hasher(text), ""))
        return key if key is not None and key.revoked_at is None else None

    def key_is_live(self, key_id: str) -> bool:
        """Whether the key of that id opens a door now."""
        key = self._keys.get(key_id)
        return key is not None and key.revoked_at is None

    def _put(self, environment: Environment) -> None:
        self._environments[environment.id] = environment

    def _put_revoked(self, key: EnvironmentKey) -> None:
        if key == self._keys[key.id]:
            return
        self._keys[key.id] = key
        self._notify(KeyRevoked(key.id))

    def _drop(self, environment_id: str) -> None:
        del self._environments[environment_id]
        ended = [key.id for key in self._keys.values() if key.environment_id == environment_id]
        self._key_of = {key_hash: key_id for key_hash, key_id in self._key_of.items() if key_id not in ended}
        for key_id in ended:
            del self._keys[key_id]
            self._notify(KeyRevoked(key_id))


async def _save(connection: AsyncConnection, environment: Environment) -> Environment:
    this = environments.c.id == environment.id
    await connection.execute(update(environments).where(this).values(_row(environment)))
    return environment


async def _forget(connection: AsyncConnection, environment_id: str) -> None:
    """Remove an environment's rows, unless a session of it can go on."""
    going_on = (sessions.c.environment_id == environment_id) & (sessions.c.status != SessionStatus.TERMINATED)
    if (await connection.execute(select(sessions.c.id).where(going_on).limit(1))).first() is not None:
        raise Error(
            "environment_in_use",
            "the environment has sessions that can go on",
            hint="archive or delete those first; or archive the environment, so that it takes no new ones",
        )
    items = select(work.c.id).where(work.c.environment_id == environment_id)
    await connection.execute(delete(work_tokens).where(work_tokens.c.work_id.in_(items)))
    await connection.execute(delete(work).where(work.c.environment_id == environment_id))
    await connection.execute(delete(environment_keys).where(environment_keys.c.environment_id == environment_id))
    await connection.execute(delete(environments).where(environments.c.id == environment_id))


def _row(environment: Environment) -> dict[str, object]:
    return {
        "id": environment.id,
        "name": environment.name,
        "description": environment.description,
        "metadata": dict(environment.metadata),
        "created_at": environment.created_at,
        "updated_at": environment.updated_at,
        "archived_at": environment.archived_at,
    }


def _from_row(row: Row[Any]) -> Environment:
    return Environment(row.id, row.name, row.created_at, row.updated_at, row.description, row.metadata, row.archived_at)
