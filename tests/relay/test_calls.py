"""The id of a call: who may choose it. On a whole house, with a target that remembers what reached it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from arrowslit.principal import Principal, Scope, Tenant
from arrowslit.testing.world import Heard
from arrowslit.tunnel import Exchange
from tests.support.inprocess import AGENT, TUNNEL, House, in_process
from tests.support.wire import dial, until

CHOSEN = "call_" + "c" * 24
CONTENT = [("content-type", "application/json")]


@pytest_asyncio.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with in_process(tmp_path) as house:
        yield house


async def inside(house: House, tool: str) -> None:
    """A call of that id by somebody inside the process."""
    principal = Principal("key_inside", Tenant("acme"), frozenset({Scope.INVOKE}), frozenset({house.agent_id}))
    exchange = Exchange("POST", CONTENT, house.message(tool), CHOSEN)
    await house.relay.calls.call(principal, AGENT, TUNNEL, exchange, Heard())


def calls(house: House) -> list[tuple[str, str]]:
    """Kind and call id of each record about a call."""
    return [(record["kind"], record["call"]) for record in house.ledger() if "call" in record]


async def test_a_caller_inside_the_process_knows_the_id_before_the_call_leaves(house: House) -> None:
    await inside(house, "echo")

    await until(lambda: calls(house) == [("asked", CHOSEN), ("outcome", CHOSEN)])
    (reached,) = house.target.requests
    assert reached.call_id == CHOSEN
    assert json.loads(reached.body)["params"]["_meta"]["dev.arrowslit/call-id"] == CHOSEN


async def test_a_denied_call_is_recorded_under_the_id_that_was_chosen(house: House) -> None:
    await inside(house, "forbidden")

    assert calls(house) == [("denied", CHOSEN)]
    assert house.target.requests == []


@pytest.mark.promise("P8")
@pytest.mark.parametrize("tool", ["echo", "forbidden"])
async def test_no_http_request_can_choose_the_id_of_its_call(house: House, tool: str) -> None:
    names = ("call_id", "call-id", "dev.arrowslit/call-id", "dev.arrowslit/call_id", "dev.arrowslit/client-call-id")
    message = json.loads(house.message(tool))
    message["params"] |= {"_meta": dict.fromkeys(names, CHOSEN), "call_id": CHOSEN}
    headers = [f"{name}: {CHOSEN}" for name in ("Call-Id", "Arrowslit-Call-Id", "X-Call-Id", "Mcp-Call-Id")]

    async with dial(house.port) as wire:
        await wire.send(house.post(json.dumps(message).encode(), *headers))
        assert (await wire.answer()).status == 200
    await until(lambda: len(calls(house)) == (2 if tool == "echo" else 1))

    assert CHOSEN not in [call for _, call in calls(house)]
    assert CHOSEN not in [request.call_id for request in house.target.requests]
