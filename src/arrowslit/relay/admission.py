"""Admission: how many calls of a tenant and of a tunnel may be in flight, and who waits."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from dataclasses import dataclass

from arrowslit.errors import Error
from arrowslit.principal import Tenant


@dataclass(frozen=True, slots=True)
class Bounds:
    """In flight at most so many a tenant and a tunnel; so many wait, all together; the next one is told to come
    later.
    """

    per_tenant: int = 256
    per_tunnel: int = 512
    waiting: int = 1024


class Admission:
    """A turnstile. Those who wait enter in the order they came, as soon as their own tenant and tunnel have room."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._tenants: Counter[Tenant | None] = Counter()
        self._tunnels: Counter[str] = Counter()
        self._waiting: deque[tuple[Tenant | None, str, asyncio.Future[None]]] = deque()

    async def enter(self, tenant: Tenant | None, tunnel_id: str) -> None:
        """Take a place, waiting for it; give it back with `leave`. Raises Error `rate_limited` when too many wait."""
        if self._has_room(tenant, tunnel_id):
            self._take(tenant, tunnel_id)
        else:
            await self._wait(tenant, tunnel_id)

    async def _wait(self, tenant: Tenant | None, tunnel_id: str) -> None:
        if len(self._waiting) >= self._bounds.waiting:
            raise Error(
                "rate_limited",
                "too many calls are waiting",
                hint="try again in a second, with fewer calls at once",
                retry_after=1,
            )
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter = (tenant, tunnel_id, turn)
        self._waiting.append(waiter)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave(tenant, tunnel_id)
            else:
                self._waiting.remove(waiter)
            raise

    def _has_room(self, tenant: Tenant | None, tunnel_id: str) -> bool:
        return self._tenants[tenant] < self._bounds.per_tenant and self._tunnels[tunnel_id] < self._bounds.per_tunnel

    def _take(self, tenant: Tenant | None, tunnel_id: str) -> None:
        self._tenants[tenant] += 1
        self._tunnels[tunnel_id] += 1

    def leave(self, tenant: Tenant | None, tunnel_id: str) -> None:
        """Give a place back, and let the first who fits into it enter."""
        self._tenants[tenant] -= 1
        self._tunnels[tunnel_id] -= 1
        if not self._tenants[tenant]:
            del self._tenants[tenant]
        if not self._tunnels[tunnel_id]:
            del self._tunnels[tunnel_id]
        for waiter in self._waiting:
            if self._has_room(waiter[0], waiter[1]):
                self._waiting.remove(waiter)
                self._take(waiter[0], waiter[1])
                waiter[2].set_result(None)
                return
