"""House: what all conversations of one target share."""

from __future__ import annotations

from dataclasses import dataclass, field

from arrowslit.clock import Clock
from arrowslit.connector.targets.conversations.chores import Chores
from arrowslit.connector.targets.conversations.heartbeat import Heartbeat
from arrowslit.connector.targets.conversations.supply import Supply
from arrowslit.ids import RandomBytes


@dataclass(slots=True)
class Health:
    """What `status` is told about all servers of one target."""

    restarts: int = 0
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class House:
    """The servers that are started, time and chance, the tasks in the background, and how it all goes."""

    supply: Supply
    clock: Clock
    random: RandomBytes
    heartbeat: Heartbeat
    chores: Chores
    health: Health = field(default_factory=Health)
