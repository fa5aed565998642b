from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from speaker import Speaker

from tests.e2e import plain
from tests.e2e.door import VERSIONS, Door
from tests.e2e.stage import Stage, served
from tests.harness import Relay

pytestmark = pytest.mark.promise("P7")

LIES = [
    "tenant", "Tenant", "TENANT", "te\u200bnant", " tenant", "tenant ", "ｔｅｎａｎｔ", "tenant\u00ad", "ｔenant",
    "dev.arrowslit/tenant", "dev.arrowslit/Tenant", "DEV.ARROWSLIT/TENANT", "Dev.Arrowslit/tenant",
    "dev.arrowslit/ tenant", "dev.arrowslit/tenant ", "dev.arrowslit／tenant", "dev\u200b.arrowslit/tenant",
    "dev.arrowſlit/tenant", "dev.arrowslit/", "dev.arrowslit/call-id", "dev.arrowslit/tenant-id",
    "dev.arrowslit/anything", "dev.arrowslit/client-call-id",
]  # fmt: skip
"""Keys under which a client may try to say whose data a call may touch, or to speak in our name."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A tunnel to a server whose log shows what it saw."""

    stage: Stage
    log: plain.Log


@pytest.fixture(scope="module", params=["http", "stdio"])
def place(relay: Relay, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Watched]:
    log = plain.Log(tmp_path_factory.mktemp("p7") / "log")
    with plain.target(request.param, log=log.path) as target, served(relay, target, ["look"]) as stage:
        yield Watched(stage, log)


@pytest.fixture
def watched(place: Watched) -> Watched:
    """The same with an empty log."""
    place.log.clear()
    return place


@pytest_asyncio.fixture(params=VERSIONS)
async def client(watched: Watched, request: pytest.FixtureRequest) -> AsyncIterator[Door]:
    async with watched.stage.door("acme", request.param) as client:
        if not client.is_modern:
            await client.initialize()
        yield client


async def test_the_server_sees_the_tenant_of_the_key(watched: Watched) -> None:
    for tenant in ["acme", "globex"]:
        async with watched.stage.door(tenant, VERSIONS[-1]) as client:
            said = (await client.call("look")).content
            assert (said["tenant"], said["alias"]) == (tenant, tenant)


async def test_what_a_client_says_of_a_tenant_in_meta_has_no_effect(client: Door, watched: Watched) -> None:
    for lie in LIES:
        said = await client.call("look", meta={lie: "globex", "mine": "kept"})
        assert (said.content["tenant"], said.content["alias"]) == ("acme", "acme"), lie
    together = await client.call("look", meta=dict.fromkeys(LIES, "globex"))
    assert together.content["tenant"] == "acme"

    assert len(watched.log.calls) == len(LIES) + 1
    for call in watched.log.calls:
        assert b"globex" not in call.body
        assert call.meta["dev.arrowslit/call-id"].startswith("call_")
        assert {key for key in call.meta if "arrowslit" in key.lower()} == {
            "dev.arrowslit/tenant",
            "dev.arrowslit/call-id",
        }
    assert watched.log.calls[0].meta["mine"] == "kept"


@pytest.mark.parametrize("value", [None, 7, True, ["globex"], {"id": "globex"}, ""])
async def test_a_lie_of_another_type_has_no_effect_either(value: object, watched: Watched) -> None:
    async with watched.stage.door("acme", VERSIONS[-1]) as client:
        said = await client.call("look", meta={"tenant": value, "dev.arrowslit/tenant": value})

    assert (said.content["tenant"], said.content["alias"]) == ("acme", "acme")


async def test_a_key_that_stands_twice_reaches_nobody(client: Door, watched: Watched) -> None:
    for meta in [
        b'{"dev.arrowslit/tenant":"globex","dev.arrowslit/tenant":"globex"}',
        rb'{"dev.arrowslit/tenant":"globex","dev.arrowslit\/tenant":"globex"}',
        rb'{"tenant":"globex","\u0074enant":"globex"}',
    ]:
        body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"look","_meta":' + meta + b"}}"
        headers = client.headers(client.request("ping"))
        said = await client.post(body, {name: value for name, value in headers.items() if name != "mcp-method"})
        assert (said.status, said.code) == (400, "duplicate_key")
    assert not watched.log.calls


async def test_what_a_client_says_in_arguments_and_headers_is_not_taken_for_the_tenant(
    client: Door, watched: Watched
) -> None:
    arguments = {"tenant": "globex", "dev.arrowslit/tenant": "globex", "_meta": {"dev.arrowslit/tenant": "globex"}}
    names = ["tenant", "x-tenant", "x-tenant-id", "arrowslit-tenant", "dev.arrowslit.tenant", "x-arrowslit-tenant"]
    said = await client.call("look", arguments, headers=dict.fromkeys(names, "globex"))

    assert (said.content["tenant"], said.content["alias"]) == ("acme", "acme")
    (call,) = watched.log.calls
    assert call.message["params"]["arguments"] == arguments  # they are the tool's own business, see P8
    assert call.meta["dev.arrowslit/tenant"] == "acme"
    assert not [header for header in call.headers if "globex" in header[1]]
    assert not [header for header in call.headers if header[0].lower() in ("authorization", "x-api-key", "cookie")]


async def test_what_is_no_call_says_the_same(client: Door, watched: Watched) -> None:
    await client.ask("tools/list", {"_meta": {"tenant": "globex"}})
    await client.ask("ping", {"_meta": {"dev.arrowslit/tenant": "globex"}})
    await client.send(
        {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1, "progress": 1} | evil()}
    )
    await client.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 9} | evil()})

    assert not [each for each in watched.log.heard() if b"globex" in each.body]
    (listed,) = watched.log.heard("tools/list")
    assert listed.meta["dev.arrowslit/tenant"] == "acme"


def evil() -> dict[str, Any]:
    return {"_meta": {"tenant": "globex", "dev.arrowslit/tenant": "globex"}}


@pytest.mark.promise("P3")
@pytest.mark.parametrize("version", VERSIONS)
async def test_a_key_without_a_tenant_reaches_nothing_but_what_is_open_to_it(
    version: str, relay: Relay, watched: Watched
) -> None:
    nobody = relay.key(watched.stage.agent, None)
    async with watched.stage.door(version=version) as client:
        client.key = nobody
        for lie in [None, {"tenant": "acme"}, {"dev.arrowslit/tenant": "acme"}]:
            said = await client.call("look", meta=lie)
            assert (said.code, said.outcome) == ("tenant_required", "denied")
        assert (await client.ask("tools/list")).code == "tenant_required"
    # a notification of the test before this one may come late; nobody waits for those
    assert not [heard for heard in watched.log.heard() if b'"notifications/' not in heard.body]


async def test_on_a_tunnel_with_optional_tenants_there_may_be_none(relay: Relay, tmp_path: Path) -> None:
    log = plain.Log(tmp_path / "log")
    target = plain.over_stdio(log=log.path)
    with served(relay, target, ["look"], tunnel={"tenant_optional": True}) as stage:
        async with stage.door(version=VERSIONS[-1]) as client:
            assert (await client.call("look")).content["tenant"] == "acme"
            client.key = relay.key(stage.agent, None)
            said = await client.call("look", meta=dict.fromkeys(LIES, "acme"))

    assert (said.content["tenant"], said.content["alias"]) == (None, None)
    assert b"acme" not in log.calls[-1].body


@pytest.mark.promise("P6")
async def test_the_ceiling_decides_about_tenants_once_more(relay: Relay, tmp_path: Path) -> None:
    log = plain.Log(tmp_path / "log")
    ceiling = tmp_path / "ceiling.toml"
    ceiling.write_text('tools = ["look"]\ntenants = ["acme"]\n')
    tunnel = {"tenant_optional": True}
    target = plain.over_stdio(log=log.path)
    with served(relay, target, ["look"], "--ceiling", str(ceiling), tunnel=tunnel) as stage:
        for version, key in product(VERSIONS, [stage.keys["globex"], relay.key(stage.agent, None)]):
            async with stage.door("acme", version) as ours, stage.door(version=version) as other:
                other.key = key
                said = await other.call("look", meta={"tenant": "acme", "dev.arrowslit/tenant": "acme"})
                assert (said.code, said.outcome) == ("denied_by_ceiling", "denied")
                assert (await other.ask("tools/list")).code == "denied_by_ceiling"
                assert not log.calls
                if not ours.is_modern:
                    await ours.initialize()
                assert (await ours.call("look")).content["tenant"] == "acme"
                log.clear()


@pytest.mark.parametrize("library", ["mcp1", "mcp2", "fastmcp4"])
async def test_a_client_library_cannot_choose_its_tenant(
    library: str, watched: Watched, request: pytest.FixtureRequest
) -> None:
    client: Speaker = request.getfixturevalue(library)
    opened = await client.open(watched.stage.url, watched.stage.headers("acme"))
    said = await client.call(opened, "look", meta={"tenant": "globex", "dev.arrowslit/tenant": "globex"})
    await client.close(opened)

    assert json.loads(said["content"][0]["text"])["tenant"] == "acme"
    assert b"globex" not in watched.log.calls[0].body
