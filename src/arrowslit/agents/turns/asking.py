"""Asking: one request to the model. It is in the ledger before it leaves; what comes back is shown as it comes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from arrowslit.agents.models.model import Block, Finished, Model, ModelFailed, Prepared, TextDelta
from arrowslit.agents.sessions.frames import Preview
from arrowslit.agents.sessions.log import Log
from arrowslit.agents.sessions.state import State
from arrowslit.agents.turns.answer import Said, Use
from arrowslit.agents.turns.context import MAX_BYTES, carried, model_request
from arrowslit.agents.turns.offer import Offer, meant
from arrowslit.errors import Error
from arrowslit.policy.decide import echo
from arrowslit.record import Ledger
from arrowslit.session import Event, EventFilter, Session

MAX_TOKENS = 8192  # of one answer: as many as any model of the last years can say at once
MAX_ANSWER = 4 << 20  # characters: a hundred times what a model says at once; one that never ends ends here
PAGE = 1000  # events that are read at once
MOST_REFUSED = 5  # calls of tools that were not offered, of one turn, that are recorded

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Asking:
    """Asks the model for any session. `max_context` is the largest body of a request, in bytes."""

    model: Model
    ledger: Ledger
    log: Log
    max_context: int = MAX_BYTES

    async def ask(self, session: Session, state: State, offered: Offer) -> Said:
        """One attempt. Raises ModelFailed; then nothing of it counts."""
        events = await self._events(session)
        made = state.turn.output_tokens if state.turn else 0
        tokens = max(1, min(MAX_TOKENS, session.definition.limits.output_tokens - made))
        request = model_request(session, events, offered, turn=state.model_requests, max_tokens=tokens)
        prepared = self.model.prepare(request)
        if len(prepared.body) > self.max_context:
            words = f"this conversation has become too long: {len(prepared.body)} bytes of at most {self.max_context}"
            raise ModelFailed("context_too_long", words)
        await self._record(session, prepared, events)
        answer = _Answer(self.log.new_event_id, lambda preview: self.log.preview(session.id, preview))
        async with aclosing(self.model.ask(prepared)) as pieces:
            async for piece in pieces:
                match piece:
                    case TextDelta():
                        answer.delta(piece)
                    case Block():
                        answer.block(piece)
                    case Finished():
                        return answer.said(piece)
        raise ModelFailed("failed", "the model's answer has no end")

    async def record_refused(self, session: Session, state: State, names: Sequence[str]) -> None:
        """The model named tools that it was not offered. If a record fails, that changes nothing: none is called."""
        made = state.turn.refused if state.turn else 0
        for shown in names[: max(0, MOST_REFUSED - made)]:
            _, server, name = meant(session.definition, shown)
            facts = {
                "session": session.id,
                "principal": session.principal_id,
                "tenant": session.tenant,
                "agent": session.agent_id,
                "agent_version": session.agent_version,
                "server": server,
                "tool": echo(name),
                "code": "tool_not_allowed",
            }
            try:
                await self.ledger.append("denied", facts)
            except Error as error:
                _log.warning("session %s: a refused call could not be recorded: %s", session.id, error)

    async def _events(self, session: Session) -> Sequence[Event]:
        """All events of the session, in order."""
        events: list[Event] = []
        while True:
            which = EventFilter(after=events[-1].seq if events else 0, limit=PAGE)
            page = await self.log.sessions.events(session.id, which)
            events += page
            if len(page) < PAGE:
                return events

    async def _record(self, session: Session, prepared: Prepared, events: Sequence[Event]) -> None:
        facts = {
            "session": session.id,
            "principal": session.principal_id,
            "tenant": session.tenant,
            "agent": session.agent_id,
            "agent_version": session.agent_version,
            **prepared.facts,
            "body_digest": self.ledger.digest(prepared.body),
            "tools": [tool["name"] for tool in prepared.request.tools],
            "scripted": self.model.facts.get("scripted") is True,
            "tool_results": [{"event": each.event_id, "call": each.call_id} for each in carried(events)],
        }
        try:
            await self.ledger.append("model_request", facts)
        except Error as error:
            words = f"the request could not be recorded, so it was not sent ({error.code})"
            raise ModelFailed("failed", words) from error


class _Answer:
    """What has come so far."""

    def __init__(self, new_event_id: Callable[[], str], show: Callable[[Preview], None]) -> None:
        self._new_event_id = new_event_id
        self._show = show
        self._message_id = new_event_id()  # before the first piece, which names it
        self._texts: dict[int, int] = {}  # index of a block in the answer → in the message, which has no other blocks
        self._words: list[str] = []
        self._uses: list[Use] = []
        self._size = 0

    def delta(self, delta: TextDelta) -> None:
        """More of a text."""
        self._count(len(delta.text))
        if not self._texts:
            self._show(Preview(self._message_id))
        index = self._texts.setdefault(delta.index, len(self._texts))
        self._show(Preview(self._message_id, text=delta.text, index=index))

    def block(self, block: Block) -> None:
        """A block is whole."""
        match block.block:
            case {"type": "text", "text": str(words)} if words:
                self._words.append(words)
            case {"type": "tool_use", "name": str(name), "input": dict(given)}:
                self._count(len(name) + len(repr(given)))
                self._uses.append(Use(self._new_event_id(), name, given))

    def said(self, finished: Finished) -> Said:
        """The whole."""
        return Said(self._message_id, tuple(self._words), tuple(self._uses), finished.stop_reason, finished.usage)

    def _count(self, characters: int) -> None:
        self._size += characters
        if self._size > MAX_ANSWER:
            raise ModelFailed("malformed", f"the model's answer is longer than {MAX_ANSWER} characters")
