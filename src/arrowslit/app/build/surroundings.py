"""The walls around a session's code and the way out of them: what the worker and `arrowslit sandbox run` share."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from arrowslit.app.config import IsolationConfig
from arrowslit.clock import Clock, SystemClock
from arrowslit.ids import RandomBytes
from arrowslit.policy.egress import Rule
from arrowslit.sandbox.egress.resolver import SystemResolver
from arrowslit.sandbox.isolation.bubblewrap import Bubblewrap
from arrowslit.sandbox.isolation.isolation import Isolation, Sandbox
from arrowslit.sandbox.isolation.unconfined import Unconfined
from arrowslit.sandbox.place import Surroundings
from arrowslit.sandbox.tools.tool import Tool
from arrowslit.sandbox.tools.tools import tools


@asynccontextmanager
async def open_surroundings(
    config: IsolationConfig,
    rules: tuple[Rule, ...] = (),
    clock: Clock | None = None,
    random: RandomBytes = os.urandom,
) -> AsyncIterator[Surroundings]:
    """Isolation, proved, and the rules of the way out. Raises Error `sandbox_unavailable`."""

    def make(sandbox: Sandbox, environment: Mapping[str, str]) -> Sequence[Tool]:
        return tools(sandbox, environment=environment, random=random)

    resolver = SystemResolver()
    try:
        async with _isolation(config) as isolation:
            yield Surroundings(
                isolation=isolation,
                rules=rules,
                egress=config.kind != "none",
                resolve=resolver,
                make_tools=make,
                clock=clock or SystemClock(),
            )
    finally:
        resolver.close()


def _isolation(config: IsolationConfig) -> Isolation:
    if config.kind == "none":
        return Unconfined()
    return Bubblewrap(uids=config.uids, allow_degraded=config.allow_degraded)
