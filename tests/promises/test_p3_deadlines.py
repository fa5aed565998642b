from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.e2e import plain
from tests.e2e.appending import LONG, Appending, appending
from tests.e2e.door import MODERN, VERSIONS, until
from tests.e2e.stage import served
from tests.harness import Relay
from tests.support import processes

pytestmark = [pytest.mark.promise("P2"), pytest.mark.promise("P3")]

MS = "dev.arrowslit/deadline-ms"
SOON = 5.0  # seconds; a call without a deadline of its own has sixty


@pytest.fixture(scope="module", params=["http", "stdio"])
def place(
    relay: Relay, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Appending]:
    """The connector's operator has declared `read` read-only, and `append` nothing."""
    folder = tmp_path_factory.mktemp("deadlines")
    ceiling = folder / "ceiling.toml"
    ceiling.write_text('tools = ["append", "read"]\ntenants = ["*"]\nread_only = ["read"]\n')
    with appending(relay, request.param, folder, "--ceiling", str(ceiling)) as scene:
        yield scene


@pytest.mark.parametrize("way", ["meta", "header"])
@pytest.mark.parametrize(
    ("tool", "outcome", "number"), [("append", "outcome_unknown", 5002), ("read", "timeout", 5003)]
)
async def test_a_deadline_that_passes_while_the_tool_works(
    tool: str, outcome: str, number: int, way: str, place: Appending
) -> None:
    text = f"{tool} {way}"
    meta, headers = ({MS: 400}, {}) if way == "meta" else ({}, {"arrowslit-deadline-ms": "400"})
    async with place.client() as client:
        began = time.monotonic()
        said = await client.call(tool, {"text": text, "delay_ms": LONG}, meta=meta, headers=headers)
        took = time.monotonic() - began

    assert (said.status, said.outcome, said.code, said.error["code"]) == (200, outcome, outcome, number)
    assert said.error["data"]["retryable"] is (outcome == "timeout")
    assert 0.4 <= took < 5.4
    assert place.lines.count(text if tool == "append" else f"read {text}") == 1
    assert place.stage.outcomes(tool)[-1] == outcome


async def test_a_call_after_one_that_was_too_late_gets_its_own_answer(place: Appending) -> None:
    async with place.client() as client:
        await client.call("append", {"text": "late", "delay_ms": 600}, meta={MS: 200})
        said = await client.call("append", {"text": "mine", "delay_ms": 1_000})

    assert said.content == {"text": "mine"}


async def test_a_deadline_that_passes_before_the_server_has_started_means_not_executed(
    relay: Relay, tmp_path: Path
) -> None:
    log, hold = plain.Log(tmp_path / "log"), tmp_path / "hold"
    with served(relay, plain.over_stdio(log=log.path, hold=hold), ["change"]) as stage:
        async with stage.door(version=MODERN) as client:
            hold.write_text("")
            before = server(stage.connector.pid)
            assert before is not None
            processes.kill(before)  # it is started again, and waits
            await until(lambda: server(stage.connector.pid) not in (before, None), "another one")
            said = await client.call("change", {"canary": 1}, meta={MS: 400})

            assert (said.outcome, said.code, said.error["data"]["retryable"]) == ("not_delivered", "not_started", True)
            hold.unlink()
            assert (await client.call("change", {"canary": 2})).content["canary"] == 2
    assert [call.message["params"]["arguments"]["canary"] for call in log.calls] == [2]
    assert stage.outcomes("change") == ["not_delivered", "result"]


def server(connector: int) -> psutil.Process | None:
    """The one server of a connector."""
    found = processes.below(connector, str(plain.SERVER), deep=False)
    return found[0] if found else None


async def test_a_deadline_that_passes_before_a_connection_is_there_means_not_executed(relay: Relay) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:  # nobody accepts, and one connection may wait
        port = full.getsockname()[1]
        with served(relay, f"http://127.0.0.1:{port}/mcp", ["change"]) as stage:
            await until(lambda: not has_connection(stage.connector.pid, port), "its first one is closed again")
            async with stage.door(version=MODERN) as client:
                said = await client.call("change", meta={MS: 400})

    assert (said.outcome, said.code) == ("not_delivered", "not_started")
    assert stage.outcomes("change") == ["not_delivered"]


def has_connection(connector: int, port: int) -> bool:
    return any(each.raddr[1:] == (port,) for each in psutil.Process(connector).net_connections("tcp"))


@pytest.mark.parametrize("version", VERSIONS)
async def test_without_a_connector_nothing_is_delivered_and_it_is_said_at_once(version: str, relay: Relay) -> None:
    with plain.over_http() as url, served(relay, url, ["change"]) as stage:
        stage.connector.stop()
        await until(lambda: not relay.connected(stage.tunnel), "it has left")
        async with stage.door(version=version) as client:
            began = time.monotonic()
            called, listed = await asyncio.gather(client.call("change"), client.ask("tools/list"))
            took = time.monotonic() - began

    for said in (called, listed):
        assert (said.status, said.outcome, said.code) == (200, "not_delivered", "no_connector")
        assert said.error["data"]["retryable"] is True
        assert said.error["data"]["connector_last_seen"]
    assert took < SOON
