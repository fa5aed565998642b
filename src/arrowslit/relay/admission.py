"""Admission: how many calls of a tenant and of a tunnel may be in flight, who waits, and in which order they begin.

A relay that is asked for more than it can do has calls waiting somewhere. Here they wait by tenant, and tenants take
turns: a few calls begin in each turn of the loop, so that one tenant's thousand are not before another's one (P15).
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from dataclasses import dataclass
from typing import NamedTuple

from arrowslit.errors import Error
from arrowslit.principal import Tenant
from arrowslit.relay.deadline import Deadline, Deadlines


@dataclass(frozen=True, slots=True)
class Bounds:
    """In flight at most so many a tenant and a tunnel; so many wait for a place, all together; the next one is told to
    come later. Of those that have a place `a_turn` begin in one turn of the loop, enough to be worth its while; while
    several tenants have calls only `a_shared_turn`, so that whoever comes next does not find a long one under way.
    """

    per_tenant: int = 256
    per_tunnel: int = 512
    waiting: int = 1024
    a_turn: int = 16
    a_shared_turn: int = 4


class _Waiter(NamedTuple):
    tunnel_id: str
    turn: asyncio.Future[None]


class Admission:
    """A turnstile. Those of a tenant enter in the order they came, as soon as tenant and tunnel have room."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._tenants: Counter[Tenant | None] = Counter()
        self._tunnels: Counter[str] = Counter()
        self._lines: dict[Tenant | None, deque[_Waiter]] = {}  # never an empty one; whose turn is next stands first
        self._waiting = 0
        self._begun = 0  # in this turn of the loop
        self._turn_due = False
        self._deadlines = Deadlines()

    async def enter(self, tenant: Tenant | None, tunnel_id: str, until: float | None = None) -> None:
        """Take a place, waiting for it; give it back with `leave`. Raises Error `rate_limited` when too many wait.

        Then the latest of the longest line is told so, which is this one unless another tenant's is longer. Raises
        TimeoutError, without a place, where it would have to wait past `until` (loop time; None: it may wait for ever).
        """
        if not self._waiting and self._begun < self._most() and self._has_room(tenant, tunnel_id):
            self._take(tenant, tunnel_id)
            self._turn_soon()
        else:
            with Deadline(self._deadlines, until):
                await self._wait(tenant, tunnel_id)

    async def _wait(self, tenant: Tenant | None, tunnel_id: str) -> None:
        line = self._lines.get(tenant, ())
        if self._waiting >= self._bounds.waiting and not self._has_room(tenant, tunnel_id, before=len(line)):
            self._make_room(len(line) + 1)
        waiter = _Waiter(tunnel_id, asyncio.get_running_loop().create_future())
        self._lines.setdefault(tenant, deque()).append(waiter)
        self._waiting += 1
        self._turn_soon()
        try:
            await waiter.turn
        except asyncio.CancelledError:
            if waiter.turn.done() and not waiter.turn.cancelled():
                if waiter.turn.exception() is None:
                    self.leave(tenant, tunnel_id)
            else:
                self._out_of_line(tenant, waiter)
            raise

    def _make_room(self, mine: int) -> None:
        """Send away the latest of a line that is longer than `mine`, or raise Error `rate_limited`."""
        longest = max(self._lines, key=lambda each: len(self._lines[each]))
        line = self._lines[longest]
        if len(line) <= mine or self._has_room(longest, line[-1].tunnel_id, before=len(line) - 1):
            raise _too_many()
        latest = line[-1]
        self._out_of_line(longest, latest)
        if not latest.turn.done():
            latest.turn.set_exception(_too_many())

    def _has_room(self, tenant: Tenant | None, tunnel_id: str, before: int = 0) -> bool:
        """Whether there is room for one more, and for the `before` that were here earlier."""
        bounds = self._bounds
        return (
            self._tenants[tenant] + before < bounds.per_tenant and self._tunnels[tunnel_id] + before < bounds.per_tunnel
        )

    def _most(self) -> int:
        """How many may begin in this turn of the loop."""
        return self._bounds.a_turn if len(self._tenants) < 2 else self._bounds.a_shared_turn

    def _take(self, tenant: Tenant | None, tunnel_id: str) -> None:
        self._tenants[tenant] += 1
        self._tunnels[tunnel_id] += 1
        self._begun += 1

    def leave(self, tenant: Tenant | None, tunnel_id: str) -> None:
        """Give a place back."""
        self._tenants[tenant] -= 1
        self._tunnels[tunnel_id] -= 1
        if not self._tenants[tenant]:
            del self._tenants[tenant]
        if not self._tunnels[tunnel_id]:
            del self._tunnels[tunnel_id]
        if self._waiting:
            self._turn_soon()

    def _turn_soon(self) -> None:
        if not self._turn_due:
            self._turn_due = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        """A new turn of the loop: from each tenant that waits one call, and again, until enough have begun."""
        self._turn_due = False
        self._begun = 0
        passed_over = 0
        while passed_over < len(self._lines) and self._begun < self._most():
            tenant, line = next(iter(self._lines.items()))
            self._lines[tenant] = self._lines.pop(tenant)  # to the end
            waiter = next((each for each in line if self._has_room(tenant, each.tunnel_id)), None)
            if waiter is None:
                passed_over += 1
                continue
            passed_over = 0
            self._out_of_line(tenant, waiter)
            if not waiter.turn.done():
                self._take(tenant, waiter.tunnel_id)
                waiter.turn.set_result(None)
        if self._begun:
            self._turn_soon()

    def _out_of_line(self, tenant: Tenant | None, waiter: _Waiter) -> None:
        line = self._lines.get(tenant)
        if line is None or waiter not in line:
            return
        line.remove(waiter)
        self._waiting -= 1
        if not line:
            del self._lines[tenant]


def _too_many() -> Error:
    return Error(
        "rate_limited",
        "too many calls are waiting",
        hint="try again in a second, with fewer calls at once",
        retry_after=1,
    )
