"""The life of `arrowslit connect`: start the target, keep the tunnel open, and leave without losing a call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from arrowslit.app.build.connector import Connector, open_connector
from arrowslit.app.config import ConnectConfig
from arrowslit.app.health import health
from arrowslit.app.serve import serve_health
from arrowslit.app.signals import signals
from arrowslit.protocol import hello

CALLS_FINISH = 10.0  # seconds that running calls have after SIGTERM


@dataclass(frozen=True, slots=True)
class Opened:
    """What was agreed on with the relay. `fingerprint` is that of our key; `pinned`: no other key may serve."""

    tunnel: str
    fingerprint: str
    pinned: bool


async def connect(
    config: ConnectConfig, started: Callable[[Connector], None], opened: Callable[[Opened], None]
) -> None:
    """Run a connector until SIGTERM or SIGINT, the second of which does not wait for running calls.

    `started` hears once that the target runs, `opened` once of the first link. Raises Error, in groups, for what stands
    in the way of either and will not pass by waiting.
    """
    task = asyncio.current_task()
    assert task is not None
    run = _Run(config, started, opened)

    def stop() -> None:
        if run.leaving.is_set() or not run.started:
            task.cancel()
        run.leaving.set()

    with signals(stop):
        try:
            await run.until_left()
        except asyncio.CancelledError:
            if not run.leaving.is_set():
                raise
            task.uncancel()


class _Run:
    def __init__(
        self, config: ConnectConfig, on_start: Callable[[Connector], None], on_first: Callable[[Opened], None]
    ) -> None:
        self.leaving = asyncio.Event()
        self.started = False
        self._config = config
        self._on_start = on_start
        self._on_first = on_first
        self._fingerprint = ""
        self._opened = False

    async def until_left(self) -> None:
        async with open_connector(self._config, on_open=self._open) as connector, asyncio.TaskGroup() as tasks:
            self.started = True
            self._fingerprint = connector.fingerprint
            self._on_start(connector)
            running = [tasks.create_task(connector.dialler.keep_connected())]
            if self._config.health is not None:
                running.append(tasks.create_task(serve_health(health(connector), self._config.health)))
            await self.leaving.wait()
            await connector.dialler.drain(CALLS_FINISH)
            for task in running:
                task.cancel()

    def _open(self, welcome: hello.Welcome) -> None:
        if not self._opened:
            self._opened = True
            self._on_first(Opened(welcome.tunnel, self._fingerprint, welcome.pinned))
