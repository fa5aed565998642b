"""API-12: whatever breaks inside, an answer tells nothing of how it is made: no stack, path, SQL or DSN."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from sqlalchemy.exc import OperationalError

from arrowslit.agents.sessions.log import Log
from arrowslit.app.build import relay as build
from arrowslit.connector import serve
from arrowslit.edge.request import McpRequest
from arrowslit.ledger.find import CallFinder
from arrowslit.ledger.writer import LedgerWriter
from arrowslit.relay import calls
from arrowslit.relay.hub import Hub
from arrowslit.relay.reply import Reply
from arrowslit.store.agents import StoredAgents
from arrowslit.store.keys import StoredKeys
from arrowslit.store.sessions import StoredSessions
from arrowslit.store.snapshot import Snapshot
from tests.agents.bench import bench, simulated, uses
from tests.agents.tale import DEFINITION
from tests.security.cases import case
from tests.support.inprocess import JSON, House, bearer, in_process
from tests.support.target import FakeTarget
from tests.support.wire import Answer, dial, request, until

CHECK = "internal__check_stock"
INSIDE = "postgresql://relay:swordfish@10.9.8.7/inside"
SAID = f"in /srv/inside/store.py: select hash from api_keys at {INSIDE}"
TELLING = (
    "swordfish",
    "10.9.8.7",
    "/srv/",
    "select ",
    "Traceback",
    ".py",
    "sqlite",
    "sqlalchemy",
    "api_keys",
    "Error(",
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with in_process(tmp_path_factory.mktemp("defects")) as house:
        yield house


def broken(*_: object, **__: object) -> Any:
    raise OperationalError(SAID, {"dsn": INSIDE}, RuntimeError(SAID))


async def broken_later(*_: object, **__: object) -> Any:
    broken()


def tells_nothing(answer: Answer) -> bool:
    text = answer.body.decode().lower() + str(answer.headers).lower()
    return not [each for each in TELLING if each.lower() in text]


async def asked(house: House, method: str, path: str, key: str) -> Answer:
    async with dial(house.port) as wire:
        body = json.dumps({"agent": house.agent_id}).encode() if method == "POST" else b""
        await wire.send(request(method, path, body, headers=(*JSON, bearer(key))))
        return await wire.answer()


AT_V1: dict[str, tuple[object, str, Callable[..., Any], str, str]] = {
    "the look-up of a credential": (Snapshot, "principal", broken, "GET", "/v1/agents"),
    "a list in memory": (StoredAgents, "every", broken, "GET", "/v1/agents"),
    "a look-up in memory": (StoredKeys, "read", broken, "GET", "/v1/keys/key_1"),
    "the database, reading": (StoredSessions, "list", broken_later, "GET", "/v1/sessions"),
    "the database, one session": (StoredSessions, "read", broken_later, "GET", "/v1/sessions/sesn_1"),
    "the database, writing": (StoredSessions, "create", broken_later, "POST", "/v1/sessions"),
    "the log of sessions": (Log, "read", broken_later, "GET", "/v1/sessions/sesn_1/events"),
    "the log that a stream follows": (Log, "follow", broken, "GET", "/v1/sessions/sesn_1/events/stream"),
    "the files of the ledger": (CallFinder, "call", broken_later, "GET", "/v1/calls/call_000000000000000000000000"),
    "the links": (Hub, "status", broken, "GET", "/v1/tunnels/tnl_inventory/status"),
}


@pytest.mark.asyncio(loop_scope="module")
@case("API-12", "part,name,breaks,method,path", AT_V1)
async def test_a_defect_behind_v1_is_an_answer_that_tells_nothing(
    house: House,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    part: object,
    name: str,
    breaks: Callable[..., Any],
    method: str,
    path: str,
) -> None:
    key = house.key if "sessions" in path or "calls" in path else house.admin
    with monkeypatch.context() as patch:
        patch.setattr(part, name, breaks)
        answer = await asked(house, method, path, key)

    assert (answer.status, answer.code) == (500, "internal_error")
    assert answer.json["request_id"] == answer.headers["request-id"]
    assert answer.json["request_id"] in caplog.text
    assert "swordfish" in caplog.text
    assert tells_nothing(answer)
    await house.good_call()


# tunnel.md: at /mcp an answer has no request id; the id of the call is in its data, once there is a call.
AT_MCP: dict[str, tuple[object, str, Callable[..., Any], int, str, str | None]] = {
    "authentication, at the MCP door": (build, "identify", broken, 500, "internal_error", None),
    "the request, at the MCP door": (McpRequest, "caller", broken, 500, "internal_error", None),
    "the grants, at the MCP door": (Snapshot, "find", broken, 500, "internal_error", None),
    "the policy, at the MCP door": (calls, "decide", broken, 500, "internal_error", None),
    "the links, at the MCP door": (Hub, "pick", broken, 200, "not_started", "not_delivered"),
    "what is carried, at the MCP door": (Reply, "follow", broken_later, 200, "outcome_unknown", "outcome_unknown"),
    "the connector, at the MCP door": (serve.Server, "admit", broken, 200, "not_started", "not_delivered"),
    "the target, at the MCP door": (FakeTarget, "_answer", broken_later, 200, "outcome_unknown", "outcome_unknown"),
}


@pytest.mark.promise("P2")
@pytest.mark.promise("P3")
@pytest.mark.asyncio(loop_scope="module")
@case("API-12", "part,name,breaks,status,code,outcome", AT_MCP)
async def test_a_defect_behind_the_mcp_door_is_an_answer_that_tells_nothing(
    house: House,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    part: object,
    name: str,
    breaks: Callable[..., Any],
    status: int,
    code: str,
    outcome: str | None,
) -> None:
    before = len(house.ledger())
    with monkeypatch.context() as patch:
        patch.setattr(part, name, breaks)
        answer = await house.call("echo")

    assert (answer.status, answer.code) == (status, code)
    assert answer.json["error"]["data"]["outcome"] == outcome
    assert tells_nothing(answer)
    assert "swordfish" in caplog.text
    if outcome is not None:
        await until(lambda: len(house.ledger()) == before + 2)
        first, last = house.ledger()[before:]
        assert (first["kind"], last["kind"], last["outcome"]) == ("asked", "outcome", outcome)
        assert answer.json["error"]["data"]["call_id"] == first["call"] == last["call"]
        assert "swordfish" not in json.dumps(last)
    await house.good_call()


@pytest.mark.asyncio(loop_scope="module")
@case("API-12", "name", {"the ledger, at the MCP door": "append"})
async def test_a_ledger_that_breaks_refuses_and_tells_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    before = len(house.target.requests)
    with monkeypatch.context() as patch:
        patch.setattr(LedgerWriter, name, broken_later)
        answer = await house.call("echo")

    assert tells_nothing(answer)
    assert answer.json["error"]["data"]["code"] == "internal_error"
    assert len(house.target.requests) == before, "what could not be recorded did not happen"
    await house.good_call()


@case("API-12", "part", {"the model, in a session": "model", "a server, in a session": "server"})
@simulated
async def test_a_defect_in_a_turn_is_an_event_that_tells_nothing(part: str) -> None:
    house = bench(rule=lambda _: uses(CHECK) if part == "server" else broken())
    house.servers.behave = broken_later
    async with house.running():
        await house.create(DEFINITION)
        events = await house.ask("Go")
    told = msgspec.json.encode([dict(event.body) for event in events], enc_hook=dict).decode()

    assert ("internal_error" if part == "model" else "outcome_unknown") in told
    assert not [each for each in TELLING if each in told]
