"""Calling: the steps in which tools of MCP servers are called, several at once, and none of them twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from arrowslit.agents.servers.tool import ToolAnswer, failed, text
from arrowslit.agents.sessions.change import Change, Draft
from arrowslit.agents.sessions.closing import begun
from arrowslit.agents.sessions.state import Call, State
from arrowslit.agents.turns.silence import ends_the_turn, fall_silent, in_doubt, result
from arrowslit.agents.turns.toolbox import ServerSession
from arrowslit.agents.turns.turn import given_up
from arrowslit.agents.turns.visit import Visit
from arrowslit.clock import Clock
from arrowslit.errors import Error
from arrowslit.ids import RandomBytes, new_id
from arrowslit.outcome import Outcome
from arrowslit.session import LeaseLost, Session

AT_ONCE = 8  # calls of one session
CALL_AGAIN = (0.5, 1.0, 2.0)  # seconds until a call that was not delivered, so certainly not executed, is tried again


@dataclass(frozen=True, slots=True)
class Calling:
    """Makes the calls that one answer of the model asked for, or as many as nobody has made before.

    `live` says whether the session's principal still opens a door. The turn has until `deadline`, in seconds of the
    running loop's time.
    """

    visit: Visit
    session: Session
    live: Callable[[], bool]
    deadline: float
    clock: Clock
    random: RandomBytes
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    unknown: list[tuple[Call, ToolAnswer]] = field(default_factory=list)

    async def step(self, calls: Sequence[Call], obstacle: Draft | None) -> None:
        """Append a result for each call as soon as it is there, unless it ends the turn: then all is appended at once.

        A call that may have left before, in a process that died, is not made again. With an `obstacle` the turn ends
        before the others. Raises LeaseLost.
        """
        left = await self.visit.log.sessions.dispatched(self.session.id, [call.id for call in calls])
        fresh = [call for call in calls if call.id not in left]
        for call in calls:
            if call.id in left:
                await self._settle(call, in_doubt(left[call.id], revoked=not self.live()))
        if obstacle is None:
            await self._make_all(fresh)
        if self.unknown:
            unknown = sorted(self.unknown, key=lambda each: each[0].seq)
            before = [] if obstacle is None else [obstacle]
            await self.visit.append(
                lambda state: fall_silent(state, self.session.definition, unknown, *before, begun=self._begun(state))
            )
        elif obstacle is not None and fresh:
            await self.visit.append(lambda state: given_up(state, obstacle, dispatched=self._begun(state)))

    async def _make_all(self, calls: Sequence[Call]) -> None:
        lost: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                for call in calls:
                    tasks.create_task(self._make(call))
        except* LeaseLost as group:
            lost = group
        if lost is not None:
            raise LeaseLost from lost

    async def _make(self, call: Call) -> None:
        """Call, and once more if it was not delivered, a few times. Nothing else is ever tried again (P4)."""
        async with self.slots:
            for wait in CALL_AGAIN:
                answer = await self._once(call)
                if answer.outcome is not Outcome.NOT_DELIVERED or self._now() + wait >= self.deadline:
                    break
                await self.clock.sleep(wait)
            else:
                answer = await self._once(call)
        await self._settle(call, answer)

    async def _once(self, call: Call) -> ToolAnswer:
        """One attempt. That it leaves is noted before it does, so that nobody makes it again after a crash."""
        call_id = new_id("call", self.random)
        try:
            server = await self._reach(call.server or "")
        except Error as error:
            return failed(_not_called(error), call_id)
        await self.visit.log.sessions.mark_dispatched(self.visit.lease, {call.id: call_id})
        try:
            async with asyncio.timeout_at(self.deadline):
                return await server.call(call.name, call.input, call_id=call_id)
        except TimeoutError:
            words = "the turn ran out of time while this call was under way"
            return ToolAnswer(Outcome.OUTCOME_UNKNOWN, (text(words),), True, call_id, "outcome_unknown", words)

    async def _reach(self, server: str) -> ServerSession:
        if not self.live():
            raise Error("unauthenticated", "the key that this session belongs to was revoked or has expired")
        try:
            async with asyncio.timeout_at(self.deadline):
                return await self.visit.toolbox.server(server)
        except TimeoutError as error:
            raise Error("not_started", "the turn ran out of time before this call") from error

    async def _settle(self, call: Call, answer: ToolAnswer) -> None:
        """Append the result, or keep it for the end of the turn that it brings."""
        if ends_the_turn(self.session.definition, answer):
            self.unknown.append((call, answer))
            return
        draft = result(call, answer)
        await self.visit.append(lambda _: Change((draft,)))

    def _begun(self, state: State) -> Mapping[str, str]:
        """Sandbox calls that a worker may be at."""
        return begun(state, self.visit.log.seen_by_worker(self.session.id))

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _not_called(error: Error) -> Error:
    """Why a call never left. What became of the handshake before it is nothing to claim of the call."""
    if error.row.outcome in (None, Outcome.DENIED, Outcome.NOT_DELIVERED):
        return error
    return Error("not_started", error.message, hint=error.hint)
