"""Visit: one stay of the relay with a session, under a lease that nobody else has, with the servers it opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from arrowslit.agents.sessions.change import Change
from arrowslit.agents.sessions.log import Log
from arrowslit.agents.sessions.state import State
from arrowslit.agents.turns.toolbox import Toolbox
from arrowslit.session import Lease, Session


@dataclass(frozen=True, slots=True)
class Visit:
    """What a step works with. Whatever it appends counts only while the lease does."""

    log: Log
    lease: Lease
    toolbox: Toolbox

    async def read(self) -> tuple[Session, State]:
        """The session as it is now."""
        return await self.log.read(self.lease.session_id)

    async def append(self, decide: Callable[[State], Change]) -> tuple[Session, State]:
        """Append what `decide`, which is pure, says of the state as it is; the session after it. Raises LeaseLost."""
        changed = await self.log.change(self.lease.session_id, lambda _, state: decide(state), lease=self.lease)
        return changed.session, changed.state
