"""Pool: the connections to one endpoint, opened when needed, kept for the next exchange, closed soon when idle."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass

from arrowslit.clock import Clock
from arrowslit.connector.targets.target import NotStarted
from arrowslit.connector.targets.upstream.address import Endpoint, HostPort, loopback_name, permitted
from arrowslit.connector.targets.upstream.connection import Connection

CONNECT_LIMIT = 5.0  # seconds to resolve, connect and shake hands
IDLE_LIMIT = 1.0
"""Seconds a connection is kept idle. Servers close theirs after two (gunicorn), five (uvicorn, Node) or more: with one,
a request almost never meets a connection that is being closed, which could only be told as `Lost`."""
UNREACHABLE = "the target cannot be reached from its connector"
CONNECTIONS = 2048  # as many as the connector serves streams, calls and listeners: neither takes the other's places

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host name and port -> addresses, best first. Raises OSError where there are none."""


class AddressRefused(NotStarted):
    """The host's name leads only to addresses that may not be connected to."""


async def system_resolve(host: str, port: int) -> Sequence[str]:
    """What this machine's resolver says, asked in a thread of the loop's."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


@dataclass(slots=True)
class Way:
    """How to get to an endpoint. No proxy stands in it, whatever the environment says.

    A name is resolved once, and what was found and checked is `pinned`: whoever answers for the name later moves nobody
    who is still there. Only when none of these addresses can be connected to is the name asked for again.
    """

    endpoint: Endpoint
    allowed: Collection[HostPort]
    resolve: Resolve
    tls: ssl.SSLContext | None
    pinned: Sequence[str] = ()

    async def connect(self, alive: set[Connection]) -> Connection:
        """A new connection, to exactly an address that was resolved and checked here. Raises NotStarted."""
        try:
            async with asyncio.timeout(CONNECT_LIMIT):
                return await self._connect(alive)
        except OSError as error:  # refused, unreachable, no such name, a handshake that failed, or TimeoutError
            self.pinned = ()
            reason = str(error) or f"no answer within {CONNECT_LIMIT:g} s"
            raise NotStarted(f"no connection to {self.endpoint}: {reason}", told=UNREACHABLE) from error

    async def _connect(self, alive: set[Connection]) -> Connection:
        if self.pinned:
            with contextlib.suppress(OSError):  # it may have moved
                return await self._first(self.pinned, alive)
        addresses = await self.addresses()
        connection = await self._first(addresses, alive)
        self.pinned = addresses
        return connection

    async def addresses(self) -> list[str]:
        """The addresses that may be connected to. Raises AddressRefused if there are only others, OSError if none."""
        place = self.endpoint.place
        found = ("127.0.0.1", "::1") if loopback_name(place.host) else await self._resolved(place)
        if not (addresses := permitted(place, found, self.allowed)):
            where = f"{place.host} leads to {', '.join(found)}, which is not an allowed address"
            raise AddressRefused(where, told=UNREACHABLE)
        return addresses

    async def _resolved(self, place: HostPort) -> Sequence[str]:
        return (place.host,) if place.is_address else await self.resolve(place.host, place.port)

    async def _first(self, addresses: Sequence[str], alive: set[Connection]) -> Connection:
        """The first address that can be connected to; each gets its share of the time."""
        for address in addresses[:-1]:
            try:
                async with asyncio.timeout(CONNECT_LIMIT / len(addresses)):
                    return await self._open(address, alive)
            except OSError:
                continue
        return await self._open(addresses[-1], alive)

    async def _open(self, address: str, alive: set[Connection]) -> Connection:
        name = self.endpoint.place.host if self.tls else None
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: Connection(alive), address, self.endpoint.place.port, ssl=self.tls, server_hostname=name
        )
        return connection


class Pool:
    """At most `limit` connections over one way, idle for at most `idle_limit` seconds. What `take` or `take_kept`
    returned goes back through `give_back`, in any state.
    """

    def __init__(self, way: Way, clock: Clock, *, limit: int, idle_limit: float) -> None:
        self._way = way
        self._clock = clock
        self._idle_limit = idle_limit
        self._limit = limit
        self._taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()  # for a place
        self._alive: set[Connection] = set()
        self._idle: list[Connection] = []  # the one used last at the end, and taken first
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def open(self) -> int:
        """How many connections there are, busy and idle."""
        return len(self._alive)

    def take_kept(self, now: float) -> Connection | None:
        """A connection that nobody else uses, if one need not wait for it; `now` in monotonic seconds."""
        if self._taken >= self._limit or self._waiting:
            return None
        connection = self._kept(now)
        if connection is not None:
            self._taken += 1
        return connection

    async def take(self) -> Connection:
        """A connection that nobody else uses, waiting for a place. Raises NotStarted if none can be had."""
        while self._taken >= self._limit:
            await self._place()
        self._taken += 1
        try:
            if self._closed:
                raise NotStarted("this target is being stopped")
            return self._kept(self._clock.monotonic()) or await self._new()
        except BaseException:
            self._taken -= 1
            self._tell_next()
            raise

    async def _place(self) -> None:
        """Wait until there may be a place; who is told so and leaves tells the next."""
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(told)
        try:
            await told
        except asyncio.CancelledError:
            if not told.cancelled():
                self._tell_next()
            raise

    def _tell_next(self) -> None:
        while self._waiting and self._taken < self._limit:
            told = self._waiting.popleft()
            if not told.done():  # it has not left
                told.set_result(None)
                return

    def give_back(self, connection: Connection) -> None:
        """The exchange is over: keep the connection for the next one, or close it where it cannot carry another."""
        self._taken -= 1
        if self._waiting:
            self._tell_next()
        if not connection.rest():
            connection.abort()
            return
        connection.idle_since = self._clock.monotonic()
        self._idle.append(connection)
        if self._sweep is None:
            self._sweep_later()

    def forget_idle(self) -> None:
        """Close what is idle: one such connection turned out to be dead, the others are likely to be."""
        for connection in self._idle:
            connection.abort()
        self._idle.clear()

    async def close(self) -> None:
        """Close every connection, those in use too, and open no more."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        self._idle.clear()
        alive = list(self._alive)
        for connection in alive:
            connection.abort()
        for connection in alive:
            await connection.gone.wait()

    def _kept(self, now: float) -> Connection | None:
        """The connection that became idle last, if it is still good; otherwise older ones are no better."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable and now - connection.idle_since < self._idle_limit:
                return connection
            connection.abort()
        return None

    async def _new(self) -> Connection:
        connection = await self._way.connect(self._alive)
        if self._closed or not connection.usable:
            connection.abort()
            raise NotStarted("the connection was closed as soon as it was made")
        return connection

    def _sweep_later(self) -> None:
        self._sweep = asyncio.get_running_loop().call_later(self._idle_limit, self._close_old)

    def _close_old(self) -> None:
        """Close what has been idle for too long; look again later if anything is left."""
        self._sweep = None
        newest_old = self._clock.monotonic() - self._idle_limit
        while self._idle and (self._idle[0].idle_since <= newest_old or not self._idle[0].usable):
            self._idle.pop(0).abort()
        if self._idle:
            self._sweep_later()
