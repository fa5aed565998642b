"""When a credential ends, what runs with it ends: asked of the endpoint alone, with a clock that is turned."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import pytest

from arrowslit.edge.problem import Problem
from arrowslit.edge.request import McpRequest
from arrowslit.errors import Error
from arrowslit.principal import Grant, Principal, Scope, Tenant
from arrowslit.relay.endpoint import Endpoint
from arrowslit.tunnel import Answer, Exchange
from tests.edge.oidc.kit import NOW, TurnedClock, settle

ADA = Principal("jwt_ada", Tenant("acme"), frozenset({Scope.INVOKE}), frozenset({"agent_stock"}), NOW + 60)


class Endless:
    """Calls that never end by themselves."""

    async def call(self, principal: Principal, agent: str, server: str, exchange: Exchange, answer: Answer) -> None:
        await asyncio.Event().wait()


class Nowhere:
    """No server has a host name here."""

    def at(self, principal: Principal, name: str) -> Grant:
        raise Error("server_not_found", "there is none")


class Request:
    """What the endpoint asks of a request, and what it was told."""

    path, headers, body, waited = "/mcp/stock/inventory", (), b"", True

    def __init__(self, principal: Principal, method: str = "GET") -> None:
        self.method = method
        self.principal = principal
        self.told: list[Problem] = []
        self.task: asyncio.Task[None] | None = None

    def caller(self) -> Principal:
        return self.principal

    def problem(self, problem: Problem) -> None:
        self.told.append(problem)


class House:
    """An endpoint with requests that run."""

    def __init__(self, clock: TurnedClock, live: Callable[[str], bool]) -> None:
        self.endpoint = Endpoint(Endless(), live, clock, hosts=Nowhere(), domain="tunnel.localhost")

    async def opened(self, principal: Principal, method: str = "GET") -> Request:
        request = Request(principal, method)
        request.task = asyncio.create_task(self.endpoint.serve(cast(McpRequest, request)))
        await settle()
        return request


@asynccontextmanager
async def house(clock: TurnedClock, live: Callable[[str], bool] = lambda _: False) -> AsyncIterator[House]:
    found = House(clock, live)
    watching = asyncio.create_task(found.endpoint.watch_expiry())
    await settle()
    yield found
    watching.cancel()


@pytest.mark.promise("P11")
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_what_a_token_opened_ends_with_it(method: str) -> None:
    clock = TurnedClock()
    async with house(clock) as found:
        request = await found.opened(ADA, method)

        await clock.turn(59)
        assert not request.told
        await clock.turn(1)

        assert [each.status for each in request.told] == [401]
        assert request.task is not None
        assert request.task.cancelled()


async def test_a_later_token_does_not_prolong_what_an_earlier_one_opened() -> None:
    clock = TurnedClock()
    later = Principal(ADA.id, ADA.tenant, ADA.scopes, ADA.agents, NOW + 120)
    async with house(clock) as found:
        first, second = await found.opened(ADA), await found.opened(later)

        await clock.turn(60)

        assert (len(first.told), len(second.told)) == (1, 0)
        await clock.turn(60)
        assert (len(first.told), len(second.told)) == (1, 1)


async def test_a_token_that_ended_while_the_body_came_opens_nothing() -> None:
    clock = TurnedClock()
    await clock.turn(60)
    async with house(clock) as found:
        request = await found.opened(ADA)

        assert [each.status for each in request.told] == [401]


async def test_keys_are_asked_for_and_tokens_are_not() -> None:
    clock = TurnedClock()
    revoked: set[str] = set()
    key = Principal("key_1", Tenant("acme"), frozenset({Scope.INVOKE}), frozenset())
    async with house(clock, lambda key_id: key_id not in revoked) as found:
        by_key, by_token = await found.opened(key), await found.opened(ADA)

        revoked |= {"key_1", ADA.id}
        await clock.turn(1)

        assert (len(by_key.told), len(by_token.told)) == (1, 0)


def test_a_principal_without_an_end_has_none() -> None:
    assert not Principal("key_1", None, frozenset()).expired(1e12)
    assert ADA.expired(NOW + 60)
