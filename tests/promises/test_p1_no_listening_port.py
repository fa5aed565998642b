from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import httpx2
import psutil
import pytest

from tests.e2e.appending import LONG, appending
from tests.e2e.door import until
from tests.harness import Relay
from tests.support.ports import free_port
from tests.support.processes import below, of_each

pytestmark = pytest.mark.promise("P1")


def open_to_others(pid: int) -> list[tuple[str, int]]:
    """Where a connector, or anything that it runs, takes connections (TCP) or datagrams (UDP)."""
    found = of_each([psutil.Process(pid), *below(pid)], lambda each: each.net_connections("inet"))
    sockets = [each for process in found for each in process]
    assert any(each.status == psutil.CONN_ESTABLISHED for each in sockets)  # so they can be seen: its link is there
    waiting = [each for each in sockets if each.type == socket.SOCK_DGRAM or each.status == psutil.CONN_LISTEN]
    return [(each.laddr.ip, each.laddr.port) for each in waiting]


@pytest.mark.parametrize("kind", ["stdio", "http"])
async def test_a_connector_listens_nowhere_whatever_it_does(kind: str, relay: Relay, tmp_path: Path) -> None:
    with appending(relay, kind, tmp_path) as scene:
        pid = scene.stage.connector.pid
        assert open_to_others(pid) == []
        async with scene.client() as client:
            call = asyncio.create_task(client.call("append", {"text": "one", "delay_ms": LONG}))
            await until(lambda: scene.lines, "it runs")
            assert open_to_others(pid) == []
            call.cancel()


async def test_with_health_it_listens_on_loopback_and_nowhere_else(relay: Relay, tmp_path: Path) -> None:
    port = free_port()
    with appending(relay, "stdio", tmp_path, "--health", f"127.0.0.1:{port}") as scene:
        assert open_to_others(scene.stage.connector.pid) == [("127.0.0.1", port)]
        async with httpx2.AsyncClient(trust_env=False) as http:
            assert (await http.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200
