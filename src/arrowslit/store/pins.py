"""Pinned definitions of tools in the store: the port Pins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from arrowslit.pin import MOST, Pin, Seen
from arrowslit.store.database import Database
from arrowslit.store.tables import tool_pins as table


class StoredPins:
    """All pins, in memory and on disk.

    Unlike everything else here a pin is in memory first: the list that is being passed on is judged by it already. What
    a crash loses of that is seen again with the next list.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pins: dict[tuple[str, str], dict[str, Pin]] = {}  # by agent and server, then by tool

    async def load(self) -> None:
        """Bring them all into memory."""
        for row in await self._database.read(select(table)):
            self.put(_from_row(row))

    def find(self, agent_id: str, server: str, tool: str) -> Pin | None:
        """See `Pins.find`."""
        pins = self._pins.get((agent_id, server))
        return None if pins is None else pins.get(tool)

    def of(self, agent_id: str) -> Sequence[Pin]:
        """See `Pins.of`."""
        servers = sorted(key for key in self._pins if key[0] == agent_id)
        return [pin for key in servers for _, pin in sorted(self._pins[key].items())]

    def put(self, pin: Pin) -> bool:
        """See `Pins.put`."""
        pins = self._pins.setdefault((pin.agent_id, pin.server), {})
        if pin.tool not in pins and not self.has_room(pin.agent_id, pin.server):
            return False
        pins[pin.tool] = pin
        return True

    def has_room(self, agent_id: str, server: str) -> bool:
        """See `Pins.has_room`."""
        return len(self._pins.get((agent_id, server), ())) < MOST

    async def save(self, pin: Pin) -> None:
        """See `Pins.save`."""

        async def work(connection: AsyncConnection) -> None:
            latest = self.find(pin.agent_id, pin.server, pin.tool) or pin
            one = (table.c.agent_id == pin.agent_id) & (table.c.server == pin.server) & (table.c.tool == pin.tool)
            await connection.execute(delete(table).where(one))
            await connection.execute(insert(table).values(**_as_row(latest)))

        await self._database.write(work, lambda _: None)


def _as_row(pin: Pin) -> dict[str, Any]:
    return {
        "agent_id": pin.agent_id,
        "server": pin.server,
        "tool": pin.tool,
        "approved": msgspec.to_builtins(pin.approved),
        "offered": msgspec.to_builtins(pin.offered),
        "approved_by": pin.approved_by,
        "meanwhile": msgspec.to_builtins(pin.meanwhile),
    }


def _from_row(row: Any) -> Pin:
    approved, offered = (msgspec.convert(each, Seen | None) for each in (row.approved, row.offered))
    meanwhile = msgspec.convert(row.meanwhile or (), tuple[Seen, ...])
    return Pin(row.agent_id, row.server, row.tool, approved, offered, row.approved_by, meanwhile)
