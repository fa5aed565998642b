"""The way of a call: decide, record, carry. Everything that reaches a private server passes `Calls.call`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Self

import msgspec

from arrowslit.clock import Clock
from arrowslit.edge.problem import Problem, mcp_problem
from arrowslit.errors import Error
from arrowslit.ids import RandomBytes, new_id
from arrowslit.outcome import Effect, Outcome
from arrowslit.pin import Pins
from arrowslit.policy.decide import LIST_METHODS, Allow, Deny, decide
from arrowslit.principal import Grant, Grants, Principal
from arrowslit.protocol import jsonrpc, mcp
from arrowslit.record import CallLedger, Fields
from arrowslit.relay import records
from arrowslit.relay.admission import Admission
from arrowslit.relay.carriage import Carriage, Conclusion, Ticket, too_late_to_start
from arrowslit.relay.deadline import Deadline, Deadlines
from arrowslit.relay.definitions import Definitions
from arrowslit.relay.heads import Said, said
from arrowslit.relay.hub import Hub
from arrowslit.relay.looking import Look
from arrowslit.relay.pending import Key, Pending
from arrowslit.relay.sessions import HEADER as SESSION_HEADER
from arrowslit.relay.sessions import Seal, Session
from arrowslit.tunnel import Answer, Exchange, Headers, Tunnel, Tunnels

log = logging.getLogger(__name__)

DEADLINE = 60.0  # seconds, where neither the call nor the agent says otherwise
TENANT, CALL_ID = "tenant", "call-id"  # in `_meta`, below protocol.mcp.NAMESPACE
INTRODUCTIONS = frozenset({"initialize", "server/discover"})  # in whose answers a server says what it is
ALIASES = {"tenant": TENANT}  # a bare key as well, for code that follows the article


class Caller(msgspec.Struct, frozen=True):
    """Who calls, and on the ground of what."""

    principal: Principal
    grant: Grant
    tunnel: Tunnel


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
        self._grants = grants
        self._tunnels = tunnels
        self._hub = hub
        self._ledger = ledger
        self._admission = admission
        self._seal = seal
        self._denials = denials
        self._clock = clock
        self._random = random
        self._pending = Pending()
        self._deadlines = Deadlines()
        self._last_words = asyncio.TaskGroup()
        self._definitions = Definitions(pins, hub, ledger, clock, self._last_words.create_task)
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
        grant = self._grants.find(principal, agent, server)
        tunnel = self._tunnels.get(grant.server.tunnel_id)
        if tunnel is None:
            raise Error("server_not_found", "the tunnel of this server is gone", hint="grant the agent another server")
        self._hub.check(grant.server)
        caller = Caller(principal, grant, tunnel)
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
        ticket = self._ticket(caller, exchange, heard, asked, session, arrived)
        assert ticket.seconds is not None
        try:
            await self._admission.enter(caller.principal.tenant, caller.tunnel.id, arrived + ticket.seconds)
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
            self._leave_open(ticket, session, conclusion.left_open_until)
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
            with Deadline(self._deadlines, ticket.began + _deadline(asked, grant)):
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
            facts=partial(_facts, caller.principal),
            aliases=ALIASES,
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

    def _ticket(
        self,
        caller: Caller,
        exchange: Exchange,
        heard: Said,
        asked: mcp.Asked,
        session: Session | None,
        arrived: float,
    ) -> Ticket:
        """What will be forwarded: the message that was authorised, written anew, with facts that only we write."""
        call_id = self._call_id(exchange)
        stamped = mcp.stamp(asked.message, _facts(caller.principal, call_id), ALIASES)
        grant = caller.grant
        return Ticket(
            call_id=call_id,
            tunnel_id=caller.tunnel.id,
            target=grant.server.target,
            method="POST",
            headers=_forwarded(heard, session),
            body=jsonrpc.write(stamped),
            began=arrived,
            seconds=_deadline(asked, grant),
            effect=grant.effect(asked.tool) if asked.tool is not None else Effect.READ_ONLY,
            seal=self._sealer(caller),
            tool=asked.tool,
            session=session,
            expects=asked.message.id if asked.message.kind is jsonrpc.Kind.REQUEST else None,
            progress_token=asked.progress_token,
            filters=self._definitions.shows(grant) if asked.method in LIST_METHODS else None,
            reads=self._reader(caller, asked),
            on_change=self._listener(caller),
        )

    def _reader(self, caller: Caller, asked: mcp.Asked) -> Callable[[bytes], None] | None:
        """Who wants to know the answer."""
        if asked.method in INTRODUCTIONS:
            return partial(self._definitions.hear_software, caller.grant.server)
        if asked.method == "tools/list":
            cursor = (asked.message.params or {}).get("cursor")
            known = self._definitions
            return partial(known.hear_list, caller.grant, known.moment(caller.grant), cursor and bytes(cursor))
        return None

    def _listener(self, caller: Caller) -> Callable[[], None]:
        return partial(self._definitions.server_changed, caller.grant.server)

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
        ticket = Ticket(
            call_id=self._call_id(exchange),
            tunnel_id=caller.tunnel.id,
            target=caller.grant.server.target,
            method=exchange.method,
            headers=_forwarded(heard, session),
            body=b"",
            began=_now(),
            seconds=None if exchange.method == "GET" else DEADLINE,
            effect=Effect.IDEMPOTENT,
            seal=self._sealer(caller),
            session=session,
            filters=self._definitions.shows(caller.grant, replayed=True),
            on_change=self._listener(caller),
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

    def _leave_open(self, ticket: Ticket, session: Session, until: float) -> None:
        def conclude(outcome: Outcome) -> None:
            conclusion = Conclusion(
                outcome, reason="answered on another stream" if outcome is Outcome.RESULT else "no answer"
            )
            self._record(ticket, conclusion)

        assert ticket.expects is not None
        key = Key(ticket.tunnel_id, ticket.target, session, ticket.expects)
        self._pending.leave_open(key, until, conclude)

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
        return self._seal.open(text, caller.principal, caller.grant)

    def _sealer(self, caller: Caller) -> Callable[[Session], str]:
        return lambda session: self._seal.close(session, caller.principal, caller.grant)


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


def _facts(principal: Principal, call_id: str) -> dict[str, str]:
    """What the relay says in a request, below NAMESPACE."""
    facts = {CALL_ID: call_id}
    if principal.tenant is not None:
        facts[TENANT] = principal.tenant
    return facts


def _check_accept(heard: Said) -> None:
    if not heard.acceptable:
        hint = "send accept: application/json, text/event-stream"
        raise Error("not_acceptable", "an answer is JSON or server-sent events", hint=hint)


def _forwarded(heard: Said, session: Session | None) -> Headers:
    """The caller's headers that MCP knows, with the session id as its server knows it; never a credential."""
    return [*heard.forwarded, (SESSION_HEADER, session.id)] if session else heard.forwarded


def _deadline(asked: mcp.Asked, grant: Grant) -> float:
    if asked.deadline_ms is not None:
        return asked.deadline_ms / 1000
    return grant.deadline or DEADLINE


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
