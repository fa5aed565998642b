"""Fate: something happens at the n-th point of a story at which a process could die: around each word with the store,
the ledger, the model and a server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, cast

from arrowslit.agents.models.model import ModelRequest
from arrowslit.agents.models.scripted import Turn
from arrowslit.agents.servers.tool import ToolAnswer
from arrowslit.session import Sessions
from tests.agents.bench import Bench, bench, result


class Killed(Exception):
    """The process is no more: from then on it reaches nothing."""


class Fate:
    """Counts points. At number `at` it does `act`, or kills; with `at` 0 nothing happens."""

    def __init__(self, at: int = 0, act: Callable[[], None] | None = None) -> None:
        self.at = at
        self.count = 0
        self.came = asyncio.Event()
        self._act = act

    async def point(self) -> None:
        """Somewhere a process could die. Others go on meanwhile."""
        await asyncio.sleep(0)
        self.count += 1
        if self.count == self.at:
            self.came.set()
            if self._act is not None:
                self._act()
        if self._act is None and self.came.is_set():
            raise Killed


class Doomed:
    """Things as a process sees them that is subject to fate."""

    def __init__(self, inner: object, fate: Fate) -> None:
        self._inner = inner
        self._fate = fate

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not asyncio.iscoroutinefunction(found):
            return found

        async def at_risk(*args: object, **kwargs: object) -> object:
            await self._fate.point()
            answer = await found(*args, **kwargs)
            await self._fate.point()
            return answer

        return at_risk


def doomed_bench(rule: Callable[[ModelRequest], Turn]) -> Bench:
    """A bench whose server takes a moment and may see the relay die at any moment of it."""
    house = bench(rule=rule)

    async def behave(tool: str, arguments: Mapping[str, object], call_id: str) -> ToolAnswer:
        await asyncio.sleep(0.05)
        return result(call_id, "done")

    house.servers.behave = behave
    return house


def subject(house: Bench, fate: Fate) -> Bench:
    """`house` as a process sees it that is subject to `fate`: the same store, servers and records."""
    mortal = bench(rule=house.script.rule, sessions=cast(Sessions, Doomed(house.sessions, fate)))
    mortal.servers = cast(Any, Doomed(house.servers, fate))
    mortal.records = cast(Any, Doomed(house.records, fate))
    mortal.script = house.script
    mortal.model = house.model
    mortal.clock = house.clock
    mortal.seed = house.seed + fate.at * 7
    house.seed += 1000
    return mortal
