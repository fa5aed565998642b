"""Many clients at once, all of whose requests have the JSON-RPC id 1: who gets whose answer?"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.e2e.door import MODERN, VERSIONS
from tests.e2e.stage import Stage
from tests.support.wire import Wire, dial

PATIENCE = 60.0  # seconds; an answer takes a tenth of one, more on a busy machine


@dataclass(slots=True)
class Tally:
    """What came of it: calls by how they ended, and the first answers that were somebody else's."""

    ended: Counter[str] = field(default_factory=Counter)
    strays: list[tuple[Mapping[str, object], object]] = field(default_factory=list)
    overtook: int = 0


async def flood(stage: Stage, *, clients: int, calls: int, version: str) -> Tally:
    """`clients` for each tenant of the stage, each with a connection of its own, one call after the other."""
    tally = Tally()
    port = int(stage.relay.url.rpartition(":")[2])
    async with asyncio.TaskGroup() as group:
        for tenant in stage.keys:
            for number in range(clients):
                group.create_task(_client(stage, port, tenant, number, calls, version, tally))
    return tally


async def _client(stage: Stage, port: int, tenant: str, number: int, calls: int, version: str, tally: Tally) -> None:
    chance = random.Random(f"{tenant}-{number}")
    head = _head(stage, tenant, port, version)
    async with dial(port) as wire:
        for _ in range(calls):
            canary = f"{tenant}-{number}-{chance.getrandbits(64):016x}"
            body = _body(canary, version)
            await wire.send(b"%b%d\r\n\r\n%b" % (head, len(body), body))
            _check(await _answer(wire), {"canary": canary, "tenant": tenant, "alias": tenant}, tally)


def _head(stage: Stage, tenant: str, port: int, version: str) -> bytes:
    fields = {
        "host": f"127.0.0.1:{port}",
        "authorization": f"Bearer {stage.keys[tenant]}",
        "accept": "application/json, text/event-stream",
        "content-type": "application/json",
        "mcp-protocol-version": version,
    }
    if version == MODERN:
        fields |= {"mcp-method": "tools/call", "mcp-name": "look"}
    path = stage.url.partition(str(port))[2]
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "content-length: "]
    return "\r\n".join(lines).encode()


def _body(canary: str, version: str) -> bytes:
    assert version in VERSIONS
    prefix = "io.modelcontextprotocol/"
    client = {"name": "flood", "version": "1"}
    meta = {f"{prefix}protocolVersion": version, f"{prefix}clientInfo": client, f"{prefix}clientCapabilities": {}}
    params = {"name": "look", "arguments": {"canary": canary}} | ({"_meta": meta} if version == MODERN else {})
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()


async def _answer(wire: Wire) -> dict[str, object]:
    """The next answer: JSON, or the one event of a stream."""
    async with asyncio.timeout(PATIENCE):
        said = await wire.answer()
    data = said.body
    if said.headers["content-type"].startswith("text/event-stream"):
        (data,) = (line[5:] for line in data.split(b"\n") if line.startswith(b"data:"))
    return dict(json.loads(data))


def _check(said: dict[str, object], expected: Mapping[str, object], tally: Tally) -> None:
    result = said.get("result")
    if not isinstance(result, dict):
        tally.ended[json.dumps(said.get("error"))] += 1
        return
    tally.ended["result"] += 1
    content = result["structuredContent"]
    tally.overtook = max(tally.overtook, content["overtook"])
    got = {name: content[name] for name in expected}
    if said["id"] != 1 or got != expected or json.loads(result["content"][0]["text"]) != content:
        tally.strays.append((expected, said))
