"""Tunnels in the store: the ports Tunnels, Enrolment and TunnelAdmin. A change is a pure step between values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Row, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from arrowslit import ids
from arrowslit.clock import Clock
from arrowslit.credential import Hasher, RootKey
from arrowslit.errors import Error
from arrowslit.principal import Change
from arrowslit.store.database import Database
from arrowslit.store.snapshot import Snapshot
from arrowslit.store.tables import tunnels
from arrowslit.store.token import StoredTunnel, Tokens
from arrowslit.tunnel import (
    KeyBinding,
    Registration,
    TokenRevoked,
    TokenState,
    Tunnel,
    TunnelArchived,
    TunnelChanged,
    fingerprint,
)

Notify = Callable[[Change], None]


class StoredTunnels:
    """All tunnels. Look-ups are answered from memory; a change is on disk and in memory when it returns."""

    def __init__(
        self, database: Database, snapshot: Snapshot, notify: Notify, root: RootKey, hasher: Hasher, clock: Clock
    ) -> None:
        self._database, self._snapshot, self._notify = database, snapshot, notify
        self._root, self._hasher, self._clock = root, hasher, clock
        self.get = snapshot.get
        self.tunnel_by_token = snapshot.tunnel_by_token
        self.registration = snapshot.registration

    async def load(self) -> None:
        """Bring what is on disk into memory."""
        for row in await self._database.read(select(tunnels)):
            self._snapshot.put_tunnel(_from_row(row))

    def read(self, tunnel_id: str) -> Tunnel:
        """See `TunnelAdmin.read`."""
        return self._stored(tunnel_id).tunnel

    def every(self) -> Sequence[Tunnel]:
        """See `TunnelAdmin.every`."""
        found = [stored.tunnel for stored in self._snapshot.tunnels.values()]
        return sorted(found, key=lambda tunnel: (tunnel.created_at, tunnel.id), reverse=True)

    def token_state(self, tunnel_id: str) -> TokenState:
        """See `TunnelAdmin.token_state`."""
        return self._stored(tunnel_id).tokens.state()

    async def create(
        self,
        name: str,
        *,
        display_name: str | None = None,
        tenant_optional: bool = False,
        key_binding: KeyBinding = KeyBinding.PINNED,
    ) -> Tunnel:
        """See `TunnelAdmin.create`."""
        new = self._new(Tunnel(ids.tunnel_id(name), name, tenant_optional, key_binding, display_name=display_name))

        async def work(connection: AsyncConnection) -> StoredTunnel:
            return await _insert(connection, new)

        return (await self._database.write(work, self._put)).tunnel

    async def register(self, registration: Registration, name: str, connector_key: bytes) -> tuple[Tunnel, str]:
        """See `Enrolment.register`."""
        now = self._clock.now()
        if not registration.matches(ids.check_name(name, what="tunnel name")) or not registration.live(now):
            raise Error(
                "registration_refused",
                "this registration token does not cover that tunnel name",
                hint="ask for a tunnel token, or for a registration token whose pattern matches: arrowslit key create",
            )
        new = self._new(Tunnel(ids.tunnel_id(name), name, connector_key=connector_key))
        # It is in use from here on: its connector holds it.
        new = replace(new, tokens=new.tokens.used(1, now), registration_id=registration.id)

        async def work(connection: AsyncConnection) -> StoredTunnel:
            known = self._snapshot.tunnels.get(new.tunnel.id)
            return known if known is not None and _same_again(known, new) else await _insert(connection, new)

        stored = await self._database.write(work, self._put)
        return stored.tunnel, self._token(stored)

    async def pin(self, tunnel_id: str, connector_key: bytes) -> Tunnel:
        """See `Enrolment.pin`."""

        def step(stored: StoredTunnel) -> StoredTunnel:
            if stored.tunnel.connector_key not in (None, connector_key):
                raise Error(
                    "key_mismatch",
                    "another connector key is pinned to this tunnel",
                    hint=f"if the new machine is yours: arrowslit tunnel approve {stored.tunnel.name}",
                )
            return replace(stored, tunnel=replace(stored.tunnel, connector_key=connector_key))

        return (await self._change(tunnel_id, step)).tunnel

    async def remember_refused(self, tunnel_id: str, connector_key: bytes) -> None:
        """See `Enrolment.remember_refused`."""
        await self._change(
            tunnel_id, lambda each: replace(each, tunnel=replace(each.tunnel, refused_key=connector_key))
        )

    async def approve(self, tunnel_id: str, fingerprint_of_key: str | None = None) -> Tunnel:
        """See `TunnelAdmin.approve`."""

        def step(stored: StoredTunnel) -> StoredTunnel:
            refused = stored.tunnel.refused_key
            if refused is None or fingerprint_of_key not in (None, fingerprint(refused)):
                raise Error(
                    "validation_error",
                    "no such connector key was refused",
                    hint="let the connector dial in once, then look: arrowslit tunnel status",
                )
            return replace(stored, tunnel=replace(stored.tunnel, connector_key=refused, refused_key=None))

        return (await self._change(tunnel_id, step)).tunnel

    async def mark_used(self, tunnel_id: str, generation: int) -> None:
        """See `Enrolment.mark_used`."""
        now = self._clock.now()
        stored = self._stored(tunnel_id)
        if stored.tokens.used(generation, now) != stored.tokens:  # nothing is written when a connector comes back
            await self._change(tunnel_id, lambda each: replace(each, tokens=each.tokens.used(generation, now)))

    async def reveal_token(self, tunnel_id: str) -> tuple[int, str]:
        """See `TunnelAdmin.reveal_token`."""
        stored = self._open(tunnel_id)
        if stored.tokens.expired(self._clock.now()):
            return await self.rotate_token(tunnel_id)
        return stored.tokens.generation, self._token(stored)

    async def rotate_token(self, tunnel_id: str, *, grace: float = 0, revoke: bool = False) -> tuple[int, str]:
        """See `TunnelAdmin.rotate_token`."""
        now = self._clock.now()

        def step(stored: StoredTunnel) -> StoredTunnel:
            new_hash = self._hasher(self._root.tunnel_token(tunnel_id, stored.tokens.generation + 1))
            tokens = stored.tokens.rotated(new_hash, now, 0 if revoke else grace)
            return replace(stored, tokens=tokens, tunnel=replace(stored.tunnel, generation=tokens.generation))

        def then(stored: StoredTunnel) -> None:
            self._put(stored)
            if revoke:
                self._notify(TokenRevoked(tunnel_id, stored.tokens.generation))

        stored = await self._change(tunnel_id, step, then)
        return stored.tokens.generation, self._token(stored)

    async def archive(self, tunnel_id: str) -> Tunnel:
        """See `TunnelAdmin.archive`."""
        now = self._clock.now()

        async def work(connection: AsyncConnection) -> StoredTunnel:
            before = self._stored(tunnel_id)
            if before.tunnel.archived_at is not None:
                return before
            return await _update(connection, replace(before, tunnel=replace(before.tunnel, archived_at=now)))

        return (await self._database.write(work, self._put)).tunnel

    async def _change(
        self,
        tunnel_id: str,
        step: Callable[[StoredTunnel], StoredTunnel],
        then: Callable[[StoredTunnel], None] | None = None,
    ) -> StoredTunnel:
        """Take one step with a tunnel that is not archived: on disk, in memory, then tell who listens."""

        async def work(connection: AsyncConnection) -> StoredTunnel:
            before = self._open(tunnel_id)
            after = step(before)
            return before if after == before else await _update(connection, after)

        return await self._database.write(work, then or self._put)

    def _put(self, stored: StoredTunnel) -> None:
        if stored == self._snapshot.tunnels.get(stored.tunnel.id):
            return
        self._snapshot.put_tunnel(stored)
        if stored.tunnel.archived_at is not None:
            self._notify(TunnelArchived(stored.tunnel.id))
        else:
            self._notify(TunnelChanged(stored.tunnel.id))

    def _new(self, tunnel: Tunnel) -> StoredTunnel:
        now = self._clock.now()
        tokens = Tokens(1, self._hasher(self._root.tunnel_token(tunnel.id, 1)), now)
        return StoredTunnel(replace(tunnel, created_at=now), tokens)

    def _token(self, stored: StoredTunnel) -> str:
        return self._root.tunnel_token(stored.tunnel.id, stored.tokens.generation)

    def _stored(self, tunnel_id: str) -> StoredTunnel:
        stored = self._snapshot.tunnels.get(tunnel_id)
        if stored is None:
            raise Error("tunnel_not_found", "there is no such tunnel", hint="see: arrowslit tunnel list")
        return stored

    def _open(self, tunnel_id: str) -> StoredTunnel:
        stored = self._stored(tunnel_id)
        if stored.tunnel.archived_at is not None:
            raise Error("archived", "the tunnel is archived, which is for good", hint="create another, by another name")
        return stored


async def _insert(connection: AsyncConnection, new: StoredTunnel) -> StoredTunnel:
    try:
        await connection.execute(insert(tunnels).values(**_to_row(new)))
    except IntegrityError as error:
        raise Error(
            "name_taken",
            f"the tunnel name {new.tunnel.name!r} is taken",
            hint="choose another: a name is never issued again, also when its tunnel was archived",
        ) from error
    return new


async def _update(connection: AsyncConnection, stored: StoredTunnel) -> StoredTunnel:
    await connection.execute(update(tunnels).where(tunnels.c.id == stored.tunnel.id).values(**_to_row(stored)))
    return stored


def _same_again(known: StoredTunnel, new: StoredTunnel) -> bool:
    """Whether the connector that registered this tunnel asks once more."""
    return (
        known.registration_id == new.registration_id
        and known.tunnel.connector_key == new.tunnel.connector_key
        and known.tunnel.archived_at is None
    )


def _to_row(stored: StoredTunnel) -> Mapping[str, object]:
    tunnel, tokens = stored.tunnel, stored.tokens
    return {
        "id": tunnel.id,
        "name": tunnel.name,
        "display_name": tunnel.display_name,
        "tenant_optional": tunnel.tenant_optional,
        "key_binding": tunnel.key_binding.value,
        "connector_key": tunnel.connector_key,
        "refused_key": tunnel.refused_key,
        "registration_id": stored.registration_id,
        "token_generation": tokens.generation,
        "token_hash": tokens.hash,
        "token_issued_at": tokens.issued_at,
        "token_used_at": tokens.used_at,
        "previous_hash": tokens.previous_hash,
        "previous_until": tokens.previous_until,
        "created_at": tunnel.created_at,
        "archived_at": tunnel.archived_at,
    }


def _from_row(row: Row[Any]) -> StoredTunnel:
    tunnel = Tunnel(
        id=row.id,
        name=row.name,
        tenant_optional=row.tenant_optional,
        key_binding=KeyBinding(row.key_binding),
        connector_key=row.connector_key,
        refused_key=row.refused_key,
        created_at=row.created_at,
        archived_at=row.archived_at,
        display_name=row.display_name,
        generation=row.token_generation,
    )
    tokens = Tokens(
        row.token_generation,
        row.token_hash,
        row.token_issued_at,
        row.token_used_at,
        row.previous_hash,
        row.previous_until,
    )
    return StoredTunnel(tunnel, tokens, row.registration_id)
