"""Servers: opens the MCP servers of agents for the agent loop, through the same gate that everybody passes."""

from __future__ import annotations

from dataclasses import dataclass

from arrowslit.agents.servers.door import Door
from arrowslit.agents.servers.handshake import shake_hands
from arrowslit.agents.servers.session import ServerSession
from arrowslit.principal import Principal
from arrowslit.tunnel import Calls


@dataclass(frozen=True, slots=True)
class Servers:
    """Made once. What is opened is the caller's to close."""

    calls: Calls

    async def open(self, principal: Principal, agent_id: str, server: str) -> ServerSession:
        """Begin to talk with the server of that name, for `principal` (whose tenant goes with every call).

        Raises Error if the server cannot be reached or may not be.
        """
        door = Door(self.calls, principal, agent_id, server)
        return ServerSession(door, await shake_hands(door))
