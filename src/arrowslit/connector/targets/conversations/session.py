"""Session: one MCP session of the legacy era, with a server process of its own that may die and come back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from msgspec import Raw

from arrowslit.clock import Clock
from arrowslit.connector.targets.conversations import answers, message
from arrowslit.connector.targets.conversations.chores import Chores
from arrowslit.connector.targets.conversations.conversation import Conversation, Waiting
from arrowslit.connector.targets.conversations.message import Posted, RequestId, Said
from arrowslit.connector.targets.conversations.outbox import Item, Outbox
from arrowslit.connector.targets.conversations.slot import Health, Slot
from arrowslit.connector.targets.processes.channel import Program
from arrowslit.connector.targets.target import Lost, NotStarted, Reply
from arrowslit.errors import METHOD_NOT_FOUND

logger = logging.getLogger(__name__)

SESSION_HEADER = "mcp-session-id"

REPLAY_LIMIT = 30.0
"""Seconds a new process may take until the session is set up in it again."""

PATIENCE = 5.0
"""Seconds that a request of the server waits for a stream to its client (clients open theirs only after
`initialized`), and that a request which its client cancelled waits for an answer (most servers send none)."""

MOST_PARKED = 64

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

    def __init__(
        self, session_id: str, params: bytes, program: Program, clock: Clock, chores: Chores, health: Health
    ) -> None:
        self.id = session_id
        self.params = params
        self.established = False
        self.used = clock.monotonic()
        self._program = program
        self._clock = clock
        self._chores = chores
        self._slot = Slot(clock, chores, health, self._open)
        self._stream: Outbox | None = None
        self._parked: dict[RequestId, bytes] = {}

    @property
    def running(self) -> bool:
        """Whether it has a process."""
        return self._slot.current is not None

    @property
    def busy(self) -> bool:
        """Whether a client waits for it, on a request or on a stream."""
        current = self._slot.current
        return self._stream is not None or (current is not None and bool(current.waiting))

    async def initialize(self, posted: Posted, reply: Reply, established: Callable[[], None]) -> None:
        """Answer the client's first request. `established` is called before the client learns the session's id."""
        conversation = await self._slot.take()
        async with conversation.exchange(posted, reply) as outbox:
            first = await outbox.peek()
            if first is not None and first.code is None:
                self.established = True
                established()
            headers = ((SESSION_HEADER, self.id),) if self.established else ()
            await answers.pass_on(outbox, reply, headers=headers)

    async def post(self, posted: Posted, reply: Reply) -> None:
        """Answer what the client posted. Raises as `Target.exchange` does."""
        self.used = self._clock.monotonic()
        try:
            if posted.method is None or posted.id is None:
                await self._tell(posted, reply)
            else:
                await self._request(posted, posted.id, reply)
        finally:
            self.used = self._clock.monotonic()

    async def listen(self, reply: Reply) -> None:
        """The client's GET stream: what the server says of itself, until the session ends."""
        if self._stream is not None:
            answers.refuse(reply, 409, "Conflict: Only one SSE stream is allowed per session")
            return
        self._stream = Outbox()
        try:
            self._unpark(self._stream)
            await answers.pass_stream(self._stream, reply)
        finally:
            self._stream = None
            self.used = self._clock.monotonic()

    def close_stream(self) -> None:
        """End the client's GET stream, if it has one."""
        if self._stream is not None:
            self._stream.end()

    def rest(self) -> None:
        """Stop the process; the next request starts another."""
        self._slot.rest()

    def end(self) -> None:
        """End it for good. Requests in flight are lost when the process is gone: by then the client usually is as well,
        and a client of the python SDK that hears of a request after it said goodbye falls over.
        """
        self.close_stream()
        self._slot.stop()

    def unsolicited(self, conversation: Conversation, said: Said, line: bytes) -> None:
        """Owner: to the client, on whatever stream it has."""
        outbox = self._stream_for(conversation, said)
        if outbox is not None:
            outbox.put(Item(line))
        elif said.id is not None:
            self._park(conversation, said.id, line)

    def gone(self, conversation: Conversation, why: str) -> None:
        """Owner: the next request starts another process."""
        if self._slot.gone(conversation, why):
            self._parked.clear()

    async def _request(self, posted: Posted, client_id: RequestId, reply: Reply) -> None:
        conversation = await self._slot.take()
        if _find(conversation, client_id) is not None:
            text = "Invalid Request: a request with this id is in flight"
            answers.refuse(reply, 400, text, request_id=client_id)
            return
        async with conversation.exchange(posted, reply) as outbox:
            self._unpark(outbox)
            await answers.pass_on(outbox, reply)

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
        self._chores.start(self._give_up(waiting))
        return message.cancelled_line(posted, waiting.own)

    async def _give_up(self, waiting: Waiting) -> None:
        await self._clock.sleep(PATIENCE)
        waiting.lose("the server did not answer a request that its client cancelled")

    async def _open(self) -> Conversation:
        """A new process for the slot. If the client had finished its handshake, it is made again, unseen by it."""
        conversation = Conversation(self._program, self, self._clock.monotonic(), shared=False)
        await conversation.start()
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
        belongs to, else on its GET stream.
        """
        if said.method in _FOR_ALL:
            return self._stream
        latest_first = reversed(conversation.waiting)
        open_ones = (each.outbox for each in latest_first if each.dispatched and not each.outbox.ended)
        return next(open_ones, self._stream)

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
