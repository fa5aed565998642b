"""A relay and a connector in the test's own loop: the shipped parts, real sockets, and a target that remembers.

    async with in_process(tmp_path) as house:
        answer = await house.call("echo", {"canary": 1})

For processes of their own see tests/harness.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from arrowslit.app.build.relay import Relay, open_relay
from arrowslit.app.config import Listen, RelayConfig
from arrowslit.clock import SystemClock
from arrowslit.connector.dial import Dialled, Dialler, Identity
from arrowslit.connector.offer import Offer
from arrowslit.connector.serve import Server
from arrowslit.connector.targets.target import Target
from arrowslit.link import websocket
from arrowslit.policy.ceiling import OPEN, Ceiling
from tests.support.front import Front, listening
from tests.support.lines import records
from tests.support.target import FakeTarget
from tests.support.wire import Answer, Wire, dial, request, until

TUNNEL, AGENT = "inventory", "stock"
ENDPOINT = f"/mcp/{AGENT}/{TUNNEL}"
TOOLS = ("echo", "hang", "wait", "stream", "big", "lost", "too_large")
JSON = ("Content-Type: application/json", "Accept: application/json, text/event-stream")


@dataclass(slots=True)
class House:
    """What a test holds in its hands. `key` belongs to an agent with TOOLS and to the tenant acme."""

    relay: Relay
    front: Front
    folder: Path
    target: FakeTarget
    admin: str
    key: str = ""
    token: str = ""
    agent_id: str = ""
    dialler: Dialler | None = None
    _ids: int = field(default=0)

    @property
    def port(self) -> int:
        """Where the relay listens."""
        return self.front.port

    # ------------------------------------------------------------ its administrator

    async def api(self, method: str, path: str, body: object = None, key: str | None = None) -> Any:
        """Ask the relay's API something that it grants."""
        said = b"" if body is None else json.dumps(body).encode()
        async with dial(self.port) as wire:
            await wire.send(request(method, path, said, headers=(*JSON, bearer(key or self.admin))))
            answer = await wire.answer()
        assert answer.status == 200, answer
        return answer.json

    async def furnish(self) -> None:
        """A tunnel, an agent that may use TOOLS of the server behind it, and a key."""
        tunnel = await self.api("POST", "/v1/tunnels", {"name": TUNNEL})
        self.token = (await self.api("POST", f"/v1/tunnels/{tunnel['id']}/reveal_token", {}))["tunnel_token"]
        server = {"type": "tunnel", "tunnel_id": tunnel["id"], "tool_allowlist": list(TOOLS)}
        agent = await self.api("POST", "/v1/agents", {"name": AGENT, "model": "none", "mcp_servers": [server]})
        self.agent_id = agent["id"]
        self.key = await self.make_key("acme")

    async def make_key(self, tenant: str, **more: object) -> str:
        """A further key for the agent."""
        made = await self.api("POST", "/v1/keys", {"agents": [AGENT], "tenant": tenant, **more})
        return str(made["key"])

    async def key_id(self, key: str) -> str:
        """The id of a key, found by how it ends."""
        keys = (await self.api("GET", "/v1/keys?limit=1000"))["data"]
        (found,) = [each["id"] for each in keys if key.endswith(each["last_four"])]
        return str(found)

    @property
    def connected(self) -> bool:
        """Whether a connector serves the tunnel."""
        return bool(self.relay.hub.status(f"tnl_{TUNNEL}")["connected"])

    @property
    def reconnects(self) -> object:
        """How often a connector came again."""
        return self.relay.hub.status(f"tnl_{TUNNEL}")["reconnects"]

    def ledger(self) -> list[dict[str, Any]]:
        """All records so far."""
        return records(sorted((self.folder / "relay" / "ledger").glob("*.jsonl")))

    def outcomes(self) -> list[str]:
        """The outcomes that are on record."""
        return [record["outcome"] for record in self.ledger() if record["kind"] == "outcome"]

    # ------------------------------------------------------------ its callers

    def message(self, tool: str, arguments: Mapping[str, object] | None = None, ident: object = None) -> bytes:
        """A tools/call, with an id of its own if none is given."""
        self._ids += 1
        params = {"name": tool, "arguments": dict(arguments or {})}
        ident = self._ids if ident is None else ident
        return json.dumps({"jsonrpc": "2.0", "id": ident, "method": "tools/call", "params": params}).encode()

    def post(self, body: bytes, *headers: str, key: str | None = None) -> bytes:
        """A POST to the endpoint, as a client would write it."""
        return request("POST", ENDPOINT, body, headers=(*JSON, bearer(key or self.key), *headers))

    def get(self, *headers: str, key: str | None = None) -> bytes:
        """A GET for an event stream."""
        return request("GET", ENDPOINT, headers=("Accept: text/event-stream", bearer(key or self.key), *headers))

    async def call(self, tool: str, arguments: Mapping[str, object] | None = None, key: str | None = None) -> Answer:
        """Call a tool on a connection of its own."""
        async with dial(self.port) as wire:
            await wire.send(self.post(self.message(tool, arguments), key=key))
            return await wire.answer()

    async def good_call(self) -> None:
        """The next good call works."""
        answer = await self.call("echo", {"still": "there"})
        assert answer.status == 200, answer
        assert answer.json["result"]["arguments"] == {"still": "there"}

    async def session(self, key: str | None = None) -> str:
        """Begin an MCP session of the legacy era; its id as the client sees it."""
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        body = json.dumps({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}).encode()
        async with dial(self.port) as wire:
            await wire.send(self.post(body, key=key))
            answer = await wire.answer()
        assert answer.status == 200, answer
        return answer.headers["mcp-session-id"]

    @asynccontextmanager
    async def open_stream(self, key: str | None = None) -> AsyncIterator[Wire]:
        """A GET stream on which nothing has been said so far but a comment."""
        async with dial(self.port) as wire:
            await wire.send(self.get(key=key))
            status, headers = await wire.head()
            assert (status, headers["content-type"]) == (200, "text/event-stream")
            assert await wire.chunk() == b":\n\n"
            yield wire


def bearer(key: str) -> str:
    """The header line of a credential."""
    return f"Authorization: Bearer {key}"


@asynccontextmanager
async def in_process(
    folder: Path, *, connected: bool = True, target: FakeTarget | None = None, **told: Any
) -> AsyncIterator[House]:
    """A relay with its state in `folder`, and a connector that serves its one tunnel, unless it is not wanted.

    `told` is what the relay's configuration says beside that.
    """
    config = RelayConfig(listen=Listen("127.0.0.1", 0), state=folder / "relay", **told)
    async with open_relay(config) as relay, _listening(relay) as front:
        admin = relay.admin_key_path.read_text().strip()
        house = House(relay, front, folder, target or FakeTarget(), admin)
        await house.furnish()
        async with _connected(house) if connected else contextlib.nullcontext():
            yield house


def _listening(relay: Relay) -> AbstractAsyncContextManager[Front]:
    gate = relay.gate
    return listening(gate.mcp, gate.admit, relay.app, identify=gate.identify, rules=gate.rules)


@asynccontextmanager
async def _connected(house: House) -> AsyncIterator[None]:
    house.dialler = connector(f"ws://127.0.0.1:{house.port}/connect", house.token, house.target)
    async with kept(house.dialler):
        await until(lambda: house.connected)
        yield


def connector(
    url: str, token: str, target: Target, limits: Ceiling = OPEN, *, key: Ed25519PrivateKey | None = None
) -> Dialler:
    """A connector for the tunnel of a relay at `url`."""

    async def dialled() -> Dialled:
        pipe = await websocket.connect(websocket.Address(url), [("Authorization", f"Bearer {token}")])
        return Dialled(pipe, pipe.certificate)

    return Dialler(
        identity=Identity(TUNNEL, key or Ed25519PrivateKey.generate(), os.urandom(8).hex(), os.urandom(8).hex()),
        dial=dialled,
        relay_fingerprint=None,
        server=Server([Offer(target, limits)]),
        facts={},
        clock=SystemClock(),
        random=os.urandom,
        on_open=lambda _: None,
    )


@asynccontextmanager
async def kept(dialler: Dialler) -> AsyncIterator[None]:
    """Keep it connected for as long as the block runs."""
    keeping = asyncio.create_task(dialler.keep_connected())
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])
