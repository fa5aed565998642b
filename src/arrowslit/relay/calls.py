"""The way of a call: decide, record, carry. Everything that reaches a private server passes `Calls.call`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from types import TracebackType
from typing import Self

from arrowslit.clock import Clock
from arrowslit.edge.problem import Problem, mcp_problem
from arrowslit.errors import Error
from arrowslit.ids import RandomBytes, new_id
from arrowslit.outcome import Outcome
from arrowslit.pin import Pins
from arrowslit.policy.decide import Allow, Deny, decide
from arrowslit.principal import Grants, Principal
from arrowslit.protocol import jsonrpc, mcp
from arrowslit.record import CallLedger, Fields
from arrowslit.relay import records, ticketing
from arrowslit.relay.admission import Admission
from arrowslit.relay.callers import Caller, Callers
from arrowslit.relay.carriage import Carriage, Conclusion, Ticket, too_late_to_start
from arrowslit.relay.deadline import Deadline, Deadlines
from arrowslit.relay.definitions import Definitions
from arrowslit.relay.heads import Said, said
from arrowslit.relay.hub import Hub
from arrowslit.relay.looking import Look
from arrowslit.relay.pending import Key, Pending
from arrowslit.relay.sessions import Seal, Session
from arrowslit.tunnel import Answer, Exchange, Tunnels

log = logging.getLogger(__name__)


class Calls:
    """Fulfils the port Calls. Enter it before use: what a caller who left still has coming is finished at its exit."""

    def __init__(
        self,
        *,
        grants: Grants,
        tunnels: Tunnels,
        hub: Hub,
        ledger: CallLedger,
        admission: Admission,
        seal: Seal,
        denials: records.Denials,
        pins: Pins,
        clock: Clock,
        random: RandomBytes,
    ) -> None:
        self._hub = hub
        self._ledger = ledger
        self._admission = admission
        self._denials = denials
        self._clock = clock
        self._random = random
        self._pending = Pending()
        self._deadlines = Deadlines()
        self._last_words = asyncio.TaskGroup()
        self._definitions = Definitions(pins, hub, ledger, clock, self._last_words.create_task)
        self._callers = Callers(grants, tunnels, hub, seal, self._definitions)
        self._looking: dict[tuple[str, str], asyncio.Lock] = {}  # by agent and server: one look at a time

    async def __aenter__(self) -> Self:
        await self._last_words.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pending.close()
        await self._last_words.__aexit__(kind, error, trace)

    async def call(self, principal: Principal, agent: str, server: str, exchange: Exchange, answer: Answer) -> None:
        """Carry one exchange. Raises Error for a request that never became a call; then nothing was answered."""
        caller = self._callers.find(principal, agent, server)
        match exchange.method:
            case "POST":
                await self._post(caller, exchange, answer)
            case "GET" | "DELETE":
                await self._session_exchange(caller, exchange, answer)
            case _:
                raise Error("method_not_supported", "this is an MCP endpoint", hint="it takes POST, GET and DELETE")

    # ------------------------------------------------------------ messages

    async def _post(self, caller: Caller, exchange: Exchange, answer: Answer) -> None:
        arrived = _now()
        heard = said(exchange.headers)
        asked = _peek(exchange, heard)
        session = self._session(caller, heard, asked)
        verdict = self._decide(caller, asked)
        if isinstance(verdict, Deny):
            await self._deny(caller, exchange, asked, verdict, answer)
            return
        ticket = ticketing.of_message(
            caller,
            asked,
            heard,
            self._definitions,
            call_id=self._call_id(exchange),
            session=session,
            arrived=arrived,
        )
        try:
            await self._admission.enter(caller.principal.tenant, caller.tunnel.id, ticket.until)
        except TimeoutError:
            await self._never_sent(caller, asked, ticket, answer)
            return
        try:
            await self._admitted(caller, asked, session, ticket, answer)
        finally:
            self._admission.leave(caller.principal.tenant, caller.tunnel.id)

    async def _admitted(
        self, caller: Caller, asked: mcp.Asked, session: Session | None, ticket: Ticket, answer: Answer
    ) -> None:
        if ticket.expects is None:  # a notification or a response: nobody waits for more than "taken"
            _say(answer, ticket, await self._carry(ticket, answer))
            return
        carriage = Carriage(self._hub, self._deadlines, ticket, answer)
        try:
            await self._ledger.append("asked", self._asked(caller, asked, ticket))
            unfit = await self._look(caller, asked, ticket) if not self._is_known(caller, asked) else None
            conclusion = unfit or await carriage.run()
        except asyncio.CancelledError:  # what was asked is on record by now, whether or not it left
            self._last_words.create_task(self._caller_left(ticket, carriage))
            raise
        except Error as error:  # it could not be recorded, so it does not happen
            _say(answer, ticket, Conclusion.failed(error))
            return
        _say(answer, ticket, conclusion)
        if conclusion.left_open_until is not None and session is not None:
            self._leave_open(caller, ticket, session, conclusion.left_open_until)
        else:
            self._record(ticket, conclusion)

    async def _never_sent(self, caller: Caller, asked: mcp.Asked, ticket: Ticket, answer: Answer) -> None:
        """Its time passed in line. It was asked, and the ledger says so, and that nothing came of it."""
        conclusion = Conclusion.failed(too_late_to_start())
        if ticket.expects is not None:
            try:
                await self._ledger.append("asked", self._asked(caller, asked, ticket))
            except Error as error:
                conclusion = Conclusion.failed(error)
            else:
                self._record(ticket, conclusion)
        _say(answer, ticket, conclusion)

    def _asked(self, caller: Caller, asked: mcp.Asked, ticket: Ticket) -> Fields:
        return records.asked(caller.principal, caller.grant, asked, ticket, self._ledger.digest(ticket.body))

    def _decide(self, caller: Caller, asked: mcp.Asked) -> Allow | Deny:
        """What was granted, and of a tool whether its definition is still the one that was."""
        verdict = decide(caller.grant, caller.tunnel, caller.principal.tenant, asked)
        if isinstance(verdict, Deny) or asked.tool is None:
            return verdict
        return self._definitions.decide(caller.grant, asked.tool)

    def _is_known(self, caller: Caller, asked: mcp.Asked) -> bool:
        return asked.tool is None or self._definitions.are_known(caller.grant)

    async def _look(self, caller: Caller, asked: mcp.Asked, ticket: Ticket) -> Conclusion | None:
        """Have the server list its tools before it is called. How the call ends, if that shows that it may not be."""
        grant = caller.grant
        lock = self._looking.setdefault((grant.agent_id, grant.server.name), asyncio.Lock())
        try:
            with Deadline(self._deadlines, ticket.until):
                await lock.acquire()  # the looks of others, each of which may take its time
        except TimeoutError:
            return Conclusion.failed(too_late_to_start())
        try:
            unfit = None if self._is_known(caller, asked) else await self._list(caller, asked, ticket)
        finally:
            lock.release()
        if unfit is not None:
            return Conclusion.failed(unfit)
        verdict = self._decide(caller, asked)
        if isinstance(verdict, Deny):
            return Conclusion.failed(Error(verdict.code, verdict.message, hint=verdict.hint))
        return None

    async def _list(self, caller: Caller, asked: mcp.Asked, ticket: Ticket) -> Error | None:
        """Ask for the list. Why the call may not follow: it cannot be recorded, or the list did not reach the tool."""
        grant = caller.grant
        look = Look(
            ticket=ticket,
            asked=asked,
            shows=self._definitions.shows(grant),
            carry=self._carry,
            new_id=lambda: new_id("call", self._random),
            facts=caller.facts,
            aliases=ticketing.ALIASES,
        )
        try:
            await self._ledger.append("listed", records.listed(caller.principal, grant, ticket))
        except Error as unavailable:
            return unavailable
        moment = self._definitions.moment(grant)
        try:
            is_known = await look.run()
        except Error as unseen:
            return unseen
        if is_known:
            self._definitions.listed(grant, moment)
        return None

    def _call_id(self, exchange: Exchange) -> str:
        return exchange.call_id or new_id("call", self._random)

    # ------------------------------------------------------------ streams and the end of sessions

    async def _session_exchange(self, caller: Caller, exchange: Exchange, answer: Answer) -> None:
        """GET (server-sent events, which may replay lists) and DELETE: no message, so nothing to decide but the
        caller.
        """
        verdict = decide(caller.grant, caller.tunnel, caller.principal.tenant, None)
        if isinstance(verdict, Deny):
            raise Error(verdict.code, verdict.message, hint=verdict.hint)
        heard = said(exchange.headers)
        if exchange.method == "GET":
            _check_accept(heard)
        try:
            mcp.check_version(mcp.routing_headers(exchange.headers))
        except jsonrpc.Refused as refused:
            raise Error(refused.code, refused.message) from refused
        session = self._session(caller, heard, None)
        if heard.resumes is not None and session is None:
            raise Error(
                "session_not_found", "events are sent again within a session only", hint="send initialize again"
            )
        ticket = ticketing.of_session(
            caller,
            exchange.method,
            heard,
            self._definitions,
            call_id=self._call_id(exchange),
            session=session,
            arrived=_now(),
            on_answer=self._late_answers(caller, session),
        )
        conclusion = await self._carry(ticket, answer)
        if conclusion.reply is not None and conclusion.begun:
            conclusion.reply.close()  # a client opens such a stream again
        elif conclusion.error is not None:
            raise conclusion.error

    async def _carry(self, ticket: Ticket, answer: Answer) -> Conclusion:
        """Carry what no record is kept of. If the caller leaves, the connector is told to give up."""
        carriage = Carriage(self._hub, self._deadlines, ticket, answer)
        try:
            return await carriage.run()
        except asyncio.CancelledError:
            self._last_words.create_task(carriage.last_word())
            raise

    def _late_answers(self, caller: Caller, session: Session | None) -> Callable[[jsonrpc.Id], None] | None:
        if session is None:
            return None
        server = caller.grant.server
        return lambda request_id: self._pending.seen(Key(server.tunnel_id, server.target, session, request_id))

    # ------------------------------------------------------------ endings

    async def _deny(self, caller: Caller, exchange: Exchange, asked: mcp.Asked, verdict: Deny, answer: Answer) -> None:
        error = Error(verdict.code, verdict.message, hint=verdict.hint)
        call_id = self._call_id(exchange)
        if self._denials.worth_recording(caller.principal.id, self._clock.monotonic()):
            skipped = self._denials.skipped(caller.principal.id)
            fields = records.denied(caller.principal, caller.grant, asked, call_id, verdict, skipped)
            try:
                await self._ledger.append("denied", fields)
            except Error as unavailable:
                error = unavailable
        problem = mcp_problem(error, asked.message.id, call_id=call_id)
        _whole(answer, problem)

    async def _caller_left(self, ticket: Ticket, carriage: Carriage) -> None:
        """The caller hung up, or its key was revoked: the connector's last word decides what may be claimed."""
        self._record(ticket, await carriage.last_word())

    def _leave_open(self, caller: Caller, ticket: Ticket, session: Session, until: float) -> None:
        def conclude(outcome: Outcome) -> None:
            conclusion = Conclusion(
                outcome, reason="answered on another stream" if outcome is Outcome.RESULT else "no answer"
            )
            self._record(ticket, conclusion)

        assert ticket.expects is not None
        key = Key(ticket.tunnel_id, ticket.target, session, ticket.expects)
        self._pending.leave_open(key, until, conclude, owner=(caller.principal.tenant, ticket.tunnel_id))

    def _record(self, ticket: Ticket, conclusion: Conclusion) -> None:
        self._ledger.note("outcome", records.outcome(ticket, conclusion, _now() - ticket.began))

    # ------------------------------------------------------------ sessions

    def _session(self, caller: Caller, heard: Said, asked: mcp.Asked | None) -> Session | None:
        """The session that the request names. Its id is good for the caller that it was given to, and nobody else."""
        text = heard.session
        if asked is not None and asked.message.kind is jsonrpc.Kind.RESPONSE and text is None:
            raise Error("unexpected_response", "a response was posted outside of any session")
        if text is None or (asked is not None and asked.era is mcp.Era.MODERN):
            return None  # the modern era has no sessions and says: ignore the header
        return self._callers.session(caller, text)


def _now() -> float:
    """Loop time."""
    return asyncio.get_running_loop().time()


def _peek(exchange: Exchange, heard: Said) -> mcp.Asked:
    """One strict reading; what JSON-RPC refuses becomes an Error that carries the id where it could be read."""
    if not heard.json:
        raise Error(
            "media_type_unsupported", "a message is application/json", hint="send content-type: application/json"
        )
    _check_accept(heard)
    try:
        return mcp.peek(jsonrpc.read(exchange.body), exchange.headers)
    except jsonrpc.Refused as refused:
        raise Error(refused.code, refused.message, jsonrpc_id=refused.id) from refused


def _check_accept(heard: Said) -> None:
    if not heard.acceptable:
        hint = "send accept: application/json, text/event-stream"
        raise Error("not_acceptable", "an answer is JSON or server-sent events", hint=hint)


def _say(answer: Answer, ticket: Ticket, conclusion: Conclusion) -> None:
    """Tell the caller how the call ended, in the only form that every MCP client hands on: 200 with an error."""
    if conclusion.error is None:
        return
    problem = mcp_problem(conclusion.error, ticket.expects, call_id=ticket.call_id)
    if conclusion.reply is not None and conclusion.begun:
        conclusion.reply.fail(problem.body)
    else:
        _whole(answer, problem)


def _whole(answer: Answer, problem: Problem) -> None:
    answer.whole(problem.status, problem.headers, problem.body)
