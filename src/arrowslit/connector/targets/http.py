"""HttpTarget: an MCP server that speaks Streamable HTTP, reached as a streaming reverse proxy reaches its upstream."""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
from collections.abc import Collection, Mapping
from types import TracebackType
from typing import Self

from arrowslit.clock import Clock
from arrowslit.connector.targets.target import Cancel, Lost, NotStarted, Reply, Request, TooLarge
from arrowslit.connector.targets.upstream.address import Endpoint, HostPort
from arrowslit.connector.targets.upstream.connection import Connection, Head, Stale
from arrowslit.connector.targets.upstream.forwarding import (
    RequestHeads,
    cancel_notice,
    end_to_end,
    redirect_refused,
    refused,
)
from arrowslit.connector.targets.upstream.pool import (
    CONNECTIONS,
    IDLE_LIMIT,
    AddressRefused,
    Pool,
    Resolve,
    Way,
    system_resolve,
)
from arrowslit.errors import Error
from arrowslit.protocol import jsonrpc, media
from arrowslit.tunnel import Headers

log = logging.getLogger(__name__)

RESULT_LIMIT = 64 * 1024 * 1024  # bytes of a response body
FRESH = 5.0  # seconds for which the knowledge whether the target can be reached is good enough
LAST_WORD = 2.0  # seconds for telling a server that a request was cancelled

_HARMLESS_TWICE = ("GET", "DELETE")  # opens a stream; ends a session that is then ended (RFC 9110, 9.2.2)


class HttpTarget:
    """The Target for `http://` and `https://`.

    `allowed` are places that the host's name may lead to although they are special (loopback, link-local);
    `authorization` is the value of the Authorization header for the target; `tls` replaces the system's certificates.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        clock: Clock,
        *,
        allowed: Collection[HostPort] = (),
        authorization: str | None = None,
        tls: ssl.SSLContext | None = None,
        resolve: Resolve = system_resolve,
    ) -> None:
        self._endpoint = endpoint
        self._clock = clock
        if endpoint.tls and tls is None:
            tls = ssl.create_default_context()
        way = Way(endpoint, allowed, resolve, tls if endpoint.tls else None)
        self._pool = Pool(way, clock, limit=CONNECTIONS, idle_limit=IDLE_LIMIT)
        self._heads = RequestHeads(endpoint, authorization)
        self._ready = False
        self._detail: str | None = "not tried yet"
        self._last_error: str | None = None
        self._known_at = -math.inf
        self._checking: asyncio.Task[NotStarted | None] | None = None

    async def __aenter__(self) -> Self:
        """Look whether the target is there. One that is not (yet) is no error; a name that leads astray is."""
        error = await self._find_out()
        if isinstance(error, AddressRefused):
            hint = "give the address itself, or list it with its port under `hosts` in the ceiling"
            raise Error("target_invalid", str(error), hint=hint) from error
        if error is not None:
            log.warning("the target does not answer yet: %s", error)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._checking is not None:
            self._checking.cancel()
            await asyncio.wait([self._checking])
        await self._pool.close()

    async def exchange(self, request: Request, reply: Reply) -> None:
        """See Target. A POST goes to the server at most once; what may be repeated is asked again if a kept connection
        turns out to be dead. A redirect is not followed: the answer says so.
        """
        head = self._heads.write(request)
        connection = await self._take()
        reply.dispatched()
        try:
            try:
                await self._carry(connection, head, request, reply)
            except Stale as stale:
                self._pool.forget_idle()
                if request.method not in _HARMLESS_TWICE:
                    raise
                await self._carry(await self._take_another(stale), head, request, reply)
        except Lost as error:
            self._last_error = str(error)
            self._known_at = -math.inf
            raise
        except asyncio.CancelledError:
            if reply.cancel is Cancel.DEADLINE:
                await self._say_cancelled(request)
            raise

    def state(self) -> Mapping[str, object]:
        """See Target. What is known, at most five seconds old while somebody asks: asking refreshes old knowledge."""
        if self._clock.monotonic() - self._known_at > FRESH and (self._checking is None or self._checking.done()):
            self._checking = asyncio.create_task(self._find_out())
        return {
            "ready": self._ready,
            "detail": self._detail,
            "connections": self._pool.open,
            "last_error": self._last_error,
        }

    async def _find_out(self) -> NotStarted | None:
        """Whether a connection can be had now: None, or what stood in the way."""
        try:
            self._pool.give_back(await self._take())
        except NotStarted as error:
            return error
        return None

    # ------------------------------------------------------------ one exchange

    async def _take(self) -> Connection:
        try:
            connection = await self._pool.take()
        except NotStarted as error:
            self._note(error)
            raise
        self._note(None)
        return connection

    async def _take_another(self, stale: Stale) -> Connection:
        try:
            return await self._take()
        except NotStarted as error:
            raise Lost(f"{stale}, and then: {error}", told=f"{stale}, and then: {error.told}") from error

    def _note(self, error: NotStarted | None) -> None:
        """What taking a connection said about the target."""
        self._known_at = self._clock.monotonic()
        self._ready = error is None
        self._detail = None if error is None else str(error)
        if error is not None:
            self._last_error = str(error)

    async def _carry(self, connection: Connection, head: bytes, request: Request, reply: Reply) -> None:
        """Ask over this connection, pass the answer on as it comes, give the connection back."""
        try:
            answer = await connection.ask(head, request.body)
            if 300 <= answer.status <= 399:
                self._refuse_redirect(answer, request, reply)
                return
            try:
                media.streams_events(answer.status, answer.headers)
            except jsonrpc.Refused as unreadable:
                self._refuse_unreadable(unreadable, request, reply)
                return
            if answer.length is not None and answer.length > RESULT_LIMIT:
                raise TooLarge(f"the target announced more than {RESULT_LIMIT} bytes")
            reply.head(answer.status, end_to_end(answer.headers))
            taken, endless = 0, request.method == "GET"  # a stream of events may stay open for days
            while piece := await connection.read():
                taken += len(piece)
                if taken > RESULT_LIMIT and not endless:
                    raise TooLarge(f"the target answered with more than {RESULT_LIMIT} bytes")
                reply.piece(piece)
                await reply.drain()
        finally:
            self._pool.give_back(connection)

    def _refuse_redirect(self, answer: Head, request: Request, reply: Reply) -> None:
        """Answer in the target's place. Where it points to is for our log: an agent learns no internal address."""
        where = dict(answer.headers).get("location", "nowhere")[:200]
        log.warning("%s answered %d and points to %r; redirects are not followed", self._endpoint, answer.status, where)
        self._last_error = f"it answered {answer.status} and points to {where!r}; redirects are not followed"
        _answer(reply, *redirect_refused(request))

    def _refuse_unreadable(self, why: jsonrpc.Refused, request: Request, reply: Reply) -> None:
        """Answer in the target's place: what a client unpacks or decodes in its own way is not what was judged."""
        error = Error(why.code, why.message)
        log.warning("%s: %s; %s", self._endpoint, error.message, error.hint)
        self._last_error = error.message
        _answer(reply, *refused(request, error))

    async def _say_cancelled(self, request: Request) -> None:
        """Tell the server that nobody waits any more, over another connection; it may be gone."""
        if (notice := cancel_notice(request)) is None:
            return
        try:
            async with asyncio.timeout(LAST_WORD):
                connection = await self._pool.take()
                try:
                    await connection.ask(self._heads.write(notice), notice.body)
                finally:
                    self._pool.give_back(connection)
        except (NotStarted, Lost, TimeoutError) as error:
            log.debug("%s could not be told that %s was cancelled: %s", self._endpoint, request.call_id, error)


def _answer(reply: Reply, status: int, headers: Headers, body: bytes) -> None:
    reply.head(status, headers)
    if body:
        reply.piece(body)
