"""Certificates of tunnels in the store: the port Certificates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from arrowslit.clock import Clock
from arrowslit.errors import Error
from arrowslit.ids import RandomBytes, new_id
from arrowslit.store.database import Database
from arrowslit.store.tables import tunnel_certificates as table
from arrowslit.store.tables import tunnels
from arrowslit.store.tunnels import StoredTunnels
from arrowslit.tunnel import Certificate

MOST = 2  # of one tunnel that are not archived, as officially: one to use and one to change to


class StoredCertificates:
    """Certificates on disk. They are asked for seldom, so nothing of them is kept in memory."""

    def __init__(self, database: Database, tunnels: StoredTunnels, clock: Clock, random: RandomBytes) -> None:
        self._database, self._tunnels, self._clock, self._random = database, tunnels, clock, random

    async def create(self, tunnel_id: str, pem: str, fingerprint: str, expires_at: float) -> Certificate:
        """See `Certificates.create`."""
        now = self._clock.now()
        new = Certificate(new_id("tcrt", self._random), tunnel_id, fingerprint, pem, now, expires_at)

        async def work(connection: AsyncConnection) -> Certificate:
            if self._tunnels.read(tunnel_id).archived_at is not None:
                raise Error("archived", "the tunnel is archived, which is for good", hint="create another one")
            there = [Certificate(**row._mapping) for row in await connection.execute(_select(tunnel_id))]
            live = [each for each in there if each.archived_at is None]
            for each in live:
                if each.fingerprint == fingerprint:
                    return each
            if len(live) >= MOST:
                raise Error(
                    "validation_error", f"the tunnel has {MOST} certificates already", hint="archive one of them first"
                )
            row = {"id": new.id, "tunnel_id": tunnel_id, "fingerprint": fingerprint, "pem": pem}
            await connection.execute(insert(table).values(**row, created_at=now, expires_at=expires_at))
            return new

        return await self._database.write(work, _nothing)

    async def read(self, tunnel_id: str, certificate_id: str) -> Certificate:
        """See `Certificates.read`."""
        return _named(await self.of(tunnel_id), certificate_id)

    async def of(self, tunnel_id: str) -> Sequence[Certificate]:
        """See `Certificates.of`."""
        self._tunnels.read(tunnel_id)
        return [Certificate(**row._mapping) for row in await self._database.read(_select(tunnel_id))]

    async def archive(self, tunnel_id: str, certificate_id: str) -> Certificate:
        """See `Certificates.archive`."""
        self._tunnels.read(tunnel_id)
        now = self._clock.now()

        async def work(connection: AsyncConnection) -> Certificate:
            there = [Certificate(**row._mapping) for row in await connection.execute(_select(tunnel_id))]
            found = _named(there, certificate_id)
            if found.archived_at is not None:
                return found
            await connection.execute(update(table).where(table.c.id == certificate_id).values(archived_at=now))
            return replace(found, archived_at=now)

        return await self._database.write(work, _nothing)


def _select(tunnel_id: str) -> Any:
    """Those of a tunnel, newest first; what ended the tunnel ended them."""
    return (
        select(
            table.c.id,
            table.c.tunnel_id,
            table.c.fingerprint,
            table.c.pem,
            table.c.created_at,
            table.c.expires_at,
            func.coalesce(table.c.archived_at, tunnels.c.archived_at).label("archived_at"),
        )
        .join_from(table, tunnels)
        .where(table.c.tunnel_id == tunnel_id)
        .order_by(table.c.created_at.desc(), table.c.id.desc())
    )


def _named(certificates: Sequence[Certificate], certificate_id: str) -> Certificate:
    for each in certificates:
        if each.id == certificate_id:
            return each
    raise Error("certificate_not_found", "the tunnel has no such certificate", hint="see the list of its certificates")


def _nothing(_: Certificate) -> None:
    """Nothing of a certificate is in memory."""
