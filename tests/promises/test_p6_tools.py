from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from speaker import Speaker, SpeakError

from arrowslit.demo import inventory_mcp
from tests.e2e import plain
from tests.e2e.door import VERSIONS, Door, door, events
from tests.e2e.stage import Stage, served
from tests.harness import Relay

pytestmark = pytest.mark.promise("P6")

ALLOWED = ["look", "change", "late"]
OTHER_SPELLINGS = [
    "HIDDEN", "Hidden", " hidden", "hidden ", "hidden\t", "hidden\n", "hidden\0", "\0hidden", "hid\u200bden",
    "hid\u00adden", "ｈｉｄｄｅｎ", "hıdden", "ʰidden", "hidden\ufeff", "\u202ehidden", "./hidden", "look/../hidden",
    "look,hidden", "look hidden", "look\nhidden", "hidden#", "hidden?", "hid%64en", "plain/hidden", "plain__hidden",
    "mcp__plain__hidden", "*", "", "?", "h*", "look*", "hidden" * 50,
]  # fmt: skip
"""What somebody, somewhere on the way, could take for the name of the tool `hidden`."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A server with the tools `look`, `change`, `hidden` and, later, `late`; what it heard, and how to reach it."""

    stage: Stage
    log: plain.Log
    grown: Path


@pytest.fixture(
    scope="module",
    params=[(kind, lacking) for kind in ("http", "stdio") for lacking in ("grant", "ceiling")],
    ids="-".join,
)
def place(relay: Relay, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Watched]:
    """A target of either kind, where `look` and `change` may be used: the agent was granted no other tool, or it was
    granted them all and the connector's ceiling lists these.
    """
    kind, lacking = request.param
    folder = tmp_path_factory.mktemp("p6")
    granted, options = ALLOWED[:2], []
    if lacking == "ceiling":
        granted = [
            *ALLOWED,
            "hidden",
            *(name for name in OTHER_SPELLINGS if re.fullmatch(r"[A-Za-z0-9_./-]{1,128}", name)),
        ]
        options = ["--allow", "look", "--allow", "change"]
    log, grown = plain.Log(folder / "log"), folder / "grown"
    with (
        plain.target(kind, log=log.path, grown=grown) as target,
        served(relay, target, granted, *options) as stage,
    ):
        yield Watched(stage, log, grown)


@pytest.fixture
def watched(place: Watched) -> Iterator[Watched]:
    """The same with an empty log, and before the server grew."""
    place.log.clear()
    yield place
    place.grown.unlink(missing_ok=True)


@pytest_asyncio.fixture(params=VERSIONS)
async def client(watched: Watched, request: pytest.FixtureRequest) -> AsyncIterator[Door]:
    """A client that may call, in each version of the protocol."""
    async with watched.stage.door(version=request.param) as client:
        if not client.is_modern:
            await client.initialize()
        yield client


async def names(client: Door) -> list[str]:
    """All tools that are listed, page by page."""
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        said = await client.ask("tools/list", cursor)
        assert b"hidden" not in said.body
        found += [tool["name"] for tool in said.result["tools"]]
        if "nextCursor" not in said.result:
            return found
        cursor = {"cursor": said.result["nextCursor"]}


async def test_a_tool_outside_is_on_no_page_of_the_list(client: Door) -> None:
    assert await names(client) == ["look", "change"]


async def test_a_tool_that_the_server_grows_later_stays_invisible(client: Door, watched: Watched) -> None:
    assert await names(client) == ["look", "change"]
    watched.grown.write_text("")

    assert await names(client) == ["look", "change"]
    said = await client.call("late")

    assert said.outcome == "denied"
    assert not watched.log.calls


async def test_a_tool_outside_is_not_called_by_any_spelling_of_its_name(client: Door, watched: Watched) -> None:
    for name in ["hidden", *OTHER_SPELLINGS]:
        message = client.request("tools/call", {"name": name, "arguments": {}})
        mirrors = {"mcp-method": "tools/call", "mcp-name": f"=?base64?{b64encode(name.encode()).decode()}?="}
        body = json.dumps(message).encode()
        said = await client.post(body, plainly(client) | (mirrors if client.is_modern else {}))
        assert (said.status, said.outcome) == (200, "denied"), name
    assert not watched.log.calls

    assert (await client.call("look", {"canary": "still here"})).content["canary"] == "still here"


HIDING_PARAMS = [
    rb'{"name":"\u0068idden"}',
    rb'{"name":"look","name":"hidden"}',
    rb'{"name":"hidden","name":"look"}',
    rb'{"name":"look","\u006eame":"hidden"}',
    rb'{"name":"look","Name":"hidden"}',
    rb'{"name":"look","NAME":"hidden"}',
    rb'{"name":"look","name\u0000":"hidden"}',
    rb'{"name":"look","name ":"hidden"}',
    rb'{"name":"look","na\u200bme":"hidden"}',
    '{"name":"look","ｎａｍｅ":"hidden"}'.encode(),
    b'{"name":"look","na\xffme":"hidden"}',
    rb'{"name":["hidden"]}',
    rb'{"name":{"name":"hidden"}}',
    rb'{"name":null,"tool":"hidden"}',
    rb'{"name":"hidden","arguments":null}',
    rb'{"name":"hidden","arguments":[]}',
    rb'{"name":"hidden","arguments":{"name":"look"}}',
    rb'{"arguments":{"name":"hidden"}}',
    rb'{"toolName":"hidden"}',
    rb'{}',
    rb'["hidden"]',
    rb'"hidden"',
]  # fmt: skip


async def test_a_tool_outside_is_not_called_by_any_shape_of_the_message(client: Door, watched: Watched) -> None:
    start = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":'
    hidden = b'{"name":"hidden","arguments":{}}'
    bodies = [start + params + b"}" for params in HIDING_PARAMS]
    bodies += [
        b"[" + start + hidden + b"}]",
        start + hidden + b',"params":{"name":"look"}}',
        start + b'{"name":"look"},"params":' + hidden + b"}",
        start + b'{"name":"look"},"Params":' + hidden + b"}",
        start.replace(b"tools/call", rb"tools\/call") + hidden + b"}",
        start.replace(b'"method"', b'"method":"tools/list","method"') + hidden + b"}",
        start.replace(b'"method"', b'"method":"tools/list","Method"') + hidden + b"}",
        start.replace(b'"id":1,', b"") + hidden + b"}",
        start.replace(b'"id":1', b'"id":null') + hidden + b"}",
        b"\xef\xbb\xbf" + start + hidden + b"}",
        (start + hidden + b"}").decode().encode("utf-16"),
        start + hidden + b"}" + start + hidden + b"}",
        b'{"jsonrpc":"2.0","method":"ping","id":1}\n' + start + hidden + b"}",
    ]
    methods = [
        b"tools/Call",
        b"TOOLS/CALL",
        b"tools/call ",
        rb"tools/call\u0000",
        b"tools//call",
        b"tools/call/",
        b"tools",
    ]
    methods += [
        b"tools/run",
        b"call",
        b"hidden",
        b"tasks/result",
        b"notifications/tools/call",
        b"notifications/cancelled",
    ]
    bodies += [start.replace(b"tools/call", method) + hidden + b"}" for method in methods]
    for body in bodies:
        said = await client.post(body, plainly(client))
        assert said.status in (200, 202, 400), (said, body)
        assert said.message is None or said.outcome in ("denied", "no call"), (said, body)
    assert not [each for each in watched.log.heard() if b"hidden" in each.body and b"server/discover" not in each.body]

    assert (await client.call("look")).outcome == "result"


async def test_headers_that_name_another_tool_than_the_body_change_nothing(client: Door, watched: Watched) -> None:
    for headers in [
        {"mcp-name": "hidden"},
        {"mcp-name": "=?base64?aGlkZGVu?="},
        {"mcp-method": "tools/list"},
        {"mcp-name": "hidden", "mcp-method": "tools/call"},
    ]:
        said = await client.call("look", headers=headers)
        assert (said.status, said.code) == (400, "header_mismatch"), headers
    hidden = await client.call("hidden", headers={"mcp-name": "look"})
    assert hidden.outcome in ("denied", "no call")

    assert not watched.log.calls


def plainly(client: Door) -> dict[str, str]:
    """The headers of a client that does not repeat in them what it asks for."""
    headers = client.headers(client.request("ping"))
    return {name: value for name, value in headers.items() if name not in ("mcp-method", "mcp-name")}


@pytest.mark.parametrize("options", [(), ("--allow", "look")], ids=["grant", "ceiling"])
async def test_a_list_that_a_server_replays_on_a_stream_is_cut_down_as_well(
    options: tuple[str, ...], relay: Relay
) -> None:
    granted = ["look", "hidden"] if options else ["look"]
    with plain.over_http() as url, served(relay, url, granted, *options) as stage:
        async with stage.door() as client:
            await client.initialize()
            await names_of(client)  # what is replayed is shown as far as it is pinned
            async with client.stream({"last-event-id": "r0"}) as response:
                replayed = await response.aread()

    assert b"hidden" not in replayed
    list_of_tools, changed = events(replayed)
    assert [tool["name"] for tool in list_of_tools["result"]["tools"]] == ["look"]
    assert changed["method"] == "notifications/tools/list_changed"


async def test_what_was_taken_from_an_agent_is_gone_from_lists_and_calls(relay: Relay, tmp_path: Path) -> None:
    log = plain.Log(tmp_path / "log")
    with served(relay, plain.over_stdio(log=log.path), ["look", "change"]) as stage:
        async with stage.door() as client:
            await client.initialize()
            assert await names_of(client) == ["look", "change"]
            relay.run("agent", "deny", stage.agent, stage.tunnel.name, "change").ok()

            assert await names_of(client) == ["look"]
            assert (await client.call("change")).code == "tool_not_allowed"
    assert not log.calls


async def names_of(client: Door) -> list[str]:
    first = await client.ask("tools/list")
    second = await client.ask("tools/list", {"cursor": first.result["nextCursor"]})
    return [tool["name"] for said in (first, second) for tool in said.result["tools"]]


# ---------------------------------------------------------------- the libraries that people use


async def test_every_client_library_sees_and_calls_what_was_granted_and_no_more(
    relay: Relay, stock_dsn: str, tmp_path: Path, mcp1: Speaker, mcp2: Speaker, fastmcp4: Speaker
) -> None:
    grown = tmp_path / "grown"
    env = {"INTERNAL_DB_DSN": stock_dsn, "INVENTORY_EXTRA_TOOLS": str(grown)}
    passed = [word for name in env for word in ("--pass-env", name)]
    with served(relay, f"stdio:{inventory_mcp.__file__}", ["check_stock"], *passed, env=env) as stage:
        modes = [(mcp1, "legacy"), (mcp2, "legacy"), (mcp2, "auto"), (fastmcp4, "legacy"), (fastmcp4, "auto")]
        clients = [(library, await library.open(stage.url, stage.headers(), mode)) for library, mode in modes]
        assert [opened.protocol for _, opened in clients] == [
            *["2025-11-25"] * 2,
            "2026-07-28",
            "2025-11-25",
            "2026-07-28",
        ]
        for library, opened in clients:
            assert [tool["name"] for tool in await library.tools(opened)] == ["check_stock"]
        grown.write_text("")  # and the server has one tool more

        for library, opened in clients:
            for tool in ["adjust_stock", "export_inventory"]:
                with pytest.raises(SpeakError) as refused:
                    await library.call(opened, tool, {"sku": "BOLT8", "delta": -1})
                assert (refused.value.code, refused.value.data["code"]) == (-32602, "tool_not_allowed")
            found = await library.call(opened, "check_stock", {"sku": "BOLT8"})
            assert found["structuredContent"]["quantity"] == 340
            assert [tool["name"] for tool in await library.tools(opened)] == ["check_stock"]
            await library.close(opened)


async def test_an_agent_that_does_not_exist_or_is_anothers_has_no_tools(relay: Relay, tmp_path: Path) -> None:
    log = plain.Log(tmp_path / "log")
    with served(relay, plain.over_stdio(log=log.path), ["look"]) as stage:
        other = relay.agent(f"{stage.tunnel.name}-other", stage.tunnel, ["look", "hidden"])
        bodies = []
        for agent in [other, f"{stage.tunnel.name}-other", "agent_00000000", "nobody"]:
            async with door(f"{relay.url}/mcp/{agent}/{stage.tunnel.name}", stage.keys["acme"]) as client:
                said = await client.call("hidden")
                assert (said.status, said.code) == (404, "agent_not_found")
                bodies.append(said.body)
    assert len(set(bodies)) == 1
    assert not log.calls
