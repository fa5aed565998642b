from __future__ import annotations

import asyncio
import shlex
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import httpx2
import psutil
import pytest

from arrowslit.demo import inventory_mcp
from arrowslit.demo.postgres import SUPERUSER, Postgres
from arrowslit.demo.schema import DATABASE
from tests.e2e import plain
from tests.e2e.appending import LONG, Appending, appending
from tests.e2e.door import MODERN, until
from tests.e2e.stage import served
from tests.harness import Relay
from tests.support import processes

pytestmark = [pytest.mark.promise("P2"), pytest.mark.promise("P3"), pytest.mark.promise("P4")]


@pytest.mark.parametrize("kind", ["http", "stdio"])
@pytest.mark.parametrize("victim", ["connector", "target"])
async def test_a_write_that_is_killed_in_the_middle_is_in_doubt_and_was_executed_once(
    victim: str, kind: str, relay: Relay, tmp_path: Path
) -> None:
    with appending(relay, kind, tmp_path) as scene:
        async with scene.client() as client:
            call = asyncio.create_task(client.call("append", {"text": "one", "delay_ms": LONG}))
            await until(lambda: scene.lines == ["one"], "it runs")
            killed = time.monotonic()
            (scene.stage.connector if victim == "connector" else scene.server).kill()
            said = await call

            assert (said.status, said.outcome, said.error["code"]) == (200, "outcome_unknown", 5002)
            assert said.headers["arrowslit-outcome"] == "outcome_unknown"
            assert said.error["data"]["retryable"] is False
            assert time.monotonic() - killed < 5
            if kind == "stdio":
                await comes_back(scene, victim)
                assert (await client.call("append", {"text": "two"})).outcome == "result"
    assert scene.lines == ["one", "two"][: 1 + (kind == "stdio")]
    assert scene.stage.outcomes("append") == ["outcome_unknown", "result"][: 1 + (kind == "stdio")]


async def comes_back(scene: Appending, victim: str) -> None:
    if victim == "connector":
        scene.stage.connector.start()
    async with scene.client() as client:
        await until(lambda: has_result(client.ask("tools/list")), "the server is back")


async def has_result(asking: object) -> bool:
    said = await asking  # type: ignore[misc]
    return bool(said.outcome == "result")


async def test_what_a_killed_connector_ran_does_not_outlive_it(relay: Relay) -> None:
    server = shlex.join(plain.command("stdio"))
    stubborn = shlex.join(["sh", "-c", f"{server}; sleep 60"])  # it goes on when its input ends
    with served(relay, f"stdio:{stubborn}", ["look"]) as stage:
        ran = processes.below(stage.connector.pid)
        assert any(processes.words(each)[:2] == ["sh", "-c"] for each in ran)
        stage.connector.kill()
        await until(lambda: not processes.alive(ran), "nothing of it runs")


@asynccontextmanager
async def locked(postgres: Postgres, sku: str) -> AsyncIterator[asyncpg.Connection]:
    """Hold acme's row of a sku, so that whoever wants to change it waits (two seconds at most, as its role says)."""
    connection = await asyncpg.connect(postgres.dsn(SUPERUSER, postgres.secret(SUPERUSER), DATABASE))
    try:
        async with connection.transaction():
            await connection.execute("select from stock.inventory where tenant = 'acme' and sku = $1 for update", sku)
            yield connection
    finally:
        await connection.close()


@pytest.mark.parametrize("victim", ["connector", "target"])
async def test_an_adjustment_of_stock_that_is_killed_in_the_middle_is_in_doubt(
    victim: str, relay: Relay, postgres: Postgres, stock_dsn: str
) -> None:
    env = {"INTERNAL_DB_DSN": stock_dsn}
    target, tools = f"stdio:{inventory_mcp.__file__}", ["check_stock", "adjust_stock"]
    with served(relay, target, tools, "--pass-env", "INTERNAL_DB_DSN", env=env) as stage:
        async with stage.door("acme", MODERN) as client:
            before = (await client.call("check_stock", {"sku": "BOLT8"})).content["quantity"]
            async with locked(postgres, "BOLT8") as database:
                call = asyncio.create_task(client.call("adjust_stock", {"sku": "BOLT8", "delta": -1}))
                await until(lambda: waiting(database), "it waits for the row")
                kill(stage.connector.pid, victim)
                said = await call
                assert said.outcome == "outcome_unknown"
                await asyncio.to_thread(stage.connector.kill)
            async with locked(postgres, "BOLT8") as database:  # so the one before us has come to its end
                after = await database.fetchval(
                    "select quantity from stock.inventory where tenant = 'acme' and sku = 'BOLT8'"
                )

    assert before - after in (0, 1)
    assert stage.outcomes("adjust_stock") == ["outcome_unknown"]


async def waiting(database: asyncpg.Connection) -> bool:
    """Whether somebody waits for a lock."""
    query = "select exists (select from pg_stat_activity where wait_event_type = 'Lock' and usename = 'inventory_app')"
    return bool(await database.fetchval(query))


def kill(connector: int, victim: str) -> None:
    process = psutil.Process(connector)
    if victim == "target":
        (process,) = processes.below(connector, inventory_mcp.__file__)
    process.kill()


@pytest.mark.promise("P12")
async def test_a_call_that_a_killed_relay_left_open_is_in_doubt_as_soon_as_it_runs_again(tmp_path: Path) -> None:
    with Relay(tmp_path / "relay") as relay, appending(relay, "http", tmp_path) as scene:
        async with scene.client() as client:
            call = asyncio.create_task(client.call("append", {"text": "one", "delay_ms": LONG}))
            await until(lambda: scene.lines == ["one"], "it runs")
            relay.kill()
            with pytest.raises(httpx2.TransportError):
                await call
        assert scene.stage.outcomes_now("append") == [None]

        relay.start()  # returns when it listens: by then

        assert scene.stage.outcomes_now("append") == ["outcome_unknown"]
        assert [each["reason"] for each in scene.stage.records("outcome")] == ["relay_died"]
        assert relay.run("ledger", "verify", "--state", str(relay.state), "--json").ok().json["ok"] is True
    assert scene.lines == ["one"]
