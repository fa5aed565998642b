"""The place of processing: what `arrowslit sandbox` runs."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from arrowslit import __version__
from arrowslit.app import state
from arrowslit.app.build.surroundings import open_surroundings
from arrowslit.app.config import IsolationConfig, SandboxConfig
from arrowslit.clock import Clock, SystemClock
from arrowslit.ids import RandomBytes
from arrowslit.ledger.chain import seal
from arrowslit.ledger.disk import FileDisk
from arrowslit.ledger.writer import Keys, open_ledger
from arrowslit.record import Fields, Ledger
from arrowslit.sandbox.files import Shelf
from arrowslit.sandbox.isolation.isolation import Report
from arrowslit.sandbox.journal import Courier, Journal, Send, Taking
from arrowslit.sandbox.place import Place, Surroundings, open_place
from arrowslit.sandbox.work import Item
from arrowslit.sandbox.worker import Worker

STARTED = "worker_started"


@dataclass(frozen=True, slots=True)
class Sandboxes:
    """A worker that is ready to take work. `id` is what it calls itself."""

    id: str
    worker: Worker
    report: Report


@asynccontextmanager
async def open_worker(
    config: SandboxConfig, clock: Clock | None = None, random: RandomBytes = os.urandom
) -> AsyncIterator[Sandboxes]:
    """Everything of `arrowslit sandbox`, the isolation proved. Raises Error for what would not work or not be safe."""
    config.check()
    clock = clock or SystemClock()
    async with AsyncExitStack() as stack:  # what is entered last is left first
        folder = state.folder(config.state)
        stack.enter_context(state.lock(folder, "sandbox worker"))
        ledger = await _open_ledger(stack, folder, clock, random)
        around = await stack.enter_async_context(open_surroundings(config.isolation, config.rules, clock, random))
        name = f"{socket.gethostname()}-{random(6).hex()}"
        facts = _facts(config.isolation, name, around.isolation.report)
        await ledger.append(STARTED, {**facts, **_told(config)})
        worker = await _open_queue(stack, config, name, _Places(around, ledger, facts, clock), clock, random)
        yield Sandboxes(name, worker, around.isolation.report)


async def _open_ledger(stack: AsyncExitStack, folder: Path, clock: Clock, random: RandomBytes) -> Ledger:
    """The worker's own chain. Its files are named as a relay's, so that `arrowslit ledger verify` reads them."""
    keys = Keys(state.signing_key(folder / "ledger.key", random), state.secret(folder / "digest.key", random))
    disk = stack.enter_context(FileDisk(folder / "ledger", folder / "ledger.head"))
    return await stack.enter_async_context(open_ledger(disk, keys, clock))


class _Places:
    """Opens the place of each item's session."""

    def __init__(self, around: Surroundings, ledger: Ledger, facts: Fields, clock: Clock) -> None:
        self._around, self._ledger, self._facts, self._clock = around, ledger, facts, clock
        self._taking, self._keeping = Taking("records"), Taking("files")

    def open(self, item: Item, send: Send, shelf: Shelf) -> AbstractAsyncContextManager[Place]:
        """For the session of this item."""
        facts = {**self._facts, "work": item.id, "session": item.subject}
        courier = Courier(seal, send, self._taking, self._clock)
        journal = Journal(self._ledger, facts, courier)
        return open_place(item.subject, self._around, journal, courier, shelf, self._keeping)


async def _open_queue(
    stack: AsyncExitStack, config: SandboxConfig, name: str, places: _Places, clock: Clock, random: RandomBytes
) -> Worker:
    from arrowslit.sandbox.official import OfficialQueue, OfficialSessions, open_client  # the SDK takes two seconds
    from arrowslit.sandbox.trust import Trust, TrustedQueue

    assert config.key is not None, "checked"
    relay = config.relay
    trust = Trust(relay.origin, config.key, relay.fingerprint, proxy=config.proxy, random=random)
    opening = open_client(relay.origin, config.key, verify=trust.context, proxy=config.proxy)
    client = await stack.enter_async_context(opening)
    return Worker(
        TrustedQueue(OfficialQueue(client, config.environment, name), trust),
        OfficialSessions(client, config.key, places.open, config.idle),
        capacity=config.capacity,
        clock=clock,
        random=random,
    )


def _facts(config: IsolationConfig, name: str, report: Report) -> Fields:
    """What stands in every record: who says it, and what stood between the code and this machine."""
    return {"worker": name, "allow_degraded": list(config.allow_degraded), "sandbox": report.record()}


def _told(config: SandboxConfig) -> Fields:
    """What stands in the record of a start."""
    return {
        "software": f"arrowslit {__version__}",
        "environment": config.environment,
        "server": config.relay.origin,
        "capacity": config.capacity,
        "allowed_hosts": [str(rule) for rule in config.rules],
    }
