"""/v1/sessions/{id}/events/stream: a session's events as they happen, as server-sent events without replay."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta, field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from arrowslit.agents.api.reading import read_query
from arrowslit.agents.api.resource import INVOKERS, WORKERS, Doorkeeper, Method, caller
from arrowslit.agents.api.schema import Strict
from arrowslit.agents.api.visible import present, visible
from arrowslit.agents.sessions.follow import Follower
from arrowslit.agents.sessions.frames import CONNECTED, PING
from arrowslit.agents.sessions.log import Log
from arrowslit.clock import Clock
from arrowslit.edge.auth import authenticate_anyone
from arrowslit.errors import Error
from arrowslit.session import SessionStatus
from arrowslit.work import Worker

PING_AFTER = 15.0  # seconds of silence; the SDK waits 600, proxies often 60
LOOK_AFTER = 1.0  # seconds; a credential that ended has its streams no longer than five (P11)
LAST_WORD = 1.0  # seconds that a reader has to take the end of its stream


class StreamQuery(Strict):
    """GET /v1/sessions/{id}/events/stream."""

    event_deltas: Annotated[list[Literal["agent.message", "agent.thinking"]], Meta(max_length=8)] = field(
        default_factory=list, name="event_deltas[]"
    )


@dataclass(frozen=True, slots=True)
class StreamApi:
    """The handler."""

    log: Log
    clock: Clock

    def routes(self, keeper: Doorkeeper) -> list[Route]:
        """The path of this resource."""

        async def follow(request: Request) -> object:
            return await self.follow(request, keeper)

        method = Method(follow, INVOKERS | WORKERS, query=StreamQuery, errors=("session_not_found",), stream=True)
        return [keeper.resource("/v1/sessions/{session_id}/events/stream", get=method)]

    async def follow(self, request: Request, keeper: Doorkeeper) -> Response:
        """Every event from now on. The reader is registered before anything is answered, so that none is missed."""
        who = caller(request)
        present(who)
        deltas = frozenset[str](read_query(request, StreamQuery).event_deltas)
        session_id = str(request.path_params["session_id"])
        follower = self.log.follow(session_id, deltas=deltas, worker=isinstance(who, Worker), reader=who.id)
        try:
            session, _ = await visible(request, self.log)
        except BaseException:
            follower.close()
            raise
        if session.status is SessionStatus.TERMINATED:
            follower.end()

        async def live() -> bool:
            return await still(request, keeper)

        return EventStream(follower, live, self.clock)


async def still(request: Request, keeper: Doorkeeper) -> bool:
    """Whether the credential of a request that was let in is still good, and for the same caller."""
    headers = [(name.decode("latin-1"), value.decode("latin-1").strip()) for name, value in request.headers.raw]
    try:
        who = await authenticate_anyone(headers, keeper.credentials, keeper.wrong, keeper.workers)
    except Error as error:
        return error.code not in ("unauthenticated", "rate_limited")  # not known at the moment is no no
    return who.id == caller(request).id and not (isinstance(who, Worker) and who.late)


class EventStream(Response):
    """The answer: frames until the session, the reader or its right to read ends.

    Of a reader that is slow, or does not read at all, nothing is kept: what it has not taken is in the log.
    """

    def __init__(self, follower: Follower, live: Callable[[], Awaitable[bool]], clock: Clock) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers({"content-type": "text/event-stream", "x-accel-buffering": "no"})
        self._follower = follower
        self._live = live
        self._clock = clock
        self._sent_at = clock.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream."""
        with self._follower:
            head = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            await send(head)
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._watch())
                    tasks.create_task(_until_gone(receive))
                    await self._frames(send)
                    raise _Over
            except* _Over:
                pass
        try:
            async with asyncio.timeout(LAST_WORD):
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            pass  # it takes nothing; the server drops the connection

    async def _frames(self, send: Send) -> None:
        await self._write(send, CONNECTED)
        while not self._follower.ended:
            items = await self._follower.take()
            if items:
                await self._write(send, b"".join(item.frame for item in items))
            elif self._clock.monotonic() - self._sent_at >= PING_AFTER:
                await self._write(send, PING)

    async def _write(self, send: Send, data: bytes) -> None:
        await send({"type": "http.response.body", "body": data, "more_body": True})
        self._sent_at = self._clock.monotonic()

    async def _watch(self) -> None:
        """Look at the credential and the silence once in a while, also while a write waits for its reader."""
        while True:
            await self._clock.sleep(LOOK_AFTER)
            if not await self._live():
                raise _Over
            self._follower.nudge()


class _Over(Exception):
    """The stream ends here."""


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    raise _Over
