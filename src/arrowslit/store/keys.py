"""API keys and registration tokens in the store: the port KeyAdmin, and the first administrator's key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

from sqlalchemy import Table, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from arrowslit.clock import Clock
from arrowslit.credential import CredentialKind, Hasher, encode
from arrowslit.errors import Error
from arrowslit.ids import RandomBytes, new_id
from arrowslit.principal import ApiKey, Change, KeyRevoked, Scope, Tenant, no_such_key
from arrowslit.store.database import Database
from arrowslit.store.snapshot import Snapshot
from arrowslit.store.tables import api_keys, registration_tokens
from arrowslit.tunnel import Registration, check_pattern

FIRST_KEY = "admin.key"  # the name of the key that `ensure_admin_key` makes, after the file it is kept in
MINTED = 10_000  # keys of one key that are good at the same time: some 10 MB, and more sessions than one relay runs
REMEMBERED = 7 * 86400.0  # seconds that a minted key can be looked up after its end


class StoredKeys:
    """All keys. Look-ups are answered from memory; a change is on disk and in memory when it returns."""

    def __init__(
        self,
        database: Database,
        snapshot: Snapshot,
        notify: Callable[[Change], None],
        hasher: Hasher,
        clock: Clock,
        random: RandomBytes,
    ) -> None:
        self._database, self._snapshot, self._notify = database, snapshot, notify
        self._hasher, self._clock, self._random = hasher, clock, random
        self._minted: dict[str, dict[str, str]] = {}  # id of the key that minted -> ids and hashes of its keys
        self.live = snapshot.live

    async def load(self) -> None:
        """Bring what is on disk into memory."""
        for row in await self._database.read(select(api_keys)):
            scopes = frozenset(Scope(scope) for scope in row.scopes)
            tenant = None if row.tenant is None else Tenant(row.tenant)
            key = ApiKey(row.id, scopes, frozenset(row.agents), tenant, row.created_at, row.expires_at, row.revoked_at)
            self._put_new(replace(key, name=row.name, last_four=row.last_four, minted_by=row.minted_by), row.hash)
        for row in await self._database.read(select(registration_tokens)):
            registration = Registration(row.id, row.pattern, row.created_at, row.expires_at, row.revoked_at)
            registration = replace(registration, name=row.name, last_four=row.last_four)
            self._snapshot.put_registration(registration, row.hash)

    def read(self, key_id: str) -> ApiKey | Registration:
        """See `KeyAdmin.read`."""
        found = self._snapshot.keys.get(key_id) or self._snapshot.registrations.get(key_id)
        if found is None:
            raise no_such_key()
        return found

    def every(self) -> Sequence[ApiKey | Registration]:
        """See `KeyAdmin.every`."""
        found: list[ApiKey | Registration] = [*self._snapshot.keys.values(), *self._snapshot.registrations.values()]
        return sorted(found, key=lambda key: (key.created_at, key.id), reverse=True)

    async def create(
        self,
        *,
        scopes: AbstractSet[Scope],
        agents: AbstractSet[str] = frozenset(),
        tenant: Tenant | None = None,
        expires_at: float | None = None,
        name: str | None = None,
        minted_by: str | None = None,
    ) -> tuple[ApiKey, str]:
        """See `KeyAdmin.create`."""
        text = encode(CredentialKind.API_KEY, self._random(32))
        key = ApiKey(
            id=new_id("key", self._random),
            scopes=frozenset(scopes),
            agents=frozenset(agents),
            tenant=tenant,
            created_at=self._clock.now(),
            expires_at=expires_at,
            name=name,
            last_four=text[-4:],
            minted_by=minted_by,
        )
        key_hash = self._hasher(text)

        async def work(connection: AsyncConnection) -> Sequence[ApiKey]:
            ended = self._check_minting(minted_by) if minted_by is not None else ()
            if ended:
                await connection.execute(delete(api_keys).where(api_keys.c.id.in_([each.id for each in ended])))
            row = {"tenant": key.tenant, "scopes": sorted(key.scopes), "agents": sorted(key.agents)}
            values = _common(key) | row | {"hash": key_hash, "minted_by": minted_by}
            await connection.execute(insert(api_keys).values(**values))
            return ended

        def then(ended: Sequence[ApiKey]) -> None:
            for each in ended:
                self._forget(each)
            self._put_new(key, key_hash)

        await self._database.write(work, then)
        return key, text

    def _check_minting(self, minter: str) -> Sequence[ApiKey]:
        """Raise if that key may mint no more; otherwise the first hundred of its keys that are to be forgotten."""
        if not self.live(minter):
            raise Error("unauthenticated", "this key is no longer good", hint="use another key")
        now = self._clock.now()
        minted = [self._snapshot.keys[each] for each in self._minted.get(minter, ())]
        if sum(each.live(now) for each in minted) >= MINTED:
            hint = "let keys end sooner with expires_at, or revoke those that are not used any more"
            raise Error("rate_limited", f"this key minted {MINTED} keys that are still good", hint=hint, retry_after=60)
        return [each for each in minted if (each.expires_at or now) < now - REMEMBERED][:100]

    def _put_new(self, key: ApiKey, key_hash: str) -> None:
        self._snapshot.put_key(key, key_hash)
        if key.minted_by is not None:
            self._minted.setdefault(key.minted_by, {})[key.id] = key_hash

    def _forget(self, key: ApiKey) -> None:
        assert key.minted_by is not None
        self._snapshot.forget_key(key.id, self._minted[key.minted_by].pop(key.id))

    async def create_registration(
        self, pattern: str, *, expires_at: float | None = None, name: str | None = None
    ) -> tuple[Registration, str]:
        """See `KeyAdmin.create_registration`."""
        text = encode(CredentialKind.REGISTRATION_TOKEN, self._random(32))
        registration = Registration(
            id=new_id("key", self._random),
            pattern=check_pattern(pattern),
            created_at=self._clock.now(),
            expires_at=expires_at,
            name=name,
            last_four=text[-4:],
        )
        token_hash = self._hasher(text)

        async def work(connection: AsyncConnection) -> Registration:
            row = {"pattern": registration.pattern, "hash": token_hash}
            await connection.execute(insert(registration_tokens).values(**_common(registration), **row))
            return registration

        def then(new: Registration) -> None:
            self._snapshot.put_registration(new, token_hash)

        return await self._database.write(work, then), text

    async def revoke(self, key_id: str) -> ApiKey | Registration:
        """See `KeyAdmin.revoke`."""
        now = self._clock.now()

        async def work(connection: AsyncConnection) -> Sequence[ApiKey | Registration]:
            key = self.read(key_id)
            if key.revoked_at is not None:
                return ()
            table = _table(key)
            await connection.execute(update(table).where(table.c.id == key_id).values(revoked_at=now))
            its_own = (api_keys.c.minted_by == key_id) & api_keys.c.revoked_at.is_(None)
            await connection.execute(update(api_keys).where(its_own).values(revoked_at=now))
            minted = (self._snapshot.keys[each] for each in self._minted.get(key_id, ()))
            return [replace(each, revoked_at=now) for each in (key, *minted) if each.revoked_at is None]

        await self._database.write(work, self._put_revoked)
        return self.read(key_id)

    def _put_revoked(self, keys: Sequence[ApiKey | Registration]) -> None:
        for key in keys:
            if isinstance(key, ApiKey):
                self._snapshot.put_key(key)
            else:
                self._snapshot.put_registration(key)
        for key in keys:
            self._notify(KeyRevoked(key.id))


async def ensure_admin_key(keys: StoredKeys, held: ApiKey | None) -> str | None:
    """The text of a new administrator's key, if nobody could hold one otherwise; None if somebody does.

    `held` is the key whose text stands in the state folder's file, None if there is no such file or it opens nothing.
    So a start that died between making the first key and writing it down does not lock its owner out.
    """
    admins = [
        key for key in keys.every() if isinstance(key, ApiKey) and Scope.ADMIN in key.scopes and keys.live(key.id)
    ]
    if any(key.name != FIRST_KEY or key == held for key in admins):
        return None
    for lost in admins:
        await keys.revoke(lost.id)
    _, text = await keys.create(scopes={Scope.ADMIN}, name=FIRST_KEY)
    return text


def _table(key: ApiKey | Registration) -> Table:
    return api_keys if isinstance(key, ApiKey) else registration_tokens


def _common(key: ApiKey | Registration) -> dict[str, object]:
    return {
        "id": key.id,
        "name": key.name,
        "last_four": key.last_four,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
    }
