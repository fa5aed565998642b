"""Carriage: brings one authorised request to a connector and its answer back, and says what may be claimed of it.

A request goes to a second connector only if the first said "not started", or the request never left, or its operator
declared the tool read-only or idempotent (P4). `not_delivered` is claimed only if no attempt can have reached a
target (P3).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import msgspec

from arrowslit.errors import Error
from arrowslit.link.stream import LinkLost, Stream
from arrowslit.outcome import Effect, Outcome
from arrowslit.protocol import events as ev
from arrowslit.protocol import exchange
from arrowslit.protocol.answers import progress_token
from arrowslit.protocol.jsonrpc import Id
from arrowslit.protocol.lists import Shows
from arrowslit.protocol.state import Ending
from arrowslit.relay.deadline import Deadline, Deadlines
from arrowslit.relay.hub import Hub, Served
from arrowslit.relay.reply import Last, Reply
from arrowslit.relay.sessions import Session
from arrowslit.tunnel import Answer

log = logging.getLogger(__name__)

LONGEST = 3600.0  # seconds: progress renews a deadline, up to this
LAST_WORD = 2.0  # seconds in which a connector that was told to give up may still say what became of the call
DEADLINE, CALLER_LEFT = "deadline", "caller_left"  # reasons of CANCEL, as connector/targets/target.py reads them


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    """One authorised request, ready to travel.

    `target` is the server's name at the connector, None for the only one. `began` is when it arrived (loop time), from
    which its deadline counts, `seconds`: None for a stream that may stay open. `expects` is the id that the answer must
    carry, None where none is expected. `filters` says what of a list may be seen, None where the answer is not looked
    into; `reads` is shown the answer, and `on_change` is called when the server says that its tools changed. `session`
    is the MCP session it belongs to; a call of a session goes to the connector that holds it. Connectors serve in turn;
    what does not `takes_turn` leaves it to the next.
    """

    call_id: str
    tunnel_id: str
    target: str | None
    method: str
    headers: Sequence[tuple[str, str]]
    body: bytes
    began: float
    seconds: float | None
    effect: Effect
    seal: Callable[[Session], str]
    tool: str | None = None
    session: Session | None = None
    expects: Id | None = None
    progress_token: Id | None = None
    filters: Shows | None = None
    takes_turn: bool = True
    reads: Callable[[bytes], None] | None = None
    on_change: Callable[[], None] | None = None
    on_answer: Callable[[Id], None] | None = None

    @property
    def until(self) -> float | None:
        """When its time is over (loop time), None for never."""
        return None if self.seconds is None else self.began + self.seconds


class Conclusion(msgspec.Struct, frozen=True):
    """How a request ended. `error` is None where the target's own answer went to the caller.

    `left_open_until` (loop time): the answer may still come on another stream of the session.
    """

    outcome: Outcome
    error: Error | None = None
    reply: Reply | None = None
    reason: str | None = None
    left_open_until: float | None = None

    @property
    def begun(self) -> bool:
        """Whether the caller has seen a head."""
        return self.reply is not None and self.reply.head_sent

    @classmethod
    def failed(cls, error: Error, reply: Reply | None = None) -> Conclusion:
        """An ending that an error tells."""
        assert error.row.outcome is not None
        return cls(error.row.outcome, error, reply)


class Carriage:
    """The travels of one ticket."""

    def __init__(self, hub: Hub, deadlines: Deadlines, ticket: Ticket, answer: Answer) -> None:
        self._hub = hub
        self._deadlines = deadlines
        self._ticket = ticket
        self._answer = answer
        self._until = ticket.until
        self._tried: list[Served] = []
        self._in_doubt = False  # an earlier attempt may have been executed
        self._refusal: Error | None = None  # why an earlier attempt was certainly not
        self._served: Served | None = None
        self._stream: Stream | None = None
        self._reply: Reply | None = None

    async def run(self) -> Conclusion:
        """Try until the ending is certain, or in doubt for good. After a CancelledError, ask for the `last_word`.

        A defect of ours ends the call like everything else: in doubt, unless nothing of it has left.
        """
        try:
            return await self._try_each()
        except Error:
            raise
        except Exception:
            log.exception("the call %s could not be carried to its end", self._ticket.call_id)
            if self._stream is None:
                hint = "nothing was executed: it is safe to try again"
                return Conclusion.failed(Error("not_started", "the relay failed before the call left it", hint=hint))
            self._abandon(self._stream)
            return Conclusion.failed(_unknown("the relay failed in the middle of the call"), self._reply)

    async def _try_each(self) -> Conclusion:
        ticket = self._ticket
        now = asyncio.get_running_loop().time
        while True:
            if self._until is not None and now() >= self._until:
                return self._honest(Conclusion.failed(self._refusal or too_late_to_start(), self._reply))
            try:
                served = self._hub.pick(
                    ticket.tunnel_id, self._connector(), self._tried, ticket.target, takes_turn=ticket.takes_turn
                )
            except Error as nobody:
                return self._honest(Conclusion.failed(self._refusal or nobody, self._reply))
            stream, reply = self._open(served)
            conclusion = await self._follow(stream, reply)
            if conclusion is not None:
                return self._honest(conclusion)

    async def last_word(self) -> Conclusion:
        """The caller left: tell the connector to give up, and find out what may be claimed."""
        if self._stream is None or self._reply is None:
            return Conclusion(Outcome.NOT_DELIVERED, reason=CALLER_LEFT)
        last = await self._give_up(CALLER_LEFT)
        if self._reply.answered or _complete(last):
            return Conclusion(Outcome.RESULT, reply=self._reply, reason=CALLER_LEFT)
        if self._reply.status is None and _certainly_not_started(last):
            return self._honest(Conclusion(Outcome.NOT_DELIVERED, reason=CALLER_LEFT))
        return Conclusion(Outcome.OUTCOME_UNKNOWN, reason=CALLER_LEFT)

    # ------------------------------------------------------------ one attempt

    def _connector(self) -> str | None:
        return self._ticket.session.connector if self._ticket.session else None

    def _open(self, served: Served) -> tuple[Stream, Reply]:
        ticket = self._ticket
        named = served.called(ticket.target)
        head = exchange.encode(exchange.RequestHead(ticket.method, ticket.headers, ticket.call_id, named))
        self._tried.append(served)
        self._served = served
        self._stream = served.link.open(head, ticket.body)
        self._reply = Reply(
            self._answer,
            expects=ticket.expects,
            filters=ticket.filters,
            reads=ticket.reads,
            on_change=ticket.on_change,
            seal=lambda inner: ticket.seal(Session(inner, served.connector)),
            on_answer=ticket.on_answer,
        )
        return self._stream, self._reply

    async def _follow(self, stream: Stream, reply: Reply) -> Conclusion | None:
        """Follow one attempt to its end. None: it certainly may be tried elsewhere."""
        try:
            with Deadline(self._deadlines, self._until) as deadline:
                if self._ticket.progress_token is not None:
                    reply.on_progress = lambda data: self._renew(deadline, data)
                last = await reply.follow(stream)
            self._until = deadline.when
            return self._judge(last, reply)
        except TimeoutError:
            return await self._too_late(reply)
        except Error as error:  # a result that may not be passed on
            self._abandon(stream)
            return Conclusion.failed(error, reply)
        except exchange.Malformed as error:
            log.warning("a connector of %s answered what is no answer: %s", self._ticket.tunnel_id, error)
            self._abandon(stream)
            return self._judge(ev.StreamEnded(stream.id, Ending.LOST, "", str(error)), reply)
        finally:
            reply.on_progress = None  # a circle that the garbage collector would have to find

    def _renew(self, deadline: Deadline, data: bytes) -> None:
        ticket = self._ticket
        if ticket.seconds is not None and progress_token(data) == ticket.progress_token:
            now = asyncio.get_running_loop().time()
            deadline.move(min(now + ticket.seconds, ticket.began + LONGEST))

    def _judge(self, last: Last, reply: Reply) -> Conclusion | None:
        """What the last event of an attempt means. None: try elsewhere."""
        if _complete(last):
            reply.finish()
            if reply.answered or self._ticket.expects is None:
                return Conclusion(Outcome.RESULT, reply=reply)
            return self._unanswered(reply)
        if reply.answered:  # the break came after the answer
            reply.close()
            return Conclusion(Outcome.RESULT, reply=reply)
        if reply.status is None:  # a connector that has sent a head cannot say any more that nothing was done
            if _certainly_not_started(last):
                self._refusal = _not_started(last)
                return None
            if isinstance(last, ev.StreamEnded) and last.ending is Ending.DENIED:
                return Conclusion.failed(_denied(last), reply)
        if isinstance(last, ev.StreamEnded) and last.ending is Ending.TOO_LARGE:
            return Conclusion.failed(Error("result_too_large", "the result is larger than the limit"), reply)
        if self._repeatable and not reply.head_sent:
            self._in_doubt = True
            return None
        return Conclusion.failed(_unknown("the connection broke after the call was handed over"), reply)

    def _unanswered(self, reply: Reply) -> Conclusion:
        if self._ticket.session is not None and reply.resumable and self._until is not None:
            reply.close()
            return Conclusion(Outcome.OUTCOME_UNKNOWN, reply=reply, left_open_until=self._until)
        return Conclusion.failed(_unknown("the server ended its stream without an answer"), reply)

    async def _too_late(self, reply: Reply) -> Conclusion:
        last = await self._give_up(DEADLINE)
        if reply.answered:
            reply.close()
            return Conclusion(Outcome.RESULT, reply=reply)
        if reply.status is None and _certainly_not_started(last):
            return Conclusion.failed(_not_started(last, "the deadline passed before the call was handed over"), reply)
        if self._repeatable:
            return Conclusion.failed(
                Error("timeout", "the deadline passed without an answer", hint="the tool only reads: ask again"), reply
            )
        return Conclusion.failed(_unknown("the deadline passed after the call was handed over"), reply)

    # ------------------------------------------------------------ what may be claimed

    @property
    def _repeatable(self) -> bool:
        """Whether an operator declared, here or in the ceiling, that doing it twice does no harm."""
        ticket = self._ticket
        if ticket.effect.repeatable or ticket.tool is None:
            return ticket.effect.repeatable
        return self._served is not None and self._served.effect(ticket.target, ticket.tool).repeatable

    def _honest(self, conclusion: Conclusion) -> Conclusion:
        """After an attempt in doubt nobody may claim that nothing was executed."""
        if self._in_doubt and conclusion.outcome in (Outcome.DENIED, Outcome.NOT_DELIVERED):
            return Conclusion.failed(_unknown("the connection broke after the call was handed over"), conclusion.reply)
        return conclusion

    async def _give_up(self, reason: str) -> Last | None:
        """Cancel the stream and wait a little for how it ended; None if the connector does not say."""
        assert self._stream is not None
        self._stream.cancel(reason)
        try:
            async with asyncio.timeout(LAST_WORD):
                while True:
                    event = await self._stream.next()
                    if isinstance(event, ev.StreamEnded | LinkLost):
                        return event
        except TimeoutError:
            return None
        finally:
            self._abandon(self._stream)

    def _abandon(self, stream: Stream) -> None:
        assert self._served is not None
        stream.cancel(CALLER_LEFT)
        self._served.link.forget(stream)


def _complete(last: Last | None) -> bool:
    return isinstance(last, ev.StreamEnded) and last.ending is Ending.COMPLETE


def _certainly_not_started(last: Last | None) -> bool:
    match last:
        case ev.StreamEnded(ending=Ending.NOT_STARTED) | LinkLost(left=False):
            return True
        case _:
            return False


def _not_started(last: Last | None, why: str | None = None) -> Error:
    said = last.detail if isinstance(last, ev.StreamEnded) else "the link was lost before the request left"
    return Error(
        "not_started",
        f"{why}: {said}" if why and said else why or said or "the connector did not start the call",
        hint="nothing was executed: it is safe to try again",
    )


def too_late_to_start() -> Error:
    """What became of a call whose time was over before it could be sent."""
    return _not_started(None, "the deadline passed before the call was sent")


def _denied(last: ev.StreamEnded) -> Error:
    return Error(
        "denied_by_ceiling",
        last.detail or "the connector's own policy does not allow this",
        hint="the connector's operator decides: --allow, --ceiling, or [targets.ceiling] in its connector.toml",
    )


def _unknown(why: str) -> Error:
    return Error(
        "outcome_unknown",
        f"{why}; nobody knows whether it was executed",
        hint="look at the data before asking for the same again",
    )
