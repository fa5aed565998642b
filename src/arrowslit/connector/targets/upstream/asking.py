"""Asking: one exchange with an upstream server, driven by what happens; a task runs only where one has to wait."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from arrowslit.clock import Clock
from arrowslit.connector.targets.target import Asker, Cancel, Lost, NotStarted, Request, TooLarge
from arrowslit.connector.targets.upstream import reading
from arrowslit.connector.targets.upstream.address import Endpoint
from arrowslit.connector.targets.upstream.connection import Connection, Head, Stale
from arrowslit.connector.targets.upstream.forwarding import (
    RequestHeads,
    cancel_notice,
    passed_on,
    redirect_refused,
    refused,
)
from arrowslit.connector.targets.upstream.health import Health
from arrowslit.connector.targets.upstream.pool import Pool
from arrowslit.errors import Error
from arrowslit.protocol import jsonrpc
from arrowslit.tunnel import Headers

log = logging.getLogger(__name__)

RESULT_LIMIT = 64 * 1024 * 1024  # bytes of a response body
LAST_WORD = 2.0  # seconds for telling a server that a request was cancelled

_HARMLESS_TWICE = ("GET", "DELETE")  # opens a stream; ends a session that is then ended (RFC 9110, 9.2.2)


@dataclass(frozen=True, slots=True)
class Upstream:
    """A server, and what it takes to ask it."""

    endpoint: Endpoint
    clock: Clock
    pool: Pool
    heads: RequestHeads
    health: Health

    async def take(self) -> Connection:
        """A connection. Raises NotStarted."""
        try:
            connection = await self.pool.take()
        except NotStarted as error:
            self.health.refused(error)
            raise
        self.health.connected(self.clock.monotonic())
        return connection


class Asking:
    """An Exchange. A POST goes to the server at most once; what may be repeated is asked again if a kept connection
    turns out to be dead. A redirect is not followed: the answer says so.
    """

    __slots__ = ("_asker", "_connection", "_given_up", "_head", "_request", "_taken", "_tasks", "_upstream", "_waiting")

    def __init__(self, upstream: Upstream, request: Request, asker: Asker, tasks: asyncio.TaskGroup) -> None:
        self._upstream = upstream
        self._request = request
        self._asker = asker
        self._tasks = tasks
        self._head = b""
        self._connection: Connection | None = None
        self._waiting: asyncio.Task[None] | None = None  # for a connection
        self._given_up = False
        self._taken = 0  # bytes of the answer's body

    def start(self) -> None:
        """Ask over a connection that was kept, or wait for one."""
        upstream = self._upstream
        try:
            self._head = upstream.heads.write(self._request)
        except NotStarted as error:
            self._asker.over(error)
            return
        now = upstream.clock.monotonic()
        connection = upstream.pool.take_kept(now)
        if connection is None:
            self._waiting = self._tasks.create_task(self._wait())
            return
        upstream.health.connected(now)
        self._ask(connection)

    async def _wait(self) -> None:
        try:
            connection = await self._upstream.take()
        except NotStarted as error:
            self._asker.over(error)
        except asyncio.CancelledError as error:
            self._interrupted(error)
            raise
        else:
            self._ask(connection)

    def _ask(self, connection: Connection) -> None:
        self._connection = connection
        self._asker.dispatched()
        connection.ask(self._head, self._request.body, self)

    # ------------------------------------------------------------ what is heard of the answer

    def heard(self, head: Head | None, data: bytes, ended: bool) -> None:
        """See Hearer."""
        try:
            if head is not None and not self._answer(head):
                return
            if data:
                self._piece(data)
        except Exception as error:
            self._end(error)
            return
        if ended:
            self._end()
        elif self._asker.full and self._connection is not None:
            self._connection.pause()

    def lost(self, error: Lost) -> None:
        """See Hearer."""
        self._let_go()
        if isinstance(error, Stale):
            self._upstream.pool.forget_idle()
            if self._request.method in _HARMLESS_TWICE:
                self._waiting = self._tasks.create_task(self._ask_again(error))
                return
        self._lost(error)

    def _lost(self, error: Lost) -> None:
        self._upstream.health.lost(error)
        self._asker.over(error)

    async def _ask_again(self, stale: Stale) -> None:
        try:
            connection = await self._upstream.take()
        except NotStarted as error:
            self._lost(Lost(f"{stale}, and then: {error}", told=f"{stale}, and then: {error.told}"))
        except asyncio.CancelledError as error:
            self._interrupted(error)
            raise
        else:
            self._connection = connection
            connection.ask(self._head, self._request.body, self)

    def _interrupted(self, error: asyncio.CancelledError) -> None:
        if not self._given_up:  # the connector is being stopped
            self._asker.over(error)

    def _answer(self, head: Head) -> bool:
        """Pass the head on. False if the answer is over with it."""
        if 300 <= head.status <= 399:
            self._refuse_redirect(head)
            return False
        try:
            headers = passed_on(head.status, head.headers)
        except jsonrpc.Refused as unreadable:
            self._refuse_unreadable(unreadable)
            return False
        if head.length is not None and head.length > RESULT_LIMIT:
            raise TooLarge(f"the target announced more than {RESULT_LIMIT} bytes")
        self._asker.head(head.status, headers)
        return True

    def _piece(self, data: bytes) -> None:
        self._taken += len(data)
        if self._taken > RESULT_LIMIT and self._request.method != "GET":  # a stream of events may stay open for days
            raise TooLarge(f"the target answered with more than {RESULT_LIMIT} bytes")
        self._asker.piece(data)

    def _refuse_redirect(self, head: Head) -> None:
        """Answer in the target's place. Where it points to is for our log: an agent learns no internal address."""
        upstream = self._upstream
        where = dict(head.headers).get("location", "nowhere")[:200]
        log.warning(
            "%s answered %d and points to %r; redirects are not followed", upstream.endpoint, head.status, where
        )
        upstream.health.last_error = f"it answered {head.status} and points to {where!r}; redirects are not followed"
        self._answer_instead(*redirect_refused(self._request))

    def _refuse_unreadable(self, why: jsonrpc.Refused) -> None:
        """Answer in the target's place: what a client unpacks or decodes in its own way is not what was judged."""
        error = Error(why.code, why.message)
        log.warning("%s: %s; %s", self._upstream.endpoint, error.message, error.hint)
        self._upstream.health.last_error = error.message
        self._answer_instead(*refused(self._request, error))

    def _answer_instead(self, status: int, headers: Headers, body: bytes) -> None:
        self._asker.head(status, headers)
        if body:
            self._asker.piece(body)
        self._end()

    # ------------------------------------------------------------ its end

    def _end(self, error: Exception | None = None) -> None:
        self._let_go()
        if isinstance(error, Lost):
            self._upstream.health.lost(error)
        self._asker.over(error)

    def _let_go(self) -> None:
        """Give the connection back: it is kept if the answer has ended, and closed otherwise."""
        if (connection := self._connection) is not None:
            self._connection = None
            self._upstream.pool.give_back(connection)

    def resume(self) -> None:
        """See Exchange."""
        if self._connection is not None:
            self._connection.resume()

    def cancel(self, why: Cancel) -> None:
        """See Exchange."""
        if self._given_up:
            return
        self._given_up = True
        if self._waiting is not None:
            self._waiting.cancel()
        asked = self._connection is not None
        self._let_go()
        if asked and why is Cancel.DEADLINE and (notice := cancel_notice(self._request)) is not None:
            saying = self._tasks.create_task(self._say_cancelled(notice))
            saying.add_done_callback(lambda _: self._asker.over(asyncio.CancelledError()))
        else:
            self._asker.over(asyncio.CancelledError())

    async def _say_cancelled(self, notice: Request) -> None:
        """Tell the server that nobody waits any more, over another connection; it may be gone."""
        upstream = self._upstream
        try:
            async with asyncio.timeout(LAST_WORD):
                connection = await upstream.pool.take()
                try:
                    await reading.ask(connection, upstream.heads.write(notice), notice.body)
                finally:
                    upstream.pool.give_back(connection)
        except (NotStarted, Lost, TimeoutError) as error:
            log.debug("%s could not be told that %s was cancelled: %s", upstream.endpoint, notice.call_id, error)
