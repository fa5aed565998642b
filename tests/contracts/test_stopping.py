"""What a newer uvicorn has to pass when it is told to stop: a real process, a real signal, and what it says to whom."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import Relay
from tests.support.inprocess import AGENT, ENDPOINT, JSON, TOOLS, TUNNEL, bearer, connector, kept
from tests.support.target import FakeTarget
from tests.support.wire import dial, request, until

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio"])  # the relay has a loop of its own


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    with Relay(tmp_path) as relay:
        yield relay


def call(tool: str) -> bytes:
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": {}}}
    return json.dumps(message).encode()


async def test_at_sigterm_calls_finish_first_and_tunnels_end_last(relay: Relay) -> None:
    tunnel = relay.tunnel(TUNNEL)
    relay.agent(AGENT, tunnel, TOOLS)
    headers = (*JSON, bearer(relay.key(AGENT, "acme")))
    port, target = int(relay.url.rpartition(":")[2]), FakeTarget()
    dialler = connector(f"ws://127.0.0.1:{port}/connect", tunnel.token, target)
    async with (
        kept(dialler),
        dial(port) as idle,
        dial(port) as half,
        dial(port) as calling,
        dial(port) as listening,
    ):
        await until(lambda: dialler.state.connected)
        await idle.send(request("GET", "/healthz"))
        assert (await idle.answer()).status == 200
        await half.send(b"POST /mcp/")
        await calling.send(request("POST", ENDPOINT, call("wait"), headers=headers))
        await listening.send(request("GET", ENDPOINT, headers=headers))
        assert (await listening.head())[0] == 200
        assert await listening.chunk() == b":\n\n", "it begins with a comment, so that no proxy keeps the head back"
        await until(lambda: target.tools == ["wait"])

        relay.signal(signal.SIGTERM)

        assert await idle.rest() == b""
        assert await half.rest() == b""
        assert await listening.chunk() == b"", "the stream ends in order"
        assert await listening.rest() == b""
        with pytest.raises(ConnectionRefusedError):
            async with dial(port):
                pass
        assert dialler.state.connected == 1, "the tunnel is still there: a call is running in it"
        assert relay.running

        target.go.set()

        answer = await calling.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert "result" in answer.json
        await until(lambda: dialler.state.connected == 0)
        assert await asyncio.to_thread(relay.wait) == 0
    assert relay.run("ledger", "verify", "--state", str(relay.state)).status == 0


async def test_a_second_sigterm_does_not_wait_for_anybody(relay: Relay) -> None:
    tunnel = relay.tunnel(TUNNEL)
    relay.agent(AGENT, tunnel, TOOLS)
    headers = (*JSON, bearer(relay.key(AGENT, "acme")))
    port, target = int(relay.url.rpartition(":")[2]), FakeTarget()
    dialler = connector(f"ws://127.0.0.1:{port}/connect", tunnel.token, target)
    async with kept(dialler), dial(port) as idle, dial(port) as calling:
        await until(lambda: dialler.state.connected)
        await idle.send(request("GET", "/healthz"))
        await idle.answer()
        await calling.send(request("POST", ENDPOINT, call("hang"), headers=headers))
        await until(lambda: target.tools == ["hang"])
        relay.signal(signal.SIGTERM)
        assert await idle.rest() == b"", "it has heard the first: two at once would be one"
        relay.signal(signal.SIGTERM)
        answer = await calling.answer()
        assert (answer.status, answer.code) == (200, "outcome_unknown")
        assert await asyncio.to_thread(relay.wait) == 0
    assert relay.run("ledger", "verify", "--state", str(relay.state)).status == 0
