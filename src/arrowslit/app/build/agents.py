"""What thinks and waits behind the API: the log of sessions, the model, the runner, and the watch over workers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from arrowslit.agents.models.choose import choose
from arrowslit.agents.models.model import Model
from arrowslit.agents.servers.servers import Servers
from arrowslit.agents.sessions.log import Log
from arrowslit.agents.turns.loop import Loop
from arrowslit.agents.turns.runner import Runner
from arrowslit.agents.work.polling import Polling
from arrowslit.agents.work.reaper import Reaper
from arrowslit.app.config import RelayConfig
from arrowslit.clock import Clock
from arrowslit.ids import RandomBytes, is_id
from arrowslit.principal import KeyAdmin
from arrowslit.record import Ledger
from arrowslit.store.open import Store
from arrowslit.tunnel import Calls

MODEL_LOG = "scripted-model.jsonl"  # in the state folder: what a scripted model was asked


@dataclass(frozen=True, slots=True)
class Agents:
    """What the API needs of it. `model` is None where the relay was given none."""

    log: Log
    runner: Runner
    polling: Polling
    reaper: Reaper
    model: Model | None


@asynccontextmanager
async def open_agents(
    config: RelayConfig, store: Store, calls: Calls, ledger: Ledger, clock: Clock, random: RandomBytes
) -> AsyncIterator[Agents]:
    """Everything runs inside the block. Raises Error `usage` and others for a model that cannot be."""
    async with AsyncExitStack() as stack:
        model = choose(
            config.model,
            key=config.model_key,
            read_file=lambda path: Path(path).read_bytes(),
            log=partial(_append, config.state / MODEL_LOG),
            clock=clock,
        )
        if model is not None:
            stack.push_async_callback(model.close)
        log = Log(store.sessions, clock, random)
        stack.callback(log.close)
        loop = Loop(
            log=log,
            model=model,
            servers=Servers(calls, clock),
            ledger=ledger,
            live=_live(store.keys),
            clock=clock,
            random=random,
        )
        runner = Runner(log, loop, clock)
        log.wake, log.fenced = runner.wake, runner.interrupt
        reaper = Reaper(store.work, log, clock, random)
        await store.sessions.release_all()
        await reaper.begin()
        await stack.enter_async_context(runner)
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        stack.callback(tasks.create_task(reaper.run()).cancel)
        yield Agents(log, runner, Polling(store.work, clock), reaper, model)


def _live(keys: KeyAdmin) -> Callable[[str], bool]:
    """Whether the principal of that id still opens a door. Whom a token stands for may finish the turn that began with
    it; the token itself opens nothing any more.
    """
    return lambda principal_id: not is_id("key", principal_id) or keys.live(principal_id)


def _append(path: Path, line: bytes) -> None:
    """For tests and demonstrations: whole conversations, for nobody but the relay's owner to read."""
    with open(path, "ab", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(line.rstrip(b"\n") + b"\n")
