"""The targets of a connector while they run: each in a task of its own, so that one can be exchanged for another."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from arrowslit.app import state
from arrowslit.app.plan import TargetPlan
from arrowslit.clock import Clock
from arrowslit.connector.offer import Offer
from arrowslit.connector.targets.facade import Facade
from arrowslit.connector.targets.http import HttpTarget
from arrowslit.connector.targets.sse import EventSource, SseEndpoint
from arrowslit.connector.targets.stdio import Command, Stdio
from arrowslit.connector.targets.target import Target
from arrowslit.connector.targets.upstream.address import HostPort, read_place
from arrowslit.errors import Error
from arrowslit.ids import RandomBytes

log = logging.getLogger(__name__)

CALLS_FINISH = 3600.0  # seconds that the calls of a target have which is offered no more: no call may take longer


@dataclass(slots=True, eq=False)
class Running:
    """One target that runs until `leave` is set."""

    plan: TargetPlan
    offer: Offer
    leave: asyncio.Event = field(default_factory=asyncio.Event)

    def follow(self, plan: TargetPlan) -> None:
        """Let through what `plan` says from the next call on."""
        self.plan = plan
        self.offer.ceiling = plan.ceiling
        self.offer.most = plan.calls


class Targets:
    """Runs targets in `tasks`; `folder` is where they keep what survives a restart."""

    def __init__(self, tasks: asyncio.TaskGroup, clock: Clock, random: RandomBytes, folder: Path) -> None:
        self._tasks = tasks
        self._clock = clock
        self._random = random
        self._folder = folder
        self._running: list[Running] = []
        self._leaving: set[asyncio.Task[None]] = set()

    async def apply(self, plans: Sequence[TargetPlan]) -> list[Offer]:
        """Run exactly these: what runs alike already goes on, under the ceiling that is new, the others are started
        first, and what is left over ends once its calls have. Returns what is offered now.

        Raises Error, with nothing changed, if one of them cannot be started.
        """
        kept = {each.plan.name: each for each in self._running if any(each.plan.runs_like(plan) for plan in plans)}
        new = [plan for plan in plans if plan.name not in kept]
        started = await asyncio.gather(*(self._start(plan) for plan in new), return_exceptions=True)
        failures = [each for each in started if isinstance(each, BaseException)]
        fresh = {each.plan.name: each for each in started if isinstance(each, Running)}
        if failures:
            for each in fresh.values():
                each.leave.set()
            raise failures[0]
        now = kept | fresh
        for plan in plans:
            now[plan.name].follow(plan)
        for gone in [each for each in self._running if now.get(each.plan.name) is not each]:
            task = self._tasks.create_task(_retire(gone))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
        self._running = [now[plan.name] for plan in plans]
        return [each.offer for each in self._running]

    def end(self) -> None:
        """End all of them, those that still have calls too."""
        for task in self._leaving:
            task.cancel()
        for each in self._running:
            each.leave.set()

    async def _start(self, plan: TargetPlan) -> Running:
        ready: asyncio.Future[Running] = asyncio.get_running_loop().create_future()
        self._tasks.create_task(self._keep(plan, ready))
        return await ready

    async def _keep(self, plan: TargetPlan, ready: asyncio.Future[Running]) -> None:
        """Enter the target, say so, and leave it when that is wished: by one task, as its task groups need it."""
        try:
            async with self._target(plan) as target:
                running = Running(plan, Offer(target, plan.ceiling, plan.name, plan.calls))
                ready.set_result(running)
                await running.leave.wait()
        except Error as error:
            if ready.done():
                raise
            ready.set_exception(error if plan.name is None else _named(error, plan.name))
        finally:
            ready.cancel()

    def _target(self, plan: TargetPlan) -> Target:
        match plan.where:
            case Command() as command:
                program = Stdio(command, most=plan.processes)
                sessions = self._sessions(plan.name)
                return Facade(program, clock=self._clock, random=self._random, state=sessions, spare=True)
            case SseEndpoint(endpoint):
                source = EventSource(endpoint, self._clock, allowed=_allowed(plan), authorization=plan.authorization)
                sessions = self._sessions(plan.name)
                return Facade(source, clock=self._clock, random=self._random, state=sessions, legacy=True)
            case endpoint:
                return HttpTarget(endpoint, self._clock, allowed=_allowed(plan), authorization=plan.authorization)

    def _sessions(self, name: str | None) -> Path:
        return state.folder(self._folder / "sessions" if name is None else self._folder / "targets" / name / "sessions")


def _allowed(plan: TargetPlan) -> list[HostPort]:
    return [read_place(each) for each in sorted(plan.ceiling.hosts)]


async def _retire(gone: Running) -> None:
    """Let its calls end, and then itself."""
    try:
        async with asyncio.timeout(CALLS_FINISH):
            await gone.offer.idle()
    except TimeoutError:
        log.warning("target %s is ended with calls that still run", gone.plan.name)
    finally:
        gone.leave.set()


def _named(error: Error, name: str) -> Error:
    return Error(error.code, f"target {name}: {error.message}", hint=error.hint, **error.details)
