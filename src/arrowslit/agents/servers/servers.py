"""Servers: opens the MCP servers of agents for the agent loop, through the same gate that everybody passes."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from arrowslit.agents.servers.door import Door
from arrowslit.agents.servers.handshake import shake_hands
from arrowslit.agents.servers.session import ServerSession
from arrowslit.clock import Clock
from arrowslit.errors import Error
from arrowslit.principal import Principal
from arrowslit.tunnel import Calls

REMEMBERED = 600.0  # seconds; a server that was made a modern one is spoken to as such ten minutes later
MOST = 1000


@dataclass(frozen=True, slots=True)
class Servers:
    """Made once. What is opened is the caller's to close.

    A server that was found to be of the legacy era is not asked for its era again for a while: one that never answers
    that question would take its time each turn.
    """

    calls: Calls
    clock: Clock
    _legacy: OrderedDict[tuple[str, str], float] = field(default_factory=OrderedDict)  # until when, monotonic

    async def open(self, principal: Principal, agent_id: str, server: str) -> ServerSession:
        """Begin to talk with the server of that name, for `principal` (whose tenant goes with every call).

        Raises Error if the server cannot be reached or may not be.
        """
        door, key = Door(self.calls, principal, agent_id, server), (agent_id, server)
        known = self.clock.monotonic() < self._legacy.get(key, 0.0)
        try:
            speech = await shake_hands(door, probe=not known)
        except Error:
            self._legacy.pop(key, None)  # it may have become another one
            raise
        if not speech.modern and not known:
            self._legacy[key] = self.clock.monotonic() + REMEMBERED
            if len(self._legacy) > MOST:
                self._legacy.popitem(last=False)
        return ServerSession(door, speech)
