"""Waiting: sessions that the relay could take further, and which of them is next: tenants take turns."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

from arrowslit.principal import Tenant


@dataclass(slots=True)
class Waiting:
    """Places for `places` sessions at once. One tenant never takes more than `each`, so that others find one."""

    places: int
    each: int
    _queues: dict[Tenant | None, deque[str]] = field(default_factory=dict)
    _queued: set[str] = field(default_factory=set)
    _taken: dict[str, Tenant | None] = field(default_factory=dict)
    _by_tenant: Counter[Tenant | None] = field(default_factory=Counter)

    def add(self, session_id: str, tenant: Tenant | None) -> None:
        """Queue a session, unless it waits already."""
        if session_id not in self._queued:
            self._queued.add(session_id)
            self._queues.setdefault(tenant, deque()).append(session_id)

    def take(self) -> str | None:
        """The next session that gets a place, None if there is none: of the tenant that has the fewest, and among
        those of the one that has waited longest.
        """
        free = [tenant for tenant in self._queues if self._by_tenant[tenant] < self.each]
        if not free or len(self._taken) >= self.places:
            return None
        tenant = min(free, key=lambda tenant: self._by_tenant[tenant])
        queue = self._queues.pop(tenant)
        session_id = queue.popleft()
        if queue:
            self._queues[tenant] = queue  # now the last in line
        self._queued.discard(session_id)
        self._taken[session_id] = tenant
        self._by_tenant[tenant] += 1
        return session_id

    def leave(self, session_id: str) -> None:
        """Give a place back."""
        tenant = self._taken.pop(session_id)
        self._by_tenant[tenant] -= 1
        if not self._by_tenant[tenant]:
            del self._by_tenant[tenant]

    def knows(self, session_id: str) -> bool:
        """Whether it waits, or has a place."""
        return session_id in self._queued or session_id in self._taken
