"""The door by host name: a whole house, asked at `/mcp` under the names of its servers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.support.inprocess import AGENT, JSON, TUNNEL, House, bearer, in_process
from tests.support.wire import Answer, dial, request

DOMAIN = "tunnel.localhost"


@pytest_asyncio.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with in_process(tmp_path) as house:
        yield house


async def ask(
    house: House, host: str, *headers: str, path: str = "/mcp", key: str | None = None, method: str = "POST"
) -> Answer:
    """Call `echo` at that host; without a key if it is empty."""
    body = house.message("echo", {"by": "host"}) if method == "POST" else b""
    credential = () if key == "" else (bearer(key or house.key),)
    async with dial(house.port) as wire:
        await wire.send(request(method, path, body, headers=(*JSON, *credential, *headers), host=host))
        return await wire.answer()


async def make_agent(house: House, name: str, *servers: dict[str, Any]) -> str:
    """A further agent with servers behind the one tunnel; its id."""
    asked = [{"type": "tunnel", "tunnel_id": f"tnl_{TUNNEL}", "tool_allowlist": ["echo"], **each} for each in servers]
    made = await house.api("POST", "/v1/agents", {"name": name, "model": "none", "mcp_servers": asked})
    return str(made["id"])


async def key_for(house: House, *agents: str) -> str:
    made = await house.api("POST", "/v1/keys", {"agents": list(agents), "tenant": "acme"})
    return str(made["key"])


def said(answer: Answer) -> tuple[int, str]:
    """Status and code of a refusal, the id of the request aside."""
    return answer.status, answer.json["error"]["data"]["code"]


@pytest.mark.parametrize("path", ["/mcp", "/mcp/", f"/mcp/{AGENT}/{TUNNEL}"])
@pytest.mark.parametrize(
    "host", [f"{TUNNEL}.{DOMAIN}", f"{TUNNEL}.{DOMAIN}:8443", f"{TUNNEL.upper()}.Tunnel.LocalHost"]
)
async def test_a_server_answers_at_its_host_name_and_at_its_path(house: House, host: str, path: str) -> None:
    answer = await ask(house, host, path=path)

    assert answer.json["result"]["arguments"] == {"by": "host"}
    assert house.ledger()[-1]["kind"] in ("asked", "outcome")


async def test_calls_by_both_doors_follow_each_other_on_one_connection(house: House) -> None:
    heads = [("/mcp", f"{TUNNEL}.{DOMAIN}"), (f"/mcp/{AGENT}/{TUNNEL}", "127.0.0.1"), ("/mcp", f"nobody.{DOMAIN}")]
    statuses = []
    async with dial(house.port) as wire:
        for path, host in [*heads, *heads]:
            body = house.message("echo")
            await wire.send(request("POST", path, body, headers=(*JSON, bearer(house.key)), host=host))
            statuses.append((await wire.answer()).status)

    assert statuses == [200, 200, 404] * 2


async def test_a_session_from_one_door_is_good_at_the_other(house: House) -> None:
    session = await house.session()

    answer = await ask(house, f"{TUNNEL}.{DOMAIN}", f"Mcp-Session-Id: {session}")

    assert answer.json["result"]["arguments"] == {"by": "host"}


async def test_a_name_that_is_not_the_callers_answers_like_one_that_nobody_has(house: House) -> None:
    others = await make_agent(house, "others", {"name": "secret"})
    await key_for(house, others)
    theirs = [await ask(house, f"secret.{DOMAIN}"), await ask(house, f"nowhere.{DOMAIN}")]

    assert [said(answer) for answer in theirs] == [(404, "server_not_found")] * 2
    assert len({json.dumps({**answer.json, "id": None}) for answer in theirs}) == 1


@pytest.mark.parametrize(
    ("host", "status", "code"),
    [
        (DOMAIN, 421, "host_not_allowed"),
        (f".{DOMAIN}", 421, "host_not_allowed"),
        (f"{TUNNEL}.{DOMAIN}.", 421, "host_not_allowed"),
        (f"{TUNNEL}.{DOMAIN}:99999", 421, "host_not_allowed"),
        (f"{TUNNEL}.{DOMAIN}:", 421, "host_not_allowed"),
        (f"{TUNNEL}..{DOMAIN}", 421, "host_not_allowed"),
        (f"{TUNNEL}@{DOMAIN}", 421, "host_not_allowed"),
        (f"{TUNNEL}%2e{DOMAIN}", 421, "host_not_allowed"),
        (f"{TUNNEL}.{DOMAIN}.attacker.example", 421, "host_not_allowed"),
        (f"{TUNNEL}-{DOMAIN}", 421, "host_not_allowed"),
        ("ìnventory.tunnel.localhost", 421, "host_not_allowed"),
        (f"xn--{TUNNEL}-abc.{DOMAIN}", 404, "server_not_found"),
        (f"a.{TUNNEL}.{DOMAIN}", 404, "server_not_found"),
        (f"{TUNNEL}-2.{DOMAIN}", 404, "server_not_found"),
        ("127.0.0.1", 404, "not_found"),
        ("localhost", 404, "not_found"),
    ],
)
async def test_a_host_is_read_strictly(house: House, host: str, status: int, code: str) -> None:
    async with dial(house.port) as wire:
        head = f"POST /mcp HTTP/1.1\r\nHost: {host}\r\n{bearer(house.key)}\r\nContent-Type: application/json\r\n"
        body = house.message("echo")
        await wire.send(f"{head}Content-Length: {len(body)}\r\n\r\n".encode("latin-1") + body)
        answer = await wire.answer()

    assert said(answer) == (status, code)


@pytest.mark.parametrize("host", [f"{TUNNEL}.{DOMAIN}", f"nobody.{DOMAIN}", "127.0.0.1"])
async def test_nobody_learns_which_names_there_are(house: House, host: str) -> None:
    assert (await ask(house, host, key="")).status == 401


@pytest.mark.parametrize("host", ["X-Forwarded-Host", "Forwarded"])
async def test_no_other_header_names_the_server(house: House, host: str) -> None:
    value = f"host={TUNNEL}.{DOMAIN}" if host == "Forwarded" else f"{TUNNEL}.{DOMAIN}"

    assert said(await ask(house, "127.0.0.1", f"{host}: {value}")) == (404, "not_found")


async def test_the_name_of_a_server_goes_before_the_place_of_its_url(house: House) -> None:
    agent = await make_agent(house, "two", {"server": "wiki"}, {"server": "stock", "name": "books"})
    key = await key_for(house, agent)
    found = [(await ask(house, f"{name}.{DOMAIN}", key=key)).status for name in ("wiki", "books", f"wiki.{TUNNEL}")]
    missing = [said(await ask(house, f"{name}.{DOMAIN}", key=key)) for name in ("stock", TUNNEL, f"books.{TUNNEL}")]

    # the connector of this house has one server without a name, which answers for every one
    assert found == [200] * 3
    assert missing == [(404, "server_not_found")] * 3


async def test_a_key_for_several_agents_that_have_the_server_has_to_say_which(house: House) -> None:
    second = await make_agent(house, "second", {})
    third = await make_agent(house, "third", {"name": "elsewhere"})
    both = await key_for(house, house.agent_id, second)
    one = await key_for(house, house.agent_id, third)

    assert said(await ask(house, f"{TUNNEL}.{DOMAIN}", key=both)) == (400, "agent_ambiguous")
    assert (await ask(house, f"{TUNNEL}.{DOMAIN}", key=one)).status == 200
    assert (await ask(house, f"elsewhere.{DOMAIN}", key=one)).status == 200
    assert said(await ask(house, f"{TUNNEL}.{DOMAIN}", key=house.admin)) == (400, "agent_ambiguous")
    assert (await ask(house, f"{TUNNEL}.{DOMAIN}", path=f"/mcp/{second}/{TUNNEL}", key=both)).status == 200


async def test_two_servers_at_one_place_are_told_apart_by_their_names(house: House) -> None:
    agent = await make_agent(house, "twice", {"name": "one"}, {"name": "two"})
    key = await key_for(house, agent)

    assert said(await ask(house, f"{TUNNEL}.{DOMAIN}", key=key)) == (400, "server_ambiguous")
    assert (await ask(house, f"one.{DOMAIN}", key=key)).status == 200


async def test_a_body_at_a_host_name_has_the_limits_of_the_mcp_door(house: House) -> None:
    lines = ["POST /mcp HTTP/1.1", f"Host: {TUNNEL}.{DOMAIN}", bearer(house.key), "Content-Length: 5000000", "", ""]
    async with dial(house.port) as wire:
        await wire.send("\r\n".join(lines).encode())
        assert said(await wire.answer()) == (413, "payload_too_large")


async def test_what_an_origin_may_is_decided_by_the_host_as_everywhere(house: House) -> None:
    host = f"{TUNNEL}.{DOMAIN}"

    assert (await ask(house, host, f"Origin: https://{host}")).status == 200
    assert said(await ask(house, host, "Origin: https://attacker.example")) == (403, "origin_not_allowed")
