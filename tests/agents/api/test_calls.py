from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import httpx2
import pytest
import pytest_asyncio
from starlette.applications import Starlette

from arrowslit.agents.api.calls import CallsApi
from arrowslit.agents.api.resource import Doorkeeper
from arrowslit.credential import CredentialKind, encode
from arrowslit.edge.auth import WrongCredentials
from arrowslit.principal import Scope, Tenant
from arrowslit.record import CallRecord
from arrowslit.store.open import Store
from arrowslit.work import Worker
from tests.agents.kit import Caller
from tests.store.kit import ManualClock, definition

ID = "call_" + "a" * 24


class Ledger:
    """The port CallRecords, with one call."""

    def __init__(self) -> None:
        self.record = CallRecord(
            id=ID,
            tenant="acme",
            principal="key_1",
            agent="agent_1",
            agent_version=3,
            server="inventory",
            tunnel="tnl_inventory",
            tool="look",
            method="tools/call",
            asked_at="2026-11-22T10:00:00.000Z",
        )

    async def call(self, call_id: str, visible: Callable[[CallRecord], bool]) -> CallRecord | None:
        return self.record if call_id == ID and visible(self.record) else None


class OneWorker:
    """Whoever comes with a worker's credential is this one."""

    async def worker(self, token: str) -> Worker | None:
        return Worker("ekey_1", "env_1")


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def app(store: Store, clock: ManualClock, ledger: Ledger) -> Starlette:
    keeper = Doorkeeper(store.grants, WrongCredentials(clock), OneWorker(), os.urandom, b"c" * 32)
    return Starlette(routes=CallsApi(ledger).routes(keeper))


@pytest_asyncio.fixture
async def agent(store: Store, ledger: Ledger) -> str:
    """The agent that made the call."""
    made = await store.agents.create(definition("stock"))
    ledger.record = replace(ledger.record, agent=made.id)
    return made.id


@pytest_asyncio.fixture
async def acme(app: Starlette, store: Store, agent: str) -> AsyncIterator[Caller]:
    """Somebody of the call's tenant, with its agent."""
    _, key = await store.keys.create(scopes={Scope.INVOKE}, agents={agent}, tenant=Tenant("acme"))
    async with Caller(app, key) as caller:
        yield caller


async def test_an_open_call_is_shown_without_an_outcome(acme: Caller, agent: str) -> None:
    call = await acme.ok("GET", f"/v1/calls/{ID}")

    assert (call["type"], call["id"], call["tenant"], call["agent"]) == ("call", ID, "acme", agent)
    assert (call["agent_version"], call["server"], call["tool"]) == (3, "inventory", "look")
    assert (call["outcome"], call["code"], call["reason"], call["ended_at"]) == (None, None, None, None)


async def test_a_call_that_ended_is_shown_with_its_outcome(acme: Caller, ledger: Ledger) -> None:
    ended = {"outcome": "outcome_unknown", "code": "outcome_unknown", "reason": "nobody knows", "ms": 12.5}
    ledger.record = replace(ledger.record, ended_at="2026-11-22T10:00:01.000Z", **ended)  # type: ignore[arg-type]

    call = await acme.ok("GET", f"/v1/calls/{ID}")

    assert {name: call[name] for name in ended} == ended
    assert call["ended_at"] == "2026-11-22T10:00:01.000Z"


@pytest.mark.promise("P7")
async def test_a_call_of_others_is_answered_like_one_that_there_never_was(
    app: Starlette, store: Store, acme: Caller, agent: str
) -> None:
    other = await store.agents.create(definition("other"))
    strangers = [
        (agent, Tenant("globex")),  # another tenant with the same agent
        (agent, None),
        (other.id, Tenant("acme")),  # the same tenant with another agent
    ]
    never = await acme.get(f"/v1/calls/{ID[:-1]}b")
    answers = {_masked(never)}

    for its_agent, tenant in strangers:
        _, key = await store.keys.create(scopes={Scope.INVOKE}, agents={its_agent}, tenant=tenant)
        async with Caller(app, key) as stranger:
            assert await stranger.refused("GET", f"/v1/calls/{ID}") == (404, "call_not_found")
            answers.add(_masked(await stranger.get(f"/v1/calls/{ID}")))

    assert len(answers) == 1


async def test_an_administrator_sees_the_calls_of_its_own_tenant_like_anybody_else(
    app: Starlette, store: Store, agent: str
) -> None:
    seen = {}
    for tenant in (None, Tenant("acme"), Tenant("globex")):
        _, key = await store.keys.create(scopes={Scope.ADMIN}, tenant=tenant)
        async with Caller(app, key) as admin:
            seen[tenant] = (await admin.get(f"/v1/calls/{ID}")).status_code

    assert seen == {None: 404, "acme": 200, "globex": 404}


async def test_a_call_is_none_of_a_workers_business(app: Starlette) -> None:
    async with Caller(app, encode(CredentialKind.ENVIRONMENT_KEY, b"e" * 32)) as worker:
        assert await worker.refused("GET", f"/v1/calls/{ID}") == (403, "forbidden")


def _masked(response: httpx2.Response) -> tuple[object, ...]:
    """All of an answer but its own id."""
    request_id = response.headers["request-id"]
    headers = sorted((name, value.replace(request_id, "req")) for name, value in response.headers.items())
    return response.status_code, response.text.replace(request_id, "req"), *headers
