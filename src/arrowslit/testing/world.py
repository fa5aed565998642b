"""A relay and connectors made of the shipped classes, on a wire in memory: what a simulation drives and a checker
reads.
"""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from arrowslit.connector.dial import Dialled, Dialler
from arrowslit.connector.dial import Identity as ConnectorIdentity
from arrowslit.connector.offer import Offer
from arrowslit.connector.serve import Server
from arrowslit.connector.targets.coroutine import CoroutineTarget
from arrowslit.connector.targets.target import Lost, NotStarted, Reply, Request, Target
from arrowslit.credential import RootKey
from arrowslit.errors import Error
from arrowslit.ledger.writer import Keys, open_ledger
from arrowslit.outcome import Effect
from arrowslit.policy.ceiling import OPEN, Ceiling
from arrowslit.principal import Grant, Principal, Scope, Tenant
from arrowslit.relay.accept import Accept
from arrowslit.relay.accept import Identity as RelayIdentity
from arrowslit.relay.admission import Admission, Bounds
from arrowslit.relay.calls import Calls
from arrowslit.relay.hub import Hub
from arrowslit.relay.records import Denials
from arrowslit.relay.sessions import Seal
from arrowslit.testing.disk import MemoryDisk
from arrowslit.testing.loop import SimClock, random_bytes
from arrowslit.testing.pins import MemoryPins
from arrowslit.testing.wire import Wire
from arrowslit.tunnel import Exchange, Headers, KeyBinding, Registration, Tunnel
from arrowslit.tunnel import Server as McpServer

TUNNEL = Tunnel("tnl_sim", "sim", key_binding=KeyBinding.NONE)
READS, WRITES = "read", "write"


@dataclass(slots=True)
class Store:
    """Grants, Tunnels and Enrolment of a world with one agent and one tunnel."""

    def find(self, principal: Principal, agent: str, server: str) -> Grant:
        """See Grants."""
        return Grant(
            "agent_sim", "sim", 1, McpServer("sim", TUNNEL.id), frozenset({READS, WRITES}), {READS: Effect.READ_ONLY}
        )

    def principal(self, credential: str) -> Principal | None:
        """See Grants: nobody comes through a door here."""
        return None

    def get(self, tunnel_id: str) -> Tunnel | None:
        """See Tunnels."""
        return TUNNEL

    def tunnel_by_token(self, token: str) -> Tunnel | None:
        """See Enrolment."""
        return TUNNEL

    def registration(self, token: str) -> Registration | None:
        """See Enrolment."""
        return None

    async def register(self, registration: Registration, name: str, connector_key: bytes) -> tuple[Tunnel, str]:
        """See Enrolment."""
        raise Error("registration_refused", "nobody registers here")

    async def pin(self, tunnel_id: str, connector_key: bytes) -> Tunnel:
        """See Enrolment."""
        return TUNNEL

    async def remember_refused(self, tunnel_id: str, connector_key: bytes) -> None:
        """See Enrolment."""

    async def mark_used(self, tunnel_id: str, generation: int) -> None:
        """See Enrolment."""


@dataclass(slots=True)
class SimTarget(CoroutineTarget):
    """A target that keeps a log of what it executed, takes its time, and sometimes dies or refuses."""

    chance: random.Random
    executed: list[str] = field(default_factory=list)
    slowest: float = 0.2
    dies: float = 0.05
    refuses: float = 0.05

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def state(self) -> Mapping[str, object]:
        """See Target."""
        return {"ready": True, "detail": None}

    async def exchange(self, request: Request, reply: Reply) -> None:
        """See Target. The answer holds the canary of the request and its tenant."""
        await asyncio.sleep(self.chance.random() * self.slowest)
        if self.chance.random() < self.refuses:
            raise NotStarted("busy")
        reply.dispatched()
        asked = msgspec.json.decode(request.body)
        if asked["method"] == "tools/list":
            _answer(reply, asked["id"], {"tools": [{"name": READS}, {"name": WRITES}]})
            return
        if self.chance.random() < self.dies / 2:
            raise Lost("died before it did anything")
        self.executed.append(asked["params"]["arguments"]["canary"])
        await asyncio.sleep(self.chance.random() * self.slowest)
        if self.chance.random() < self.dies:
            raise Lost("died after it did it")
        said = {"canary": asked["params"]["arguments"]["canary"], "tenant": asked["params"]["_meta"]["tenant"]}
        _answer(reply, asked["id"], said)


def _answer(reply: Reply, ident: object, result: Mapping[str, object]) -> None:
    reply.head(200, [("content-type", "application/json")])
    reply.piece(msgspec.json.encode({"jsonrpc": "2.0", "id": ident, "result": result}))


@dataclass(slots=True)
class Heard:
    """An Answer that keeps what it was told. `ended` is True after a proper end, False after an abort, None before."""

    status: int | None = None
    headers: Headers = ()
    body: bytearray = field(default_factory=bytearray)
    ended: bool | None = None

    def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """See Answer."""
        self.head(status, headers)
        self.piece(body)
        self.end()

    def head(self, status: int, headers: Headers) -> None:
        """See Answer."""
        self.status = status
        self.headers = headers

    def piece(self, data: bytes) -> None:
        """See Answer."""
        self.body += data

    def end(self) -> None:
        """See Answer."""
        self.ended = True

    def abort(self) -> None:
        """See Answer."""
        self.ended = False

    async def drain(self) -> None:
        """See Answer."""

    def read(self) -> dict[str, Any]:
        """The JSON-RPC response."""
        said: dict[str, Any] = msgspec.json.decode(bytes(self.body))
        return said


class World:
    """One relay, its ledger, and connectors that come and go."""

    def __init__(self, seed: int, calls: Calls, hub: Hub, accept: Accept, group: asyncio.TaskGroup) -> None:
        self.chance = random.Random(seed)
        self._seed = seed
        self.calls = calls
        self.hub = hub
        self._accept = accept
        self._group = group
        self._tasks: list[asyncio.Task[None]] = []
        self._wires: list[Wire] = []

    def start_connector(self, name: str, target: Target, ceiling: Ceiling = OPEN) -> asyncio.Task[None]:
        """A connector process; cancel the task to kill it (its wires are cut by `cut`, not by that)."""
        made = random_bytes(zlib.crc32(f"{self._seed}/{name}".encode()))
        dialler = Dialler(
            identity=ConnectorIdentity("sim", Ed25519PrivateKey.from_private_bytes(made(32)), name, made(8).hex()),
            dial=self._dial,
            relay_fingerprint=None,
            server=Server([Offer(target, ceiling)]),
            facts={},
            clock=SimClock(),
            random=made,
            on_open=lambda _: None,
        )
        return self._start(dialler.keep_connected())

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._group.create_task(work)
        self._tasks.append(task)
        return task

    def stop(self) -> None:
        """Kill every connector."""
        for task in self._tasks:
            task.cancel()

    async def _dial(self) -> Dialled:
        await asyncio.sleep(self.chance.random() * 0.02)
        wire = Wire(self.chance)
        self._wires.append(wire)
        self._start(self._accept.serve(wire.relay_end, "token"))
        return Dialled(wire.connector_end, None)

    def cut(self) -> None:
        """Every wire breaks."""
        wires, self._wires = self._wires, []
        for wire in wires:
            wire.cut()

    async def connected(self, count: int = 1) -> None:
        """Wait until so many links serve."""
        while len(self.hub.links(TUNNEL.id)) < count:  # noqa: ASYNC110  # simulated time costs nothing
            await asyncio.sleep(0.01)

    async def call(self, tenant: str | None, tool: str, canary: str, deadline: float) -> dict[str, Any]:
        """One `tools/call` through `Calls.call`; the JSON-RPC response."""
        meta = {"dev.arrowslit/deadline-ms": int(deadline * 1000)}
        params = {"name": tool, "arguments": {"canary": canary}, "_meta": meta}
        return (await self.post({"method": "tools/call", "params": params}, tenant=tenant)).read()

    async def post(self, message: Mapping[str, object], *, tenant: str | None = "acme") -> Heard:
        """One request, with the id 1 unless it has another."""
        body = msgspec.json.encode({"jsonrpc": "2.0", "id": 1, **message})
        return await self.exchange(Exchange("POST", [("content-type", "application/json")], body), tenant=tenant)

    async def exchange(self, exchange: Exchange, *, tenant: str | None = "acme") -> Heard:
        """One exchange through `Calls.call`."""
        heard = Heard()
        principal = Principal(
            f"key_{tenant}", Tenant(tenant) if tenant else None, frozenset({Scope.INVOKE}), frozenset({"agent_sim"})
        )
        await self.calls.call(principal, "sim", "sim", exchange, heard)
        return heard


@asynccontextmanager
async def world(seed: int, disk: MemoryDisk, bounds: Bounds | None = None) -> AsyncIterator[World]:
    """A relay without connectors, on the running SimLoop, with its usual bounds unless others are given. Everything
    ends with the block.
    """
    clock, made, store = SimClock(), random_bytes(seed), Store()
    root = RootKey(made(32))
    keys = Keys(Ed25519PrivateKey.from_private_bytes(made(32)), made(32))
    hub = Hub(clock)
    async with (
        open_ledger(disk, keys, clock) as ledger,
        Calls(
            grants=store,
            tunnels=store,
            hub=hub,
            ledger=ledger,
            admission=Admission(bounds or Bounds()),
            seal=Seal(root.derive("session-seal")),
            denials=Denials(),
            pins=MemoryPins(),
            clock=clock,
            random=made,
        ) as calls,
        asyncio.TaskGroup() as group,
    ):
        identity = RelayIdentity(Ed25519PrivateKey.from_private_bytes(made(32)))
        made_world = World(seed, calls, hub, Accept(hub, store, identity, clock, made), group)
        yield made_world
        hub.close()
        made_world.stop()
