"""Shared: the one server process of the modern era, which all clients share without seeing each other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from arrowslit.connector.targets.conversations import answers, era, message
from arrowslit.connector.targets.conversations.conversation import Conversation, Waiting
from arrowslit.connector.targets.conversations.house import House
from arrowslit.connector.targets.conversations.manner import Manner
from arrowslit.connector.targets.conversations.message import Posted, Said
from arrowslit.connector.targets.conversations.outbox import Item
from arrowslit.connector.targets.conversations.schemas import Schemas
from arrowslit.connector.targets.conversations.slot import Slot
from arrowslit.connector.targets.conversations.streams import Plain
from arrowslit.connector.targets.target import Lost, NotStarted, Reply
from arrowslit.errors import HEADER_MISMATCH, METHOD_NOT_FOUND

logger = logging.getLogger(__name__)

PROBE_LIMIT = 20.0
"""Seconds a server may take for its first answer. One that takes longer is served as legacy, which works as well."""

DOUBT = 5.0
"""Seconds after a request was given up in which the server may still log for it."""


class Silent(Exception):
    """A server ended without an answer; `last_words` is the end of its stderr."""

    def __init__(self, message: str, last_words: str) -> None:
        super().__init__(message)
        self.last_words = last_words


class Shared:
    """Answers modern requests from a process that is started again as soon as it died."""

    def __init__(self, house: House) -> None:
        self._supply = house.supply
        self._clock = house.clock
        self._chores = house.chores
        self._heartbeat = house.heartbeat
        self._schemas = Schemas(house)
        self._slot = Slot(house, self._open)
        self._logs_doubtful_until = 0.0

    @property
    def wait(self) -> float:
        """Seconds until the server is started again, 0 if it runs or may be started now."""
        return self._slot.wait

    async def probe(self) -> bool:
        """Start the server and ask for its era; whether it is modern. One that is serves from now on.

        Raises NotStarted if it cannot be started, Silent if it ended without an answer.
        """
        conversation, said = await self._ask_first(era.DISCOVER)
        if said is not None and era.speaks_modern(said):
            self._slot.adopt(conversation)
            return True
        self._chores.start(conversation.close())
        return False

    async def shake_hands(self) -> None:
        """Start the server once and see whether it can be initialized. Raises as `probe` does."""
        conversation, _ = await self._ask_first(era.INITIALIZE)
        self._chores.start(conversation.close())

    async def post(self, posted: Posted, reply: Reply, manner: Manner, headers: Mapping[str, str]) -> None:
        """Answer what a client posted with these headers. Raises as `Target.exchange` does."""
        if posted.method is None:
            answers.refuse(reply, 400, "Bad Request: there is no request to answer")
        elif posted.id is None:
            answers.accept(reply)  # and dropped: no notification of a client means anything beyond its own stream
        elif posted.method in era.REMOVED:
            text = f"Method not found: {posted.method} does not exist in this protocol version"
            answers.refuse(reply, 404, text, code=METHOD_NOT_FOUND, request_id=posted.id)
        else:
            await self._request(posted, reply, manner, headers)

    def unsolicited(self, conversation: Conversation, said: Said, line: bytes) -> None:
        """Owner: pass a notification to the one request it belongs to; what belongs to none, or to nobody knows whom,
        is dropped rather than shown to another client. Requests of the server do not exist in this era.
        """
        if said.id is not None:
            logger.info("%s asked %s, which no client can answer in this era", conversation.name, said.method)
            conversation.tell(message.error_body(said.id, METHOD_NOT_FOUND, "no client answers requests"))
            return
        if said.method == "notifications/tools/list_changed":
            self._schemas.forget()
        about = message.about(said)
        if said.method == "notifications/cancelled":
            if (waiting := conversation.waiting_as(about.request_id)) is not None:
                waiting.outbox.end()
        elif (waiting := conversation.waiting_as(about.subscription)) is not None and waiting.posted.id is not None:
            waiting.outbox.put(Item(message.subscription_body(line, said, waiting.posted.id)))
        elif said.method == "notifications/message" and (waiting := self._who_logs(conversation)) is not None:
            waiting.outbox.put(Item(line))

    def gone(self, conversation: Conversation, why: str) -> None:
        """Owner: start again, so that the next call need not wait for that."""
        if self._slot.gone(conversation, why) and self._chores.open:
            self._chores.start(self._revive())

    async def _request(self, posted: Posted, reply: Reply, manner: Manner, headers: Mapping[str, str]) -> None:
        complete = message.VERSION_KEY in posted.meta and message.CAPABILITIES_KEY in posted.meta
        conversation = await self._slot.take()
        if posted.method == "tools/call" and (wrong := await self._schemas.disagreement(conversation, posted, headers)):
            answers.refuse(reply, 400, wrong, code=HEADER_MISMATCH, request_id=posted.id)
            return
        try:
            async with conversation.exchange(posted, reply) as waiting:
                reader = waiting.outbox.reader()
                with self._heartbeat.over(reader):
                    await answers.pass_on(
                        reader,
                        reply,
                        events=Plain(),
                        events_wanted=manner.events,
                        status=lambda code: answers.modern_status(code, complete=complete),
                    )
        except BaseException:
            if message.LOG_LEVEL_KEY in posted.meta:
                self._logs_doubtful_until = self._clock.monotonic() + DOUBT
            raise

    async def _revive(self) -> None:
        await self._clock.sleep(self._slot.wait)
        while True:
            try:
                await self._slot.take()
            except NotStarted as error:
                logger.warning("%s was not started again: %s", self._supply.name, error)
            else:
                return
            await self._clock.sleep(max(self._slot.wait, 1.0))

    def _who_logs(self, conversation: Conversation) -> Waiting | None:
        """The one request in flight that wants log messages. They name no request, so in doubt nobody gets them."""
        loggers = [waiting for waiting in conversation.waiting if message.LOG_LEVEL_KEY in waiting.posted.meta]
        doubtful = self._clock.monotonic() < self._logs_doubtful_until
        return loggers[0] if len(loggers) == 1 and not doubtful else None

    async def _open(self) -> Conversation:
        """A new process for the slot; it has answered the probe, which also settles its era before any client does."""
        try:
            conversation, said = await self._ask_first(era.DISCOVER)
        except Silent as silent:
            raise NotStarted(str(silent)) from None
        if said is None:
            self._chores.start(conversation.close())
            raise NotStarted(f"{self._supply.name} did not answer within {PROBE_LIMIT:.0f} s of its start")
        return conversation

    async def _ask_first(self, question: tuple[str, object]) -> tuple[Conversation, Said | None]:
        """A new process and its first answer, None if that takes too long. Raises NotStarted and Silent."""
        conversation = Conversation(self._supply, self, self._clock.monotonic(), shared=True)
        await conversation.start()
        try:
            async with asyncio.timeout(PROBE_LIMIT):
                return conversation, await conversation.question(*question)
        except TimeoutError:
            return conversation, None
        except (Lost, NotStarted) as error:
            raise Silent(f"{error} before it answered anything", conversation.last_words()) from None
