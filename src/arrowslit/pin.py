"""Pin: the definition of a tool that an agent was granted, as it was first seen or approved since; the port Pins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from arrowslit.errors import Error

MOST = 2000  # tools of one server that one agent has pins of, where the server was granted whole: it chooses how many


class PinState(StrEnum):
    """Whether a tool may be used as its server defines it now."""

    PINNED = "pinned"  # what the server shows is what is pinned
    CHANGED = "changed"  # it has shown something else; somebody has to approve that
    REFUSED = "refused"  # it has shown something that nobody can approve


@dataclass(frozen=True, slots=True)
class Seen:
    """A definition as a server showed it. `text` is its canonical JSON, `digest` the SHA-256 of that in hex.

    `at` is in Unix seconds. `refused` says why it cannot be approved, None if it can.
    """

    digest: str
    text: str
    at: float
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class Pin:
    """What one agent knows of the definition of one tool of one server.

    `approved` is the one that holds, None if the first that was seen had to be refused. `offered` is what the server
    has shown since: while there is one, the tool is off. `meanwhile` is what it has shown between those two and no
    longer shows, in the order in which it showed them last; each with when it was first seen. `approved_by` is the id
    of the key of whoever approved, None where nobody had to.
    """

    agent_id: str
    server: str
    tool: str
    approved: Seen | None
    offered: Seen | None = None
    approved_by: str | None = None
    meanwhile: tuple[Seen, ...] = ()

    @property
    def state(self) -> PinState:
        """Whether the tool may be used."""
        if self.offered is None:
            return PinState.PINNED
        return PinState.CHANGED if self.offered.refused is None else PinState.REFUSED


class Pins(Protocol):
    """Where definitions are kept. What is asked on the way of a call is answered from memory, without waiting."""

    def find(self, agent_id: str, server: str, tool: str) -> Pin | None:
        """The pin of a tool, None if no definition was seen so far."""
        ...

    def of(self, agent_id: str) -> Sequence[Pin]:
        """All pins of an agent, by server and tool."""
        ...

    def put(self, pin: Pin) -> bool:
        """Hold it in memory from now on; False, and nothing held, where the agent has too many of that server."""
        ...

    def has_room(self, agent_id: str, server: str) -> bool:
        """Whether one more tool of that server could be held."""
        ...

    async def save(self, pin: Pin) -> None:
        """Bring what memory holds of this tool to disk."""
        ...


def no_such_definition() -> Error:
    """What is said of a tool of which no definition was seen."""
    return Error(
        "definition_not_found",
        "no definition of such a tool was seen for this agent",
        hint="one is pinned when the tool is first listed or called: arrowslit tools AGENT SERVER",
    )
