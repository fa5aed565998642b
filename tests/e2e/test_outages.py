from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from speaker import Opened, Speaker, SpeakError

from tests.e2e import plain
from tests.e2e.door import until
from tests.e2e.stage import Stage, served
from tests.harness import Relay

OUTAGES = [2, 10, 30]  # seconds; the connector waits longer and longer before it tries again
BACK = 5.0  # seconds in which everything works again
SOON = 5.0  # seconds; a call without a deadline of its own has sixty


@pytest.fixture
def stage(relay: Relay) -> Iterator[Stage]:
    with served(relay, plain.over_stdio(), ["look"]) as stage:
        yield stage


@pytest.mark.promise("P2")
async def test_after_a_kill_of_the_connector_an_open_session_goes_on(stage: Stage, mcp1: Speaker) -> None:
    opened = await mcp1.open(stage.url, stage.headers())
    assert await canary(mcp1, opened, "before") == "before"
    relay_before = stage.relay.pid
    stage.connector.kill()

    killed = time.monotonic()
    with pytest.raises(SpeakError) as failed:
        await canary(mcp1, opened, "meanwhile")
    assert time.monotonic() - killed < SOON
    assert (failed.value.code, failed.value.data["outcome"]) == (5001, "not_delivered")

    stage.connector.spawn()
    await until(lambda: answers(mcp1, opened), "the same session is served", seconds=BACK)
    assert await canary(mcp1, opened, "after") == "after"
    await mcp1.close(opened)
    assert stage.connector.tunnel_id == stage.tunnel.id
    assert stage.relay.running
    assert stage.relay.pid == relay_before


@pytest.mark.promise("P2")
async def test_after_outages_of_the_relay_connector_and_clients_go_on(
    tmp_path: Path, mcp1: Speaker, mcp2: Speaker, fastmcp4: Speaker
) -> None:
    with ExitStack() as stack:
        stages = []
        for outage in OUTAGES:
            relay = stack.enter_context(Relay(tmp_path / str(outage)))
            stages.append(stack.enter_context(served(relay, plain.over_stdio(), ["look"])))
        async with asyncio.TaskGroup() as group:
            for outage, stage in zip(OUTAGES, stages, strict=True):
                group.create_task(survive(stage, outage, [mcp1, mcp2, fastmcp4]))


async def survive(stage: Stage, outage: int, libraries: list[Speaker]) -> None:
    """Kill the relay, start it again after the outage; each client that was open goes on, and the connector too."""
    clients = [(library, await library.open(stage.url, stage.headers())) for library in libraries]
    for library, opened in clients:
        assert await canary(library, opened, "before") == "before"
    connector_before = stage.connector.pid
    stage.relay.kill()
    await asyncio.sleep(outage)
    stage.relay.spawn()
    await until(lambda: listens(stage.relay), "it listens", seconds=20)

    async with asyncio.timeout(BACK):
        for library, opened in clients:
            await until(lambda: answers(library, opened), f"{library.library} is served", seconds=BACK)  # noqa: B023
    for library, opened in clients:
        await library.close(opened)
    assert stage.connector.running
    assert stage.connector.pid == connector_before
    assert stage.connector.out == f"{stage.tunnel.id}\n"


async def canary(library: Speaker, opened: Opened, text: str) -> object:
    said = await library.call(opened, "look", {"canary": text})
    return said["structuredContent"]["canary"]


async def answers(library: Speaker, opened: Opened) -> bool:
    """Whether a call is answered; while there is no connector, the relay says at once that there is none."""
    try:
        return await canary(library, opened, "again") == "again"
    except SpeakError as error:
        assert error.data["outcome"] == "not_delivered", error
        return False


async def listens(relay: Relay) -> bool:
    """Whether connections are accepted."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", int(relay.url.rpartition(":")[2]))
    except ConnectionRefusedError:
        return False
    writer.close()
    await writer.wait_closed()
    return True
