"""Servers that others wrote, of both eras, over stdio and HTTP, behind a real relay and connector with real sockets."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import cast

import programs
import pytest

from arrowslit.agents.servers.servers import Servers
from arrowslit.agents.servers.session import ServerSession
from arrowslit.agents.servers.tool import Progress
from arrowslit.clock import SystemClock
from arrowslit.connector.targets.facade import Facade
from arrowslit.connector.targets.http import HttpTarget
from arrowslit.connector.targets.stdio import Stdio, read_command
from arrowslit.connector.targets.target import Target
from arrowslit.connector.targets.upstream.address import read_endpoint
from arrowslit.ids import new_id
from arrowslit.outcome import Outcome
from arrowslit.principal import Principal, Scope, Tenant
from tests.connector.targets.facade_kit import heard as raw_heard
from tests.connector.targets.facade_kit import raw
from tests.e2e import plain
from tests.support.inprocess import TUNNEL, House, connector, in_process, kept
from tests.support.target import FakeTarget
from tests.support.wire import until


def over_http(url: str) -> Target:
    """A target over HTTP."""
    return HttpTarget(read_endpoint(url), SystemClock(), allowed=[])


def over_stdio(command: list[str], folder: Path) -> Target:
    """A program behind the façade."""
    read = read_command(shlex.join(command), python="", environment=os.environ, pass_env=())
    return Facade(Stdio(read), clock=SystemClock(), random=os.urandom, state=folder / "sessions")


@asynccontextmanager
async def opened(folder: Path, target: Target, *tools: str) -> AsyncIterator[tuple[House, ServerSession]]:
    """The server, as an agent of acme's sees it that was granted these tools."""
    async with in_process(folder, connected=False) as house, target:
        server = {"type": "tunnel", "tunnel_id": f"tnl_{TUNNEL}", "tool_allowlist": list(tools)}
        agent = await house.api("POST", "/v1/agents", {"name": "real", "model": "none", "mcp_servers": [server]})
        who = Principal("key_inside", Tenant("acme"), frozenset({Scope.INVOKE}), frozenset({agent["id"]}))
        dialler = connector(f"ws://127.0.0.1:{house.port}/connect", house.token, cast(FakeTarget, target))
        async with kept(dialler):
            await until(lambda: house.connected)
            session = await Servers(house.relay.calls, SystemClock()).open(who, agent["id"], TUNNEL)
            yield house, session
            await session.close()


async def call(session: ServerSession, tool: str, **arguments: object) -> tuple[Outcome, bool, str]:
    """Outcome, whether it is an error, and all text."""
    answer = await session.call(tool, arguments, call_id=new_id("call", os.urandom))
    return answer.outcome, answer.is_error, "".join(str(block.get("text")) for block in answer.content)


async def canaries(session: ServerSession, tool: str, argument: str) -> None:
    """Twenty calls at once, of which each has to get its own answer, for its own tenant."""

    async def ask(number: int) -> None:
        outcome, _, said = await call(session, tool, **{argument: f"canary-{number}", "delay_ms": (20 - number) * 5})
        assert outcome is Outcome.RESULT
        assert (json.loads(said)["canary"], json.loads(said)["tenant"]) == (f"canary-{number}", "acme")

    await asyncio.gather(*(ask(number) for number in range(20)))


@pytest.mark.promise("P5")
@pytest.mark.parametrize("kind", ["http", "stdio"])
async def test_a_small_server_answers_every_call_with_its_own_answer(tmp_path: Path, kind: str) -> None:
    log = plain.Log(tmp_path / "log")
    with plain.target(kind, log=log.path) as address:
        target = over_http(address) if kind == "http" else over_stdio(plain.command("stdio", log=log.path), tmp_path)
        async with opened(tmp_path, target, "look", "change") as (house, session):
            assert [tool.name for tool in await session.tools()] == ["look", "change"]
            await canaries(session, "look", "canary")
            assert (await call(session, "hidden"))[0] is Outcome.DENIED
            await until(lambda: house.outcomes().count("result") >= 20)

    assert not log.heard("initialize")
    assert len(log.calls) == 20


@pytest.mark.promise("P5")
@pytest.mark.parametrize("kind", ["http", "stdio"])
async def test_a_server_of_the_sdk_2_is_spoken_to_in_the_modern_era(tmp_path: Path, kind: str) -> None:
    with _served("canary", kind, tmp_path) as target:
        async with opened(tmp_path, target, "echo") as (_, session):
            (echo,) = await session.tools()
            assert echo.description.startswith("Answer with the canary")
            assert "canary" in cast(dict[str, object], echo.input_schema["properties"])
            await canaries(session, "echo", "canary")
            outcome, failed, said = await call(session, "echo", wrong=1)
            assert (outcome, failed) == (Outcome.RESULT, True)
            assert "canary" in said


@pytest.mark.parametrize("kind", ["http", "stdio"])
async def test_a_server_of_the_sdk_1_is_spoken_to_in_the_legacy_era(tmp_path: Path, kind: str) -> None:
    with _served("stock_v1", kind, tmp_path) as target:
        async with opened(tmp_path, target, "check_stock") as (house, session):
            assert [tool.name for tool in await session.tools()] == ["check_stock"]
            outcomes = await asyncio.gather(*(call(session, "check_stock", sku="A100") for _ in range(20)))
            assert {json.loads(said)["quantity"] for _, _, said in outcomes} == {12}
            outcome, failed, said = await call(session, "check_stock")
            assert (outcome, failed) == (Outcome.RESULT, True)
            assert "sku" in said
            methods = [record["method"] for record in house.ledger() if record["kind"] == "asked"]

    assert methods[:3] == ["server/discover", "initialize", "tools/list"]
    assert methods.count("initialize") == 1


async def test_a_stdio_server_may_ask_tell_fail_and_die_while_it_is_called(tmp_path: Path) -> None:
    heard: list[Progress] = []
    tools = ("ask", "progress", "error", "die", "echo")
    async with opened(tmp_path, raw(tmp_path, "legacy"), *tools) as (house, session):
        outcome, _, said = await call(session, "ask", of="me")  # its results are no tool's: the agent hears that first
        assert (outcome, json.loads(said[said.index("{") :])["heard"]["code"]) == (Outcome.RESULT, -32601)

        await session.call("progress", {"steps": 3}, call_id=new_id("call", os.urandom), on_progress=heard.append)
        assert [each.progress for each in heard] == [0, 1, 2]

        assert (await call(session, "error", code=-32000))[:2] == (Outcome.RESULT, True)
        assert (await call(session, "die"))[0] is Outcome.OUTCOME_UNKNOWN
        outcome, _, said = await call(session, "echo", still="there")
        assert (outcome, "there" in said) == (Outcome.RESULT, True)
        await until(lambda: house.outcomes().count("outcome_unknown") == 1)

    assert [each["params"]["name"] for each in raw_heard(tmp_path) if each.get("method") == "tools/call"] == list(tools)


@contextmanager
def _served(name: str, kind: str, folder: Path) -> Iterator[Target]:
    """The target for a server of tests/clients."""
    if kind == "stdio":
        yield over_stdio(programs.command(name), folder)
        return
    with programs.over_http(name) as url:
        yield over_http(url)
