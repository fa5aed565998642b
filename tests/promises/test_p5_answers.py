from __future__ import annotations

import pytest
from speaker import Caller, Speaker

from tests.e2e import plain
from tests.e2e.door import LEGACY, MODERN
from tests.e2e.flood import flood
from tests.e2e.stage import served
from tests.harness import Relay
from tests.support.processes import below

pytestmark = pytest.mark.promise("P5")


@pytest.mark.parametrize(("kind", "version"), [("http", LEGACY[-1]), ("stdio", MODERN)])
async def test_each_of_20_000_answers_reaches_the_caller_that_asked(kind: str, version: str, relay: Relay) -> None:
    with plain.target(kind, delay=50) as target, served(relay, target, ["look"]) as stage:
        tally = await flood(stage, clients=100, calls=100, version=version)
        servers = below(stage.connector.pid, str(plain.SERVER), deep=False)

    assert tally.strays == []
    assert tally.ended == {"result": 20_000}
    assert tally.overtook > 10_000  # answers did overtake each other
    assert len(servers) == (kind == "stdio")  # one, which all shared


@pytest.mark.parametrize(
    ("library", "mode"),
    [("mcp1", "auto"), ("mcp2", "auto"), ("mcp2", "legacy"), ("fastmcp4", "auto"), ("fastmcp4", "legacy")],
)
async def test_each_answer_reaches_the_client_of_a_library_that_asked(
    library: str, mode: str, relay: Relay, canary: str, request: pytest.FixtureRequest
) -> None:
    client: Speaker = request.getfixturevalue(library)
    with served(relay, canary, ["echo"]) as stage:
        callers = [Caller(stage.headers(tenant), {"tenant": tenant}) for tenant in ("acme", "globex") for _ in range(8)]
        arguments = {"canary": "{canary}", "delay_ms": {"between": [0, 30]}}
        counted = await client.many(stage.url, callers, 8, arguments=arguments, mode=mode)

    assert (counted.calls, counted.mismatches, counted.errors) == (128, 0, 0), counted
