"""Many light connectors in one process: the dialler, link and protocol of `arrowslit connect`, with nothing to offer.

    python -m benchmarks.loads.connectors RELAY COUNT

The registration token that lets each make a tunnel of its own is the first line of stdin. Whenever all have been
connected it prints the time (CLOCK_MONOTONIC, which all processes share); for a line on stdin it begins to count anew.
It ends with its stdin.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from arrowslit.app.config import RelayAddress, parse_relay
from arrowslit.clock import SystemClock
from arrowslit.connector.dial import Dialled, Dialler, Identity
from arrowslit.connector.offer import Offer
from arrowslit.connector.serve import Server
from arrowslit.connector.targets.coroutine import CoroutineTarget
from arrowslit.connector.targets.target import NotStarted, Reply, Request
from arrowslit.link import websocket
from arrowslit.policy import ceiling
from arrowslit.protocol import hello

FIRST_AT_ONCE = 64  # the first time they come one after another: a crowd is another scenario


class Nothing(CoroutineTarget):
    """The Target that is never called."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    async def exchange(self, request: Request, reply: Reply) -> None:
        """See Target."""
        raise NotStarted("there is nothing here")

    def state(self) -> Mapping[str, object]:
        """See Target."""
        return {"ready": True, "detail": None}


class Crowd:
    """All connectors of this process, and which of them have been connected since somebody began to count."""

    def __init__(self, relay: RelayAddress, count: int, registration: str) -> None:
        self._relay = relay
        self._count = count
        self._registration = registration
        self._seen: set[str] = set()
        self._gate: asyncio.Semaphore | None = asyncio.Semaphore(FIRST_AT_ONCE)

    def count_anew(self) -> None:
        """Nobody has been connected. From the second time on they come as they like."""
        self._seen.clear()
        self._gate = None

    async def run(self) -> None:
        """Keep all connected until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._count):
                group.create_task(self._connector(f"light-{number}").keep_connected())

    def _connector(self, name: str) -> Dialler:
        token, gated = self._registration, False
        address = websocket.Address(self._relay.websocket)

        async def dial() -> Dialled:
            nonlocal gated
            if self._gate is not None and not gated:
                await self._gate.acquire()
                gated = True
            pipe = await websocket.connect(address, [("Authorization", f"Bearer {token}")])
            return Dialled(pipe, None)

        def opened(welcome: hello.Welcome) -> None:
            nonlocal token, gated
            token = welcome.token or token
            if gated and self._gate is not None:
                self._gate.release()
            gated = False
            self._connected(name)

        key = Ed25519PrivateKey.generate()
        return Dialler(
            identity=Identity(name, key, os.urandom(8).hex(), os.urandom(8).hex()),
            dial=dial,
            relay_fingerprint=self._relay.fingerprint,
            server=Server([Offer(Nothing(), ceiling.OPEN)]),
            facts={"software": "light"},
            clock=SystemClock(),
            random=os.urandom,
            on_open=opened,
        )

    def _connected(self, name: str) -> None:
        if name not in self._seen:
            self._seen.add(name)
            if len(self._seen) == self._count:
                print(time.monotonic(), flush=True)


async def _main(relay: RelayAddress, count: int, registration: str) -> None:
    crowd = Crowd(relay, count, registration)
    over = asyncio.Event()

    def heard() -> None:
        if os.read(sys.stdin.fileno(), 4096):
            crowd.count_anew()
        else:
            over.set()

    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), heard)
    running = asyncio.create_task(crowd.run())
    await over.wait()
    running.cancel()


if __name__ == "__main__":
    logging.disable()
    first = os.read(sys.stdin.fileno(), 4096).decode().strip()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main(parse_relay(sys.argv[1]), int(sys.argv[2]), first))
