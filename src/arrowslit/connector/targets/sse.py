"""The SSE target: a server of the transport of MCP 2024-11-05, which the façade makes a Streamable HTTP endpoint."""

from __future__ import annotations

import ssl
from collections.abc import Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from arrowslit.clock import Clock
from arrowslit.connector.targets.eventsource.doors import Doors
from arrowslit.connector.targets.eventsource.stream import EventStream
from arrowslit.connector.targets.processes.channel import Channel, Listener
from arrowslit.connector.targets.processes.crowd import Crowd, TooMany
from arrowslit.connector.targets.target import NotStarted
from arrowslit.connector.targets.upstream.address import Endpoint, HostPort, read_endpoint
from arrowslit.connector.targets.upstream.pool import CONNECTIONS, IDLE_LIMIT, Pool, Resolve, Way, system_resolve

_PREFIX = "sse+"

MOST_STREAMS = 64  # as many as a stdio target has processes (tunnel.md, "Limits")


@dataclass(frozen=True, slots=True)
class SseEndpoint:
    """The URL of the event stream of a server of that transport."""

    endpoint: Endpoint

    def __str__(self) -> str:
        return f"{_PREFIX}{self.endpoint}"


def read_url(text: str) -> Endpoint | SseEndpoint:
    """What `http(s)://…` or `sse+http(s)://…` names. Raises Error `target_invalid`."""
    if text.startswith(_PREFIX):
        return SseEndpoint(read_endpoint(text.removeprefix(_PREFIX)))
    return read_endpoint(text)


class EventSource:
    """A Program: opens an event stream, which is a session at the server, as often as it is asked to.

    Arguments as those of `HttpTarget`.
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
        most: int = MOST_STREAMS,
    ) -> None:
        self._doors = Doors(endpoint, authorization)
        self._doors.listen()  # a credential that is no header value is refused now, and not by the first call
        if endpoint.tls and tls is None:
            tls = ssl.create_default_context()
        way = Way(endpoint, allowed, resolve, tls if endpoint.tls else None)
        self._pool = Pool(way, clock, limit=CONNECTIONS, idle_limit=IDLE_LIMIT)
        self._streams = Crowd(most)
        self._opened = AsyncExitStack()

    @property
    def name(self) -> str:
        """Program: what callers may know of it."""
        return "the server"

    @property
    def running(self) -> int:
        """Program: how many streams are open."""
        return len(self._streams)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._pool.close)
            await stack.enter_async_context(self._streams)
            self._opened = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._opened.__aexit__(None, None, None)

    async def start(self, listener: Listener) -> Channel:
        """Program: one more stream."""
        stream = EventStream(self._doors, self._pool, listener)
        try:
            failure = await self._streams.start(stream, stream.run())
        except TooMany:
            most = self._streams.most
            raise TooMany(f"{self.name} has {most} streams open already, for as many sessions") from None
        if failure is not None:
            raise NotStarted(f"{self.name}: {failure}")
        return stream

    def hint(self, last_words: str) -> str:
        """Program: what to look at."""
        return f"the target must be the address of the event stream, often …/sse; try: curl -N {self._doors.endpoint}"
