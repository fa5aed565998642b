"""Pins in memory, for a world without a database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from arrowslit.pin import Pin


@dataclass(slots=True)
class MemoryPins:
    """Fulfils Pins. `saved` are those that a store would have on disk, as they were then."""

    pins: dict[tuple[str, str, str], Pin] = field(default_factory=dict)
    saved: list[Pin] = field(default_factory=list)

    def find(self, agent_id: str, server: str, tool: str) -> Pin | None:
        """See Pins."""
        return self.pins.get((agent_id, server, tool))

    def of(self, agent_id: str) -> Sequence[Pin]:
        """See Pins."""
        return [pin for key, pin in sorted(self.pins.items()) if key[0] == agent_id]

    def put(self, pin: Pin) -> bool:
        """See Pins."""
        self.pins[pin.agent_id, pin.server, pin.tool] = pin
        return True

    def has_room(self, agent_id: str, server: str) -> bool:
        """See Pins."""
        return True

    async def save(self, pin: Pin) -> None:
        """See Pins."""
        self.saved.append(pin)
