from __future__ import annotations

import asyncio
import datetime as dt
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.e2e import plain
from tests.e2e.door import LEGACY, Door, Said, until
from tests.e2e.hand import dialling, introduce
from tests.e2e.stage import Stage, served
from tests.harness import Connector, Relay
from tests.support.wire import dial, request

pytestmark = pytest.mark.promise("P11")

SOON = 5.0  # seconds after which a revoked credential is useless, open connections included
LONG = 60_000  # ms that a tool works: longer than any test waits


@pytest.fixture
def log(tmp_path: Path) -> plain.Log:
    """What the server hears."""
    return plain.Log(tmp_path / "log")


@pytest.fixture
def stage(relay: Relay, log: plain.Log) -> Iterator[Stage]:
    with served(relay, plain.over_stdio(log=log.path), ["look", "change"]) as stage:
        yield stage


@dataclass(frozen=True, slots=True)
class Busy:
    """A client with an open GET stream and a call that runs."""

    client: Door
    stream: asyncio.Task[None]
    call: asyncio.Task[Said]


@asynccontextmanager
async def busy(stage: Stage, log: plain.Log, key: str, *, works: int = LONG) -> AsyncIterator[Busy]:
    async with stage.door(version=LEGACY[-1]) as client:
        client.key = key
        await client.initialize()
        opened = asyncio.Event()

        async def listen() -> None:
            async with client.stream() as response:
                assert response.status_code == 200
                opened.set()
                with suppress(httpx2.RemoteProtocolError):  # it is broken off
                    await response.aread()

        stream = asyncio.create_task(listen())
        await opened.wait()
        called = len(log.calls)
        call = asyncio.create_task(client.call("change", {"delay_ms": works}))
        await until(lambda: len(log.calls) > called, "the server works")
        yield Busy(client, stream, call)
        for task in (stream, call):
            task.cancel()


def new_key(stage: Stage, tenant: str = "acme", **more: object) -> tuple[str, str]:
    """Id and text of a further key."""
    with stage.relay.client() as client:
        made = client.post("keys", body={"agents": [stage.agent], "tenant": tenant, **more})
        return made["id"], made["key"]


async def test_a_revoked_key_ends_its_stream_its_call_and_every_new_one_and_nobody_elses(
    stage: Stage, log: plain.Log
) -> None:
    key_id, key = new_key(stage)
    async with busy(stage, log, key) as ours, busy(stage, log, stage.keys["acme"], works=1_000) as others:
        stage.relay.run("key", "revoke", key_id).ok()
        async with asyncio.timeout(SOON):
            said = await ours.call
            await ours.stream
            refused = await ours.client.call("look")

        assert (said.status, said.code) == (401, "unauthenticated")
        assert (refused.status, refused.code) == (401, "unauthenticated")
        assert (await others.call).outcome == "result"
        assert not others.stream.done()
        assert (await others.client.call("look")).outcome == "result"
    assert sorted(map(str, stage.outcomes("change"))) == ["outcome_unknown", "result"]


async def test_a_key_that_expires_ends_what_is_open_with_it(stage: Stage, log: plain.Log) -> None:
    end = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=4)
    _, key = new_key(stage, expires_at=end.isoformat())
    async with busy(stage, log, key) as ours:
        assert (await ours.client.call("look")).outcome == "result"
        async with asyncio.timeout(4 + SOON):
            said = await ours.call
            await ours.stream
        assert dt.datetime.now(dt.UTC) > end
        refused = await ours.client.call("look")

    assert (said.status, said.code) == (401, "unauthenticated")
    assert (refused.status, refused.code) == (401, "unauthenticated")


async def test_a_key_that_is_revoked_while_its_request_is_read_calls_nothing(stage: Stage, log: plain.Log) -> None:
    key_id, key = new_key(stage)
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "look", "arguments": {}}}
    async with stage.door() as client:
        await client.initialize()
        client.key, client.session = key, None
        body = json.dumps(message).encode()
        headers = tuple(f"{name}: {value}" for name, value in client.headers(message).items())
    port = int(stage.relay.url.rpartition(":")[2])
    async with dial(port) as wire:
        whole = request("POST", stage.url.partition(str(port))[2], body, headers=headers)
        await wire.send(whole[:-10])
        assert await wire.is_open()
        stage.relay.run("key", "revoke", key_id).ok()
        await wire.send(whole[-10:])
        said = await wire.answer()

    assert (said.status, said.code) == (401, "unauthenticated")
    assert not log.calls


# ---------------------------------------------------------------- tunnels and their tokens


@pytest.mark.parametrize("how", [["archive"], ["rotate", "--revoke"]], ids=["archived", "revoked"])
async def test_a_revoked_token_ends_the_link_and_all_that_runs_over_it(
    how: list[str], stage: Stage, log: plain.Log
) -> None:
    action, *options = how
    async with busy(stage, log, stage.keys["acme"]) as ours:
        done = stage.relay.run("tunnel", action, stage.tunnel.name, *options, "--json").ok().json
        async with asyncio.timeout(SOON):
            said = await ours.call
            await ours.stream
            refused = await ours.client.call("look")

    assert said.outcome == "outcome_unknown"
    assert refused.outcome in ("not_delivered", "no call")
    assert not stage.relay.connected(stage.tunnel)
    assert not await opens(stage.relay, stage.tunnel.token)
    await asyncio.to_thread(stage.connector.wait_for, "this token opens no tunnel")
    if action == "rotate":
        stage.connector.kill()
        stage.connector.env["ARROWSLIT_TUNNEL_TOKEN"] = done["token"]
        stage.connector.start()
        async with stage.door(version="2026-07-28") as client:
            assert (await client.call("look")).outcome == "result"


async def opens(relay: Relay, token: str) -> bool:
    """Whether a connector with that token is let as far as the greetings."""
    try:
        async with dialling(relay.url, token):
            return True
    except InvalidStatus as refused:
        assert refused.response.status_code == 401
        return False


async def test_a_rotated_token_is_not_revoked_and_lives_for_its_grace(stage: Stage, log: plain.Log) -> None:
    async with busy(stage, log, stage.keys["acme"], works=1_000) as ours:
        link_before = links(stage)
        done = stage.relay.run("tunnel", "rotate", stage.tunnel.name, "--grace", "3s", "--json").ok().json
        began = time.monotonic()

        assert await opens(stage.relay, stage.tunnel.token)
        assert await opens(stage.relay, done["token"])
        await until(closed_for(stage, stage.tunnel.token), "the grace is over", seconds=3 + SOON)
        assert time.monotonic() - began > 2
        assert (await ours.call).outcome == "result"
        assert links(stage) == link_before  # an open link stays
        assert not ours.stream.done()
        assert await opens(stage.relay, done["token"])


async def test_the_official_rotation_leaves_the_link_and_opens_no_new_one_with_the_old_token(stage: Stage) -> None:
    link_before = links(stage)
    with stage.relay.client() as client:
        new = client.post("tunnels", stage.tunnel.id, "rotate_token")["tunnel_token"]

    assert not await opens(stage.relay, stage.tunnel.token)
    assert await opens(stage.relay, new)
    assert links(stage) == link_before
    async with stage.door(version="2026-07-28") as client:
        assert (await client.call("look")).outcome == "result"


def closed_for(stage: Stage, token: str) -> object:
    async def closed() -> bool:
        return not await opens(stage.relay, token)

    return closed


def links(stage: Stage) -> list[tuple[str, str]]:
    """Which connectors serve the tunnel, and since when."""
    with stage.relay.client() as client:
        found = client.get("tunnels", stage.tunnel.id, "status")["connectors"]
    return [(each["key_fingerprint"], each["connected_since"]) for each in found]


@pytest.mark.parametrize("how", [["archive"], ["rotate", "--revoke"]], ids=["archived", "revoked"])
async def test_a_token_that_is_revoked_between_the_upgrade_and_the_hello_opens_nothing(
    how: list[str], relay: Relay
) -> None:
    tunnel = relay.tunnel(f"slow-{how[0]}")
    action, *options = how
    async with dialling(relay.url, tunnel.token) as connector:
        relay.run("tunnel", action, tunnel.name, *options).ok()
        with suppress(ConnectionClosed):
            assert not await introduce(connector, tunnel.name, Ed25519PrivateKey.generate())

    assert not relay.connected(tunnel)


# ---------------------------------------------------------------- connector keys


async def test_a_second_connector_key_is_refused_until_it_is_approved_and_then_the_first_is_cut(
    stage: Stage, log: plain.Log, tmp_path: Path
) -> None:
    second = Connector(stage.relay, stage.tunnel, plain.over_stdio(), folder=tmp_path / "second")
    second.spawn()
    try:
        refused = await asyncio.to_thread(second.wait_for, "pinned to another connector key")
        (first_key, _), *others = links(stage)
        assert not others
        async with busy(stage, log, stage.keys["acme"]) as ours:
            approved = stage.relay.run("tunnel", "approve", stage.tunnel.name, "--json").ok().json["connector_key"]
            assert approved in refused
            assert approved != first_key
            async with asyncio.timeout(SOON):
                assert (await ours.call).outcome == "outcome_unknown"
                await ours.stream
        await asyncio.to_thread(second.wait_ready)
        await asyncio.to_thread(stage.connector.wait_for, "pinned to another connector key")

        assert [key for key, _ in links(stage)] == [approved]
        async with stage.door(version="2026-07-28") as client:
            assert (await client.call("look")).outcome == "result"
    finally:
        second.kill()


async def test_a_key_that_loses_its_approval_between_the_upgrade_and_the_hello_opens_nothing(relay: Relay) -> None:
    tunnel = relay.tunnel("slow-approval")
    first, second = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    async with dialling(relay.url, tunnel.token) as connector:
        assert await introduce(connector, tunnel.name, first)
    async with dialling(relay.url, tunnel.token) as connector:
        assert not await introduce(connector, tunnel.name, second)
    async with dialling(relay.url, tunnel.token) as late:
        relay.run("tunnel", "approve", tunnel.name).ok()
        assert not await introduce(late, tunnel.name, first)

    assert not relay.connected(tunnel)
