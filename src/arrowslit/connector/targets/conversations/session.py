"""Session: one MCP session of the legacy era, with a server process of its own that may die and come back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from msgspec import Raw

from arrowslit.connector.targets.conversations import answers, message
from arrowslit.connector.targets.conversations.conversation import Conversation, Waiting
from arrowslit.connector.targets.conversations.house import House
from arrowslit.connector.targets.conversations.manner import Manner
from arrowslit.connector.targets.conversations.message import Posted, RequestId, Said
from arrowslit.connector.targets.conversations.outbox import Item, Outbox, Reader
from arrowslit.connector.targets.conversations.slot import Slot
from arrowslit.connector.targets.conversations.streams import Resumed, Streams
from arrowslit.connector.targets.target import Cancel, Lost, NotStarted, Reply
from arrowslit.errors import METHOD_NOT_FOUND
from arrowslit.tunnel import Headers

logger = logging.getLogger(__name__)

SESSION_HEADER = "mcp-session-id"

REPLAY_LIMIT = 30.0
"""Seconds a new process may take until the session is set up in it again."""

PATIENCE = 5.0
"""Seconds that a request of the server waits for a stream to its client (clients open theirs only after
`initialized`), and that a request which its client cancelled waits for an answer (most servers send none)."""

MOST_PARKED = 64

MOST_LEFT = 16
"""Requests whose clients left in the middle of the answer and may come back; of more, the oldest are forgotten."""

_FOR_ALL = frozenset(
    {
        "notifications/tools/list_changed",
        "notifications/prompts/list_changed",
        "notifications/resources/list_changed",
        "notifications/resources/updated",
    }
)
"""Notifications that belong to no request, and so to the client's GET stream."""


class Session:
    """`params` are those of the client's `initialize`; a new process is given the same before anything else.

    Until `established` nobody but the client's first request knows the session.
    """

    def __init__(self, session_id: str, params: bytes, house: House) -> None:
        self.id = session_id
        self.params = params
        self.established = False
        self.used = house.clock.monotonic()
        self._house = house
        self._clock = house.clock
        self._chores = house.chores
        self._slot = Slot(house, self._open)
        self._streams = Streams(house.random(4).hex())
        self._parked: dict[RequestId, bytes] = {}

    @property
    def running(self) -> bool:
        """Whether it has a process."""
        return self._slot.current is not None

    @property
    def busy(self) -> bool:
        """Whether a client waits for it, on a request or on a stream."""
        current = self._slot.current
        waiting = [] if current is None else current.waiting
        return self._listener is not None or any(not each.outbox.left for each in waiting)

    async def initialize(self, posted: Posted, reply: Reply, manner: Manner, established: Callable[[], None]) -> None:
        """Answer the client's first request. `established` is called before the client learns the session's id."""
        conversation = await self._slot.take()
        async with conversation.exchange(posted, reply) as waiting:
            first = await waiting.outbox.reader().peek()
            if first is not None and first.code is None:
                self.established = True
                established()
            headers = ((SESSION_HEADER, self.id),) if self.established else ()
            await self._answer(waiting, reply, manner, headers)

    async def post(self, posted: Posted, reply: Reply, manner: Manner) -> None:
        """Answer what the client posted. Raises as `Target.exchange` does."""
        self.used = self._clock.monotonic()
        try:
            if posted.method is None or posted.id is None:
                await self._tell(posted, reply)
            else:
                await self._request(posted, posted.id, reply, manner)
        finally:
            self.used = self._clock.monotonic()

    async def listen(self, reply: Reply, manner: Manner, last_event_id: str | None) -> None:
        """A stream that the client takes up after this event, or the session's own: what the server says of itself,
        until the session ends.
        """
        if last_event_id is not None:
            resumed = self._streams.resume(last_event_id, primes=manner.primes)
        elif self._listener is not None:
            answers.refuse(reply, 409, "Conflict: Only one SSE stream is allowed per session")
            return
        else:
            resumed = Resumed([], self._streams.open_own(primes=manner.primes))
        if resumed is None:
            answers.refuse(reply, 400, "Bad Request: Nothing is left of the stream after this event")
            return
        try:
            await self._resume(resumed, reply)
        finally:
            self.used = self._clock.monotonic()

    def close_stream(self) -> None:
        """End the client's GET stream, if it has one."""
        if self._streams.own is not None:
            self._streams.own.outbox.end()

    def rest(self) -> None:
        """Stop the process; the next request starts another."""
        self._slot.rest()
        self._streams.forget()

    def end(self) -> None:
        """End it for good. Requests in flight are lost when the process is gone: by then the client usually is as well,
        and a client of the python SDK that hears of a request after it said goodbye falls over.
        """
        self.close_stream()
        self._slot.stop()

    def unsolicited(self, conversation: Conversation, said: Said, line: bytes) -> None:
        """Owner: to the client, on whatever stream it has."""
        outbox = self._stream_for(conversation, said)
        if outbox is not None and (said.id is None or outbox.attended):
            outbox.put(Item(line))
        elif said.id is not None:
            self._park(conversation, said.id, line)

    def gone(self, conversation: Conversation, why: str) -> None:
        """Owner: the next request starts another process."""
        if self._slot.gone(conversation, why):
            self._parked.clear()

    @property
    def _listener(self) -> Outbox | None:
        """The outbox of the session's own stream, if a client reads it."""
        own = self._streams.own
        return own.outbox if own is not None and own.outbox.attended else None

    async def _request(self, posted: Posted, client_id: RequestId, reply: Reply, manner: Manner) -> None:
        conversation = await self._slot.take()
        same = _find(conversation, client_id)
        if same is not None and not same.outbox.left:
            text = "Invalid Request: a request with this id is in flight"
            answers.refuse(reply, 400, text, request_id=client_id)
            return
        if same is not None:
            conversation.drop(same, "its client asks something else under the same id")
        async with conversation.exchange(posted, reply) as waiting:
            self._unpark(waiting.outbox)
            await self._answer(waiting, reply, manner)

    async def _answer(self, waiting: Waiting, reply: Reply, manner: Manner, headers: Headers = ()) -> None:
        """The answer to a request. If the client's connection breaks in the middle of it, the request goes on."""
        stream = self._streams.open(waiting.outbox, primes=manner.primes)
        reader = waiting.outbox.reader()
        try:
            with self._house.heartbeat.over(reader):
                answered = await answers.pass_on(
                    reader, reply, events=stream, events_wanted=manner.events, headers=headers
                )
            waiting.kept = not answered
        except asyncio.CancelledError:
            waiting.kept = stream.begun and reply.cancel is not Cancel.DEADLINE
            if waiting.kept:
                self._leave(reader)
            else:
                waiting.lose("nobody waits for it any more")  # for one who reads on
            raise
        finally:
            if not waiting.kept:
                self._streams.close(stream)

    async def _resume(self, resumed: Resumed, reply: Reply) -> None:
        """Pass a stream on to the one client that reads it now."""
        stream = resumed.stream
        if stream is None:
            answers.repeat(resumed, reply)
            return
        over = True
        reader = stream.outbox.reader()
        try:
            with self._house.heartbeat.over(reader):
                self._unpark(stream.outbox)
                answers.repeat(resumed, reply)
                over = await answers.pass_events(reader, reply, stream)
        except asyncio.CancelledError:
            over = False
            self._leave(reader)
            raise
        finally:
            if over:
                self._streams.close(stream)

    def _leave(self, reader: Reader) -> None:
        """A client's connection broke; it may come back. Of those that do not, only so many are remembered."""
        reader.leave()
        current = self._slot.current
        for oldest in self._streams.abandoned[:-MOST_LEFT]:
            self._streams.close(oldest)
            waiting = (
                next((each for each in current.waiting if each.outbox is oldest.outbox), None) if current else None
            )
            if current is not None and waiting is not None:
                current.drop(waiting, "its client did not come back")

    async def _tell(self, posted: Posted, reply: Reply) -> None:
        """Pass on what has no answer. A process that died needs none of it, nor does the one that replaces it."""
        current = self._slot.current
        if current is not None:
            cancels = posted.method == "notifications/cancelled"
            line = self._cancelled(current, posted) if cancels else message.one_line(posted.body)
            if line is not None:
                await current.pass_on(line, reply)
        answers.accept(reply)

    def _cancelled(self, conversation: Conversation, posted: Posted) -> bytes | None:
        """The client's cancel in the server's terms, None if the request is not in flight."""
        cancelled = message.cancelled_id(posted)
        waiting = None if cancelled is None else _find(conversation, cancelled)
        if waiting is None:
            return None
        self._chores.start(self._give_up(conversation, waiting))
        return message.cancelled_line(posted, waiting.own)

    async def _give_up(self, conversation: Conversation, waiting: Waiting) -> None:
        await self._clock.sleep(PATIENCE)
        conversation.drop(waiting, "the server did not answer a request that its client cancelled")

    async def _open(self) -> Conversation:
        """A new process for the slot. If the client had finished its handshake, it is made again, unseen by it."""
        conversation = Conversation(self._house.supply, self, self._clock.monotonic(), shared=False)
        await conversation.start()
        self._house.supply.start_ahead()
        if not self.established:
            return conversation
        try:
            async with asyncio.timeout(REPLAY_LIMIT):
                said = await conversation.question("initialize", Raw(self.params))
        except (NotStarted, Lost, TimeoutError) as error:
            self._chores.start(conversation.close())
            why = "no answer in time" if isinstance(error, TimeoutError) else str(error)
            raise NotStarted(f"the session could not be taken up again: {why}") from None
        if said.error:
            self._chores.start(conversation.close())
            raise NotStarted("the session could not be taken up again: the server refused its parameters")
        conversation.tell(message.notice_line("notifications/initialized"))
        return conversation

    def _stream_for(self, conversation: Conversation, said: Said) -> Outbox | None:
        """Where the client hears a message: on the request that it made last, since stdio does not say which it
        belongs to, else on its GET stream, which keeps notifications for a client that comes back.
        """
        own = None if self._streams.own is None else self._streams.own.outbox
        if said.method in _FOR_ALL:
            return own
        latest_first = reversed(conversation.waiting)
        open_ones = (each.outbox for each in latest_first if each.dispatched and each.outbox.attended)
        return next(open_ones, own)

    def _park(self, conversation: Conversation, server_id: RequestId, line: bytes) -> None:
        if self._chores.open and len(self._parked) < MOST_PARKED:
            self._parked[server_id] = line
            self._chores.start(self._refuse_later(conversation, server_id))
        else:
            _refuse(conversation, server_id)

    def _unpark(self, outbox: Outbox) -> None:
        for line in self._parked.values():
            outbox.put(Item(line))
        self._parked.clear()

    async def _refuse_later(self, conversation: Conversation, server_id: RequestId) -> None:
        await self._clock.sleep(PATIENCE)
        if self._parked.pop(server_id, None) is not None:
            _refuse(conversation, server_id)


def _refuse(conversation: Conversation, server_id: RequestId) -> None:
    """Answer a request of the server that no client will."""
    conversation.tell(message.error_body(server_id, METHOD_NOT_FOUND, "no client listens"))


def _find(conversation: Conversation, client_id: RequestId) -> Waiting | None:
    """The request in flight to which the client gave this id (1 and "1" are two)."""
    same = (waiting for waiting in conversation.waiting if waiting.posted.id == client_id)
    return next(same, None)
