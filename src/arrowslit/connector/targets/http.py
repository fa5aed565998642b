"""HttpTarget: an MCP server that speaks Streamable HTTP, reached as a streaming reverse proxy reaches its upstream."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Collection, Mapping
from types import TracebackType
from typing import Self

from arrowslit.clock import Clock
from arrowslit.connector.targets.target import Asker, Exchange, NotStarted, Request
from arrowslit.connector.targets.upstream.address import Endpoint, HostPort
from arrowslit.connector.targets.upstream.asking import Asking, Upstream
from arrowslit.connector.targets.upstream.forwarding import RequestHeads
from arrowslit.connector.targets.upstream.health import Health
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

log = logging.getLogger(__name__)


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
        if endpoint.tls and tls is None:
            tls = ssl.create_default_context()
        way = Way(endpoint, allowed, resolve, tls if endpoint.tls else None)
        self._upstream = Upstream(
            endpoint,
            clock,
            Pool(way, clock, limit=CONNECTIONS, idle_limit=IDLE_LIMIT),
            RequestHeads(endpoint, authorization),
            Health(clock),
        )
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
        await self._upstream.pool.close()

    def begin(self, request: Request, asker: Asker, tasks: asyncio.TaskGroup) -> Exchange:
        """See Target."""
        asking = Asking(self._upstream, request, asker, tasks)
        asking.start()
        return asking

    def state(self) -> Mapping[str, object]:
        """See Target. What is known, at most five seconds old while somebody asks: asking refreshes old knowledge."""
        health = self._upstream.health
        if not health.fresh and (self._checking is None or self._checking.done()):
            self._checking = asyncio.create_task(self._find_out())
        return {
            "ready": health.ready,
            "detail": health.detail,
            "connections": self._upstream.pool.open,
            "last_error": health.last_error,
        }

    async def _find_out(self) -> NotStarted | None:
        """Whether a connection can be had now: None, or what stood in the way."""
        try:
            self._upstream.pool.give_back(await self._upstream.take())
        except NotStarted as error:
            return error
        return None
