"""Loop: takes a session further, one step at a time: let the model speak, or call the tools that it asked for.

Everything that happens is an event before it counts, under a lease that only one holder has, and nothing is kept beside
the log. So a process may die anywhere: whoever comes next reads the log and goes on. A model request that was under way
is made again; a call that may have left is not, and its end is unknown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from arrowslit.agents.models.model import Model
from arrowslit.agents.sessions.change import Change, Draft
from arrowslit.agents.sessions.log import Log
from arrowslit.agents.sessions.state import RUNNING, AskModel, Call, RunCalls, State, next_step
from arrowslit.agents.turns.asking import Asking
from arrowslit.agents.turns.calling import Calling
from arrowslit.agents.turns.context import MAX_BYTES
from arrowslit.agents.turns.speaking import Speaking
from arrowslit.agents.turns.toolbox import Kept, Servers, Toolbox
from arrowslit.agents.turns.turn import given_up, limit, seconds_left, session_error
from arrowslit.agents.turns.visit import Visit
from arrowslit.clock import Clock
from arrowslit.ids import RandomBytes
from arrowslit.record import Ledger
from arrowslit.session import Lease, Session, SessionStatus


class Loop:
    """Made once, for all sessions. `live` says whether the principal of that id still opens a door."""

    def __init__(
        self,
        *,
        log: Log,
        model: Model | None,
        servers: Servers,
        ledger: Ledger,
        live: Callable[[str], bool],
        clock: Clock,
        random: RandomBytes,
        max_context: int = MAX_BYTES,
    ) -> None:
        self._log = log
        self._servers = servers
        self._live = live
        self._clock = clock
        self._random = random
        self._kept = Kept()
        asking = None if model is None else Asking(model, ledger, log, max_context)
        self._speaking = Speaking(asking, clock, random)

    async def take_further(self, lease: Lease, go_on: Callable[[], bool] = lambda: True) -> None:
        """Do what there is to do, until somebody else has the next step or `go_on`, asked before each, says no.

        Raises LeaseLost. May be cancelled anywhere: the log is then as it would be after a crash.
        """
        session, _ = await self._log.read(lease.session_id)
        async with Toolbox(self._servers, self._kept, session, self._clock) as toolbox:
            visit = Visit(self._log, lease, toolbox)
            while go_on() and await self._step(visit):
                pass

    async def _step(self, visit: Visit) -> bool:
        """One step. False when there is nothing more to do now."""
        session, state = await visit.read()
        match next_step(state):
            case AskModel():
                return await self._ask(visit, session, state)
            case RunCalls(calls):
                await self._run(visit, session, state, calls)
                return True
            case _:
                return False

    async def _ask(self, visit: Visit, session: Session, state: State) -> bool:
        if session.status is SessionStatus.RESCHEDULING:
            if session.due > self._clock.now():
                return False
            await visit.append(lambda _: Change((Draft(RUNNING),)))
            return True
        obstacle = self._obstacle(session, state)
        if obstacle is not None:
            await visit.append(lambda state: given_up(state, obstacle))
            return True
        return await self._speaking.step(visit, session)

    async def _run(self, visit: Visit, session: Session, state: State, calls: Sequence[Call]) -> None:
        left = seconds_left(session.definition.limits, state.turn, self._clock.now())
        deadline = asyncio.get_running_loop().time() + left
        calling = Calling(visit, session, lambda: self._live(session.principal_id), deadline, self._clock, self._random)
        await calling.step(calls, self._obstacle(session, state))

    def _obstacle(self, session: Session, state: State) -> Draft | None:
        """Why the turn may not go on, as the error that ends it; None if it may."""
        if not self._live(session.principal_id):
            words = "the key that this session belongs to was revoked or has expired"
            return session_error("unknown_error", words, code="unauthenticated")
        return limit(session.definition.limits, state.turn, self._clock.now()) if state.turn else None
