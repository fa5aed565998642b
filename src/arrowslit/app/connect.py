"""The life of `arrowslit connect`: start the targets, keep the tunnel open, and leave without losing a call."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from arrowslit.app.build.connector import Connector, open_connector, read_plan
from arrowslit.app.config import ConnectConfig
from arrowslit.app.health import health
from arrowslit.app.problems import problems
from arrowslit.app.serve import serve_health
from arrowslit.app.signals import signals
from arrowslit.errors import Error
from arrowslit.protocol import hello

log = logging.getLogger(__name__)

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
    """Run a connector until SIGTERM or SIGINT, the second of which does not wait for running calls. SIGHUP reads its
    file again, if it has one.

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

    with signals(stop, None if config.file is None else run.again.set):
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
        self.again = asyncio.Event()  # the file is to be read again
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
            running = [
                tasks.create_task(connector.dialler.keep_connected()),
                tasks.create_task(self._reload(connector)),
            ]
            if self._config.health is not None:
                running.append(tasks.create_task(serve_health(health(connector), self._config.health)))
            await self.leaving.wait()
            await connector.dialler.drain(CALLS_FINISH)
            for task in running:
                task.cancel()

    async def _reload(self, connector: Connector) -> None:
        """Apply the file anew whenever that is wished: as a whole, or not at all. Never returns."""
        while True:
            await self.again.wait()
            self.again.clear()
            try:
                plan = read_plan(self._config)
                await connector.offer(plan)
            except Error as error:
                _say_kept(error)
            else:
                log.info("%s is in use: %s", self._config.file, ", ".join(str(each.name) for each in plan.targets))

    def _open(self, welcome: hello.Welcome) -> None:
        if not self._opened:
            self._opened = True
            self._on_first(Opened(welcome.tunnel, self._fingerprint, welcome.pinned))


def _say_kept(error: Error) -> None:
    """Why a file was not applied, every problem on a line."""
    log.error("%s; what was offered before is offered still", error.message)
    for each in problems(error):
        log.error("  %s; %s", each, each.hint)
    if not problems(error):
        log.error("  %s", error.hint)
