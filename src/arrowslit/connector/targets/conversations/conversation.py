"""Conversation: one running server, the requests that are in flight on it, and which answer belongs to whom."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from arrowslit.connector.targets.conversations import message
from arrowslit.connector.targets.conversations.message import Posted, RequestId, Said
from arrowslit.connector.targets.conversations.outbox import Item, Outbox
from arrowslit.connector.targets.conversations.supply import Supply
from arrowslit.connector.targets.processes.channel import Channel
from arrowslit.connector.targets.target import Cancel, Lost, NotStarted, Reply, TooLarge

logger = logging.getLogger(__name__)

LOUD_NOISE = 3  # warnings per server about lines that are no messages; what follows is for those who debug


@dataclass(slots=True, eq=False)
class Waiting:
    """A request in flight: `own` is its id towards the server. Its answer, and what belongs to it, go to the outbox.

    `kept`: it goes on without the exchange that brought it, since its client may come back for the answer.
    """

    own: int
    posted: Posted
    outbox: Outbox = field(default_factory=Outbox)
    dispatched: bool = False
    answered: bool = False
    kept: bool = False

    def lose(self, why: str) -> None:
        """No answer will come."""
        self.outbox.fail(Lost(why) if self.dispatched else NotStarted(why))


class Owner(Protocol):
    """Whose conversation it is: decides about all that is neither the answer to a request nor its progress."""

    def unsolicited(self, conversation: Conversation, said: Said, line: bytes) -> None:
        """A request or a notification of the server."""
        ...

    def gone(self, conversation: Conversation, why: str) -> None:
        """The server is gone; the requests in flight have been told."""
        ...


class Conversation:
    """Listens to one channel. Every request gets an id of ours, so that a late answer can never reach another caller.

    `shared`: clients share the server (modern era). Then their progress tokens are replaced as well, and a caller who
    left has cancelled; in the legacy era a disconnect is not a cancel.
    """

    def __init__(self, supply: Supply, owner: Owner, now: float, *, shared: bool) -> None:
        self.name = supply.name
        self.started = now
        self._supply = supply
        self._owner = owner
        self._shared = shared
        self._channel: Channel | None = None
        self._closed: str | None = None
        self._next_id = 1
        self._noise = 0
        self._waiting: dict[int, Waiting] = {}
        self._tokens: dict[RequestId, Waiting] = {}

    @property
    def usable(self) -> bool:
        """Whether a request may be handed over."""
        return self._closed is None and self._channel is not None and self._channel.usable

    @property
    def waiting(self) -> list[Waiting]:
        """The requests in flight, the oldest first."""
        return list(self._waiting.values())

    def waiting_as(self, own: RequestId | None) -> Waiting | None:
        """The request in flight that has this id towards the server."""
        return self._waiting.get(own) if isinstance(own, int) else None

    async def start(self) -> None:
        """Start the server. Raises NotStarted."""
        self._channel = await self._supply.start(self)

    async def close(self) -> None:
        """Stop the server; requests in flight end as lost."""
        if self._channel is not None:
            await self._channel.close()

    def last_words(self) -> str:
        """The end of the server's stderr."""
        return "" if self._channel is None else self._channel.last_words()

    @asynccontextmanager
    async def exchange(self, posted: Posted, reply: Reply) -> AsyncIterator[Waiting]:
        """Hand a request over; its answer comes out of its outbox. Raises NotStarted, and passes everything else on.

        Given up before its answer, the server is told so if the deadline passed or the answer grew too large, and when
        the caller left a shared server. A later answer is dropped then, and in any case unless the request is kept.
        """
        waiting = self._note(posted)
        try:
            await self._hand_over(waiting, reply)
            yield waiting
        except asyncio.CancelledError:
            if self._shared or reply.cancel is Cancel.DEADLINE:
                self._cancel(waiting, "the caller no longer waits")
            raise
        except TooLarge:
            self._cancel(waiting, "the answer is too large")
            raise
        finally:
            if waiting.answered or not waiting.kept:
                self._forget(waiting)

    def drop(self, waiting: Waiting, why: str) -> None:
        """Nobody waits for it any more, whatever the server does."""
        waiting.lose(why)
        self._forget(waiting)

    async def question(self, method: str, params: object) -> Said:
        """Ask something of our own and return the answer. Raises Lost, or NotStarted if it was not asked."""
        waiting = self._note(message.read_posted(message.question_line(self._next_id, method, params)))
        try:
            if not self.usable:
                raise NotStarted(self._why_unusable())
            waiting.dispatched = True
            self.tell(waiting.posted.body)
            reader = waiting.outbox.reader()
            while (item := await reader.next()) is not None:
                if item.last and (said := message.read_said(item.message)) is not None:
                    return said
            raise Lost(f"{self.name} did not answer {method}")
        finally:
            self._forget(waiting)

    async def pass_on(self, line: bytes, reply: Reply) -> None:
        """Send what a client said that has no answer, once the server reads; nothing if it is gone by then."""
        if self._channel is not None:
            await self._channel.drain()
        if self.usable:
            reply.dispatched()
            self.tell(line)

    def tell(self, line: bytes) -> None:
        """Send something of our own that has no answer: a notification, or the answer to a request of the server."""
        if self._channel is not None and self._closed is None:
            self._channel.send(line)

    def message(self, line: bytes) -> None:
        """Listener: answers and progress go to their request, everything else to the owner."""
        said = message.read_said(line)
        try:
            if said is None:
                self._hear_noise(line)
            elif said.answers:
                self._hear_answer(said)
            elif said.method == "notifications/progress":
                self._hear_progress(said, line)
            elif said.method is not None:
                self._owner.unsolicited(self, said, line)
        except message.Unreadable:
            self._hear_noise(line)

    def closed(self, why: str) -> None:
        """Listener: the server is gone."""
        self._closed = why
        for waiting in self.waiting:
            waiting.lose(self._why_unusable())
        self._owner.gone(self, why)

    def _note(self, posted: Posted) -> Waiting:
        waiting = Waiting(self._next_id, posted)
        self._next_id += 1
        self._waiting[waiting.own] = waiting
        if posted.token is not None:
            self._tokens[self._token(waiting)] = waiting
        return waiting

    def _forget(self, waiting: Waiting) -> None:
        self._waiting.pop(waiting.own, None)
        if waiting.posted.token is not None and self._tokens.get(self._token(waiting)) is waiting:
            del self._tokens[self._token(waiting)]

    def _token(self, waiting: Waiting) -> RequestId:
        """The progress token of a request as the server knows it."""
        return waiting.own if self._shared or waiting.posted.token is None else waiting.posted.token

    async def _hand_over(self, waiting: Waiting, reply: Reply) -> None:
        line = message.request_line(waiting.posted, waiting.own, own_token=self._shared)
        if self._channel is not None:
            await self._channel.drain()
        if self._channel is None or not self.usable:
            raise NotStarted(self._why_unusable())
        reply.dispatched()
        waiting.dispatched = True
        self._channel.send(line)

    def _why_unusable(self) -> str:
        return f"{self.name} {self._closed or 'does not read its input'}"

    def _cancel(self, waiting: Waiting, reason: str) -> None:
        if waiting.dispatched and not waiting.answered:
            self.tell(message.notice_line("notifications/cancelled", {"requestId": waiting.own, "reason": reason}))

    def _hear_answer(self, said: Said) -> None:
        waiting = self.waiting_as(said.id)
        if waiting is None or waiting.posted.id is None:
            logger.debug("%s answered a request that nobody waits for", self.name)
            return
        waiting.answered = True
        subscription = waiting.posted.method == "subscriptions/listen"
        body = message.answer_body(said, waiting.posted.id, subscription=subscription)
        waiting.outbox.put(Item(body, last=True, code=message.error_code(said)))
        if waiting.kept:
            self._forget(waiting)

    def _hear_progress(self, said: Said, line: bytes) -> None:
        token = message.about(said).progress_token
        waiting = None if token is None else self._tokens.get(token)
        if waiting is None or waiting.posted.token is None:
            logger.debug("%s reported the progress of a request that nobody waits for", self.name)
            return
        body = message.progress_body(line, said, waiting.posted.token) if self._shared else line
        waiting.outbox.put(Item(body))

    def _hear_noise(self, line: bytes) -> None:
        self._noise += 1
        level = logging.WARNING if self._noise <= LOUD_NOISE else logging.DEBUG
        logger.log(level, "%s printed what is no message: %r", self.name, line[:200])
