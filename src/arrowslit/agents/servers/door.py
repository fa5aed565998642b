"""Door: where one agent reaches one server, and on whose behalf."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from arrowslit.agents.servers.reading import ServerError
from arrowslit.errors import Error
from arrowslit.principal import Principal
from arrowslit.tunnel import Answer, Calls, Exchange

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Door:
    """The gate, and who stands before it."""

    calls: Calls
    principal: Principal
    agent_id: str
    server: str

    async def carry(self, exchange: Exchange, answer: Answer) -> None:
        """One exchange. Raises Error for what never became a call."""
        await self.calls.call(self.principal, self.agent_id, self.server, exchange, answer)

    def refused(self, method: str, said: ServerError) -> Error:
        """Why there is no going on after a server has said no. Its own words stay in the log."""
        log.warning("the server %s answered %s with: %s", self.server, method, said.message[:1000])
        number = f"error {said.code}" if said.code is not None else f"status {said.status}"
        return Error(
            "target_failed",
            f"the server {self.server} answered {method} with {number}",
            hint="its own words are in the relay's log",
        )
