"""/v1/sessions/{id}/events: what happened in a session, sending more, and following it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, field
from starlette.requests import Request
from starlette.routing import Route

from arrowslit.agents.api.pages import PageQuery, page_of, window
from arrowslit.agents.api.reading import read_query
from arrowslit.agents.api.resource import INVOKERS, WORKERS, Doorkeeper, Method, caller
from arrowslit.agents.api.schema import Moment, end_of, start_of
from arrowslit.agents.api.sending import SendBody, as_sent, read_sent
from arrowslit.agents.api.visible import present, visible
from arrowslit.agents.sessions import inbox
from arrowslit.agents.sessions.change import Change
from arrowslit.agents.sessions.ending import end_calls
from arrowslit.agents.sessions.frames import shown
from arrowslit.agents.sessions.inbox import RESULTS, Sender, SentEvent
from arrowslit.agents.sessions.log import Changed, Log
from arrowslit.agents.sessions.state import State
from arrowslit.clock import Clock
from arrowslit.policy.decide import echo
from arrowslit.principal import Principal, Scope
from arrowslit.record import Ledger
from arrowslit.session import Event, EventFilter, Session
from arrowslit.work import Worker

_RESULT_TYPES = (*RESULTS, "agent.tool_result", "agent.mcp_tool_result")


class EventsQuery(PageQuery):
    """GET /v1/sessions/{id}/events. Bounds of time are on `processed_at`."""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    order: Literal["asc", "desc"] = "asc"
    types: Annotated[list[Annotated[str, Meta(max_length=64)]], Meta(max_length=64)] = field(
        default_factory=list, name="types[]"
    )
    after: Moment | None = field(default=None, name="created_at[gt]")
    since: Moment | None = field(default=None, name="created_at[gte]")
    before: Moment | None = field(default=None, name="created_at[lt]")
    until: Moment | None = field(default=None, name="created_at[lte]")


@dataclass(frozen=True, slots=True)
class EventsApi:
    """The handlers."""

    log: Log
    ledger: Ledger
    clock: Clock

    def routes(self, keeper: Doorkeeper) -> list[Route]:
        """The path of this resource."""
        missing = ("session_not_found",)
        listing = Method(
            self.list,
            INVOKERS | WORKERS,
            query=EventsQuery,
            answer="EventPage",
            errors=(*missing, "cursor_invalid"),
        )
        sending = Method(
            self.send,
            INVOKERS | WORKERS,
            body=SendBody,
            answer="SentEvents",
            errors=(*missing, "session_terminated", "tool_use_not_found", "rate_limited", "ledger_unavailable"),
        )
        return [keeper.resource("/v1/sessions/{session_id}/events", get=listing, post=sending)]

    async def list(self, request: Request) -> object:
        """A page of events, in the order in which they happened unless asked otherwise."""
        who = caller(request)
        present(who)
        query = read_query(request, EventsQuery)
        session, _ = await visible(request, self.log)
        part = window(request, query)
        which = EventFilter(
            after=int(part.position[0]) if part.position else 0,
            types=query.types,
            processed_after=end_of(query.after),
            processed_since=start_of(query.since),
            processed_before=start_of(query.before),
            processed_until=end_of(query.until),
            newest_first=query.order == "desc",
            limit=part.limit + 1,
        )
        found = await self.log.sessions.events(session.id, which)
        if isinstance(who, Worker) and found:
            self.log.served_to_worker(session.id, max(event.seq for event in found))
        return page_of(request, part, found, lambda event: (float(event.seq), ""), shown)

    async def send(self, request: Request) -> object:
        """Add events, all or none, and answer each as it is stored now."""
        who = caller(request)
        is_worker = isinstance(who, Worker)
        body = await read_sent(request, from_worker=is_worker)
        sent = as_sent(body.events, self.log.new_event_id)
        session, _ = await visible(request, self.log)
        sender = Sender(may_confirm=not isinstance(who, Worker) and who.may(Scope.CONFIRM), worker=is_worker)
        if isinstance(who, Principal):
            await self._record_confirmations(session, sent, sender, who)
        changed = await self._change(session, sent, sender)
        stored = {event.id: event for event in changed.events}
        answer = []
        for each in sent:
            event = stored.get(each.id)
            if event is None:
                event = await self._known(session.id, changed.state, each)
                if isinstance(who, Worker) and who.late:
                    await self._record_late(session, each, event, who)
            answer.append(shown(event))
        return {"data": answer}

    async def _change(self, session: Session, sent: Sequence[SentEvent], sender: Sender) -> Changed:
        def decide(_: Session, state: State, left: Mapping[str, str]) -> Change | None:
            return inbox.send(state, sent, sender, self.clock.now(), dispatched=left)

        if not any(each.type == "user.interrupt" for each in sent):
            return await self.log.change(session.id, lambda session, state: decide(session, state, {}))
        _, state = await self.log.read(session.id)
        inbox.send(state, sent, sender, self.clock.now())  # what is refused disturbs no turn
        return await end_calls(self.log, session.id, decide)

    async def _record_confirmations(
        self, session: Session, sent: Sequence[SentEvent], sender: Sender, who: Principal
    ) -> None:
        """Who confirmed what is in the ledger before the call may leave; what cannot be recorded is refused."""
        _, state = await self.log.read(session.id)
        inbox.send(state, sent, sender, self.clock.now())  # what is refused is nobody's confirmation
        for event in sent:
            call = state.call(event.call_id) if event.type == "user.tool_confirmation" else None
            if call is None or event.call_id in state.confirmations:
                continue
            facts = {
                "session": session.id,
                "event": call.id,
                "tool": echo(call.name),
                "server": call.server,
                "result": event.body.get("result"),
                "principal": who.id,
                "tenant": who.tenant,
            }
            await self.ledger.append("confirmed", facts)

    async def _known(self, session_id: str, state: State, sent: SentEvent) -> Event:
        """The stored event in whose place `sent` came again or too late: one of the newest, as a rule."""
        wanted = inbox.stands_for(state, sent)
        types = _RESULT_TYPES if sent.type in RESULTS else (sent.type,)
        before = 0
        while True:
            which = EventFilter(after=before, types=types, newest_first=True, limit=100)
            for event in await self.log.sessions.events(session_id, which):
                if event.id == wanted:
                    return event
                before = event.seq

    async def _record_late(self, session: Session, sent: SentEvent, known: Event, who: Worker) -> None:
        """What a lost worker found after its call was closed stays out of the session, and is not lost."""
        if known.body == sent.body:
            return  # it only says again what it said in time
        content = msgspec.json.encode(sent.body)
        await self.ledger.append(
            "late_result",
            {
                "session": session.id,
                "event": sent.call_id,
                "worker": who.id,
                "bytes": len(content),
                "digest": self.ledger.digest(content),
            },
        )
