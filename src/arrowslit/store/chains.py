"""Up to where the relay has the chain of each delivery's worker, in the store: the port WorkerChains."""

from __future__ import annotations

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from arrowslit.errors import Error
from arrowslit.record import WorkerChain
from arrowslit.store.database import Database
from arrowslit.store.tables import work_tokens as deliveries


class StoredChains:
    """A part of each delivery's row, so that it is forgotten with its item of work."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, work_id: str, generation: int) -> WorkerChain:
        """See `WorkerChains.read`."""
        columns = (deliveries.c.key_id, deliveries.c.chain_seq, deliveries.c.chain_hash, deliveries.c.chain_bytes)
        for row in await self._database.read(select(*columns).where(_this(work_id, generation))):
            if row.chain_seq is None:
                return WorkerChain(row.key_id)
            return WorkerChain(row.key_id, row.chain_seq, row.chain_hash, row.chain_bytes)
        raise Error("work_not_found", "there is no such work", hint="poll for another item")

    async def keep(self, work_id: str, generation: int, chain: WorkerChain) -> None:
        """See `WorkerChains.keep`."""
        values = {"chain_seq": chain.seq, "chain_hash": chain.hash, "chain_bytes": chain.size}

        async def set_it(connection: AsyncConnection) -> None:
            await connection.execute(update(deliveries).where(_this(work_id, generation)).values(**values))

        await self._database.write(set_it, _nothing)


def _this(work_id: str, generation: int) -> ColumnElement[bool]:
    return (deliveries.c.work_id == work_id) & (deliveries.c.generation == generation)


def _nothing(_result: object) -> None:
    """What follows a write that changes nothing in memory."""
