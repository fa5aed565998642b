"""Speaking: the steps in which it is the model's turn: one request, and what follows from how it went."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from arrowslit.agent import OnUnknown
from arrowslit.agents.models.model import ModelFailed
from arrowslit.agents.models.retry import next_try
from arrowslit.agents.sessions.change import Change, Draft
from arrowslit.agents.sessions.state import RESCHEDULED, State
from arrowslit.agents.turns.answer import answered, span_end
from arrowslit.agents.turns.asking import Asking
from arrowslit.agents.turns.offer import Offer, offer
from arrowslit.agents.turns.silence import nothing_to_check_with, request_start, unlisted
from arrowslit.agents.turns.turn import given_up, model_error, out_of_time, seconds_left, session_error
from arrowslit.agents.turns.visit import Visit
from arrowslit.clock import Clock
from arrowslit.ids import RandomBytes
from arrowslit.session import Session

SHORT_WAIT = 3.0  # seconds until the model is asked again; longer ones are waited for without a lease
REQUEST_SECONDS = 600.0  # of one model request, as long as the official SDK would wait


@dataclass(frozen=True, slots=True)
class Speaking:
    """Lets the model speak. `asking` is None where no model is configured."""

    asking: Asking | None
    clock: Clock
    random: RandomBytes

    async def step(self, visit: Visit, session: Session) -> bool:
        """One model request, or the end of a turn that cannot make one. False if it is to be made later."""
        if self.asking is None:
            words = "this relay has no model: it was started without --model"
            await _give_up(visit, session_error("model_request_failed_error", words, code="no_model"))
            return True
        definition = session.definition
        listed = await visit.toolbox.list()
        offered = offer(definition, listed.tools, sandbox=session.environment_id is not None)
        errors = [unlisted(name, listed.failures[name], offered.missing) for name in sorted(listed.news)]
        missing = {name: listed.failures[name] for name in offered.missing}
        if missing and definition.on_unknown is OnUnknown.STOP:
            await visit.append(lambda state: nothing_to_check_with(state, definition, missing, *errors))
            return True
        span = visit.log.new_event_id()
        return await self._request(visit, self.asking, offered, span, (*errors, request_start(span, missing)))

    async def _request(
        self, visit: Visit, asking: Asking, offered: Offer, span: str, before: tuple[Draft, ...]
    ) -> bool:
        """Ask, between `before`, which ends with the event `span` that says when it begins, and how it ended."""
        start = Change(before)
        session, state = await visit.append(lambda _: start)
        definition = session.definition
        left = seconds_left(definition.limits, state.turn, self.clock.now())
        try:
            async with asyncio.timeout(min(left, REQUEST_SECONDS)):
                said = await asking.ask(session, state, offered)
        except ModelFailed as failure:
            return await self._failed(visit, state, span, failure)
        except TimeoutError:
            if left > REQUEST_SECONDS:
                words = f"the model had not come to an end of its answer after {REQUEST_SECONDS:g} seconds"
                return await self._failed(visit, state, span, ModelFailed("failed", words))
            await _give_up(visit, span_end(span, is_error=True), out_of_time(definition.limits))
            return True
        await asking.record_refused(session, state, [use.shown for use in said.uses if offered.find(use.shown) is None])
        await visit.append(lambda state: answered(state, definition, offered, span, said))
        return True

    async def _failed(self, visit: Visit, state: State, span: str, failure: ModelFailed) -> bool:
        """Ask again soon, or later without a lease, or no more. `state` is from before the request."""
        end = span_end(span, is_error=True)
        wait = next_try(failure, state.failures + 1, self.random)
        if wait is None:
            await _give_up(visit, end, model_error(failure, again=False))
            return True
        if wait <= SHORT_WAIT:
            await visit.append(lambda _: Change((end,)))
            await self.clock.sleep(wait)
            return True
        due = self.clock.now() + wait
        drafts = (end, model_error(failure, again=True), Draft(RESCHEDULED))
        await visit.append(lambda _: Change(drafts, revise=lambda session: replace(session, due=due)))
        return False


async def _give_up(visit: Visit, *drafts: Draft) -> None:
    await visit.append(lambda state: given_up(state, *drafts))
