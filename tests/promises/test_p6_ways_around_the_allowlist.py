"""The table of ways around an allowlist: by name, spelling, shape, header, method, task, retry, stream and place.

Each is tried in both eras, on a server over HTTP and on one over stdio, all of them in one shared world.

The server writes down all that reaches it. Nothing of this may.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio

from tests.e2e import plain
from tests.e2e.door import LEGACY, MODERN, Door, Said, events
from tests.e2e.stage import Stage, served
from tests.harness import PATIENCE, Relay

pytestmark = pytest.mark.promise("P6")

HARMLESS = {"initialize", "notifications/initialized", "server/discover", "tools/list"}
"""What may reach the server meanwhile: how clients begin, and lists."""

Fields = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Way:
    """One request. `body` is written as it stands; `headers` are added to those of a client, or take their place."""

    title: str
    body: bytes
    headers: Mapping[str, str | None] = field(default_factory=dict)
    more: tuple[tuple[str, str], ...] = ()  # further lines, also of names that are there
    method: str = "POST"
    path: Callable[[str], str] = str

    def __str__(self) -> str:
        return self.title


# ---------------------------------------------------------------- the table

HIDDEN = '{"name":"hidden","arguments":{}}'
LOOK = '{"name":"look","arguments":{}}'


def call(params: str = HIDDEN, *, method: str = '"tools/call"', ident: str = '"id":1,', more: str = "") -> bytes:
    return f'{{"jsonrpc":"2.0",{ident}"method":{method},"params":{params}{more}}}'.encode()


def named(name: str) -> bytes:
    return call(json.dumps({"name": name, "arguments": {}}))


def asking(method: str, **params: Any) -> bytes:
    return call(json.dumps(params), method=json.dumps(method))


NAMES = {
    "its name": "hidden",
    "upper case": "HIDDEN",
    "a capital": "Hidden",
    "a space after": "hidden ",
    "a space before": " hidden",
    "a line end": "hidden\n",
    "a NUL after": "hidden\0",
    "a NUL before the hidden part": "look\0hidden",
    "a zero width space": "hid\u200bden",
    "a byte order mark": "\ufeffhidden",
    "a soft hyphen": "hid\u00adden",
    "fullwidth letters": "ｈｉｄｄｅｎ",
    "a compatibility letter": "ʰidden",
    "a dotless i": "hıdden",
    "a combining accent": "hi\u0301dden",
    "tag characters": "look\U000e0068\U000e0069",
    "text turned around": "\u202enoddih",
    "percent encoding": "hid%64en",
    "HTML": "hid&#100;en",
    "a path": "./hidden",
    "a way back": "look/../hidden",
    "the server before it": "plain/hidden",
    "a client's prefix": "mcp__plain__hidden",
    "an allowed name before it": "lookhidden",
    "a name that begins with an allowed one": "look_everything",
    "two names": "look,hidden",
    "a star": "*",
    "a pattern": "h*",
    "no characters": "",
    "very many": "hidden" * 2000,
}

SHAPES = {
    "an escape": call(r'{"name":"\u0068idden","arguments":{}}'),
    "an escape in the key": call(r'{"n\u0061me":"hidden","arguments":{}}'),
    "the name twice, the allowed one last": call('{"name":"hidden","name":"look"}'),
    "the name twice, the allowed one first": call('{"name":"look","name":"hidden"}'),
    "the name twice, once escaped": call(r'{"name":"look","\u006eame":"hidden"}'),
    "a second name in capitals": call('{"name":"look","NAME":"hidden"}'),
    "a second name with a NUL": call(r'{"name":"look","name\u0000":"hidden"}'),
    "a second name in fullwidth": call('{"name":"look","ｎａｍｅ":"hidden"}'),
    "a list of names": call('{"name":["look","hidden"]}'),
    "an object as the name": call('{"name":{"name":"hidden"}}'),
    "no name but a tool": call('{"tool":"hidden","toolName":"hidden"}'),
    "arguments that are a call": call('{"arguments":{"name":"hidden"}}'),
    "arguments as a list": call('{"name":"hidden","arguments":["x"]}'),
    "params as a list": call('["hidden",{}]'),
    "params as text": call('"hidden"'),
    "params twice": call(LOOK, more=',"params":' + HIDDEN),
    "params twice, once in capitals": call(LOOK, more=',"Params":' + HIDDEN),
    "no params but members": call("{}", more=',"name":"hidden"'),
    "the method twice": call(more=',"method":"tools/list"'),
    "a list before the method": call(method='"tools/list","method":"tools/call"'),
    "the method in an object": call(method='{"method":"tools/call"}'),
    "a call inside of a list": call(json.dumps({"method": "tools/call", "params": {"name": "hidden"}})),
    "the method in capitals": call(method='"Tools/Call"'),
    "an escaped method": call(method=r'"tools\/cal\u006c"'),
    "a method with a long s": call(method='"toolſ/call"'),
    "a space after the method": call(method='"tools/call "'),
    "a NUL after the method": call(method=r'"tools/call\u0000"'),
    "two slashes": call(method='"tools//call"'),
    "the tool as the method": call(method='"hidden"'),
    "no id": call(ident=""),
    "null as the id": call(ident='"id":null,'),
    "an object as the id": call(ident='"id":{},'),
    "a float as the id": call(ident='"id":1.0,'),
    "two ids": call(ident='"id":1,"id":2,'),
    "a batch": b"[" + call() + b"]",
    "a batch behind an allowed call": b"[" + call(LOOK) + b"," + call() + b"]",
    "a batch in params": call("[" + HIDDEN + "]"),
    "two messages in a row": call(LOOK) + call(),
    "two lines": call(LOOK) + b"\n" + call(),
    "a byte order mark before it": b"\xef\xbb\xbf" + call(),
    "UTF-16": call().decode().encode("utf-16"),
    "bytes that are no UTF-8": call().replace(b"hidden", b"hidden\xff"),
    "a comment": call().replace(b"{", b"/*look*/{", 1),
    "deep nesting": call('{"name":"hidden","arguments":' + '{"a":' * 60 + "1" + "}" * 60 + "}"),
    "a notification of that name": call(method='"notifications/tools/call"', ident=""),
    "a result beside the method": call(more=',"result":{}'),
}

METHODS = {
    "a task that runs it": call('{"name":"hidden","arguments":{},"task":{"ttl":60000}}'),
    "the result of a task": asking("tasks/result", taskId="hidden"),
    "a task": asking("tasks/get", taskId="hidden"),
    "an update of a task": asking("tasks/update", taskId="hidden", name="hidden"),
    "the end of a task": asking("tasks/cancel", taskId="hidden"),
    "all tasks": asking("tasks/list"),
    "a retry with answers": call(
        '{"name":"hidden","arguments":{},"inputResponses":{"a":{"action":"accept"}},"requestState":"s"}'
    ),
    "a retry under another name": call('{"name":"look","requestState":"s","Name":"hidden"}'),
    "completion for a tool": asking("completion/complete", ref={"type": "ref/tool", "name": "hidden"}, argument={}),
    "completion for a prompt": asking("completion/complete", ref={"type": "ref/prompt", "name": "hidden"}),
    "completion for a resource": asking("completion/complete", ref={"type": "ref/resource", "uri": "tool://hidden"}),
    "a resource": asking("resources/read", uri="tool://hidden"),
    "a subscription to a resource": asking("resources/subscribe", uri="tool://hidden"),
    "resources": asking("resources/list"),
    "templates of resources": asking("resources/templates/list"),
    "a prompt": asking("prompts/get", name="hidden"),
    "prompts": asking("prompts/list"),
    "a stream of a resource": asking(
        "subscriptions/listen", notifications={"resourceSubscriptions": ["tool://hidden"]}
    ),
    "a stream of a task": asking("subscriptions/listen", notifications={"taskIds": ["hidden"]}),
    "a stream of what nobody knows": asking("subscriptions/listen", notifications={"toolsListChanged": True}, ids=[1]),
    "sampling with tools": asking("sampling/createMessage", messages=[], tools=[{"name": "hidden"}]),
    "elicitation": asking("elicitation/create", message="hidden"),
    "roots": asking("roots/list"),
    "a method of a vendor": asking("vendor/tools/call", name="hidden"),
    "another verb": asking("tools/invoke", name="hidden"),
    "a name in _meta": call('{"_meta":{"dev.arrowslit/tool":"look"},"name":"hidden"}'),
    "a grant in _meta": call('{"_meta":{"dev.arrowslit/tools":["hidden"]},"name":"hidden"}'),
    "_meta twice": call('{"_meta":{},"name":"hidden","_meta":{}}'),
    "_meta as a list": call('{"_meta":["hidden"],"name":"hidden"}'),
}


def wrapped(text: str) -> str:
    return f"=?base64?{b64encode(text.encode()).decode()}?="


HEADERS = [
    Way("a header that names an allowed tool", call(), {"mcp-name": "look", "mcp-method": "tools/call"}),
    Way("a wrapped header that names an allowed tool", call(), {"mcp-name": wrapped("look")}),
    Way("a header that names it, and a body that does not", call(LOOK), {"mcp-name": "hidden"}),
    Way("a wrapped header that names it", call(LOOK), {"mcp-name": wrapped("hidden")}),
    Way("a header that names a list", call(), {"mcp-method": "tools/list"}),
    Way("a list whose header names a call", asking("tools/list", name="hidden"), {"mcp-method": "tools/call"}),
    Way("two headers", call(), {"mcp-name": None}, (("mcp-name", "look"), ("mcp-name", "hidden"))),
    Way("a header with another method", call(), {"x-http-method-override": "GET", "x-original-url": "/healthz"}),
    Way("a session of nobody", call(), {"mcp-session-id": "hidden"}),
    Way("events as the body", b"data: " + call() + b"\n\n", {"content-type": "text/event-stream"}),
    Way("a form as the body", b"method=tools/call&name=hidden", {"content-type": "application/x-www-form-urlencoded"}),
    Way("another character set", call(), {"content-type": "application/json; charset=utf-16"}),
    Way("no type", call(), {"content-type": None}),
    Way("a compressed body", gzip.compress(call()), {"content-encoding": "gzip"}),
    Way("an answer nobody asked for", b'{"jsonrpc":"2.0","id":1,"result":{"name":"hidden"}}', {"mcp-session-id": None}),
    Way("a PUT", call(), method="PUT"),
    Way("a path with the tool", call(LOOK), path=lambda url: f"{url}/tools/hidden"),
    Way("a query with the tool", call(), path=lambda url: f"{url}?tool=look"),
    Way("the agent that may, with a key that may not", call(), path=lambda url: url.replace("/mcp/", "/mcp/generous-")),
    Way("a way back in the path", call(), path=lambda url: f"{url}/..%2f{url.rpartition('/')[2]}"),
]

WAYS = [
    *(Way(f"the name as {title}", named(name)) for title, name in NAMES.items()),
    *(Way(title, body) for title, body in (*SHAPES.items(), *METHODS.items())),
    *HEADERS,
]


# ---------------------------------------------------------------- the world


@dataclass(frozen=True, slots=True)
class World:
    """A server of one kind, where an agent may use `look` and, of the same server, another agent may use `hidden`."""

    stage: Stage
    log: plain.Log
    generous: str  # a key of the agent that may
    sessions: list[str | None] = field(default_factory=list)  # one for all: a server has so many processes

    @property
    def url(self) -> str:
        return f"{self.stage.relay.url}/mcp/{self.stage.tunnel.name}/{self.stage.tunnel.name}"

    def reached(self) -> list[bytes]:
        """What the server heard that it should not have."""
        return [
            each.body
            for each in self.log.heard()
            if each.body and (each.message.get("method") not in HARMLESS or b"hidden" in each.body)
        ]


@pytest.fixture(scope="module", params=["http", "stdio"])
def world(relay: Relay, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[World]:
    log = plain.Log(tmp_path_factory.mktemp("ways") / "log")
    with plain.target(request.param, log=log.path) as target, served(relay, target, ["look"]) as stage:
        generous = relay.agent(f"generous-{stage.tunnel.name}", stage.tunnel, ["look", "hidden"])
        yield World(stage, log, relay.key(generous, "acme"))


@pytest_asyncio.fixture(params=[LEGACY[-1], MODERN])
async def door(world: World, request: pytest.FixtureRequest) -> AsyncIterator[Door]:
    """A client of either era; what it heard before does not count."""
    async with world.stage.door(version=request.param) as door:
        if not door.is_modern:
            if not world.sessions:
                await door.initialize()
                world.sessions.append(door.session)
            door.session = world.sessions[0]
        world.log.clear()
        yield door


async def go(world: World, door: Door, way: Way) -> Said:
    headers: dict[str, str | None] = {**door.headers(), "content-type": "application/json", **way.headers}
    fields = [(name, value) for name, value in headers.items() if value is not None]
    url = way.path(world.url)
    response = await door.http.request(way.method, url, content=way.body, headers=[*fields, *way.more])
    is_json = response.headers.get("content-type", "").startswith("application/json")
    return Said(response.status_code, response.headers, response.content, response.json() if is_json else None)


# ---------------------------------------------------------------- what is tried


@pytest.mark.parametrize("way", WAYS, ids=str)
async def test_no_way_leads_around_the_allowlist(world: World, door: Door, way: Way) -> None:
    said = await go(world, door, way)

    assert (said.status == 200 and said.outcome == "denied") or 400 <= said.status < 500, said
    assert b'"result"' not in said.body
    assert world.reached() == []


def test_the_table_is_as_long_as_it_was_promised() -> None:
    assert len(WAYS) == len({way.title for way in WAYS})
    assert len(WAYS) >= 40


async def test_a_refused_tool_looks_like_one_that_does_not_exist(world: World, door: Door) -> None:
    hidden, absent = [await go(world, door, Way("", named(name))) for name in ("hidden", "absent")]

    def told(said: Said) -> Any:
        data = {name: value for name, value in said.error["data"].items() if name != "call_id"}
        return said.status, said.error["code"], said.error["message"].replace("absent", "hidden"), data

    if not door.is_modern:
        assert told(hidden) == told(absent)
        assert hidden.error["message"] == "Unknown tool: hidden"


async def test_the_session_of_an_agent_that_may_is_no_use_to_one_that_may_not(world: World) -> None:
    url = world.url.replace("/mcp/", "/mcp/generous-")
    async with world.stage.door() as door:
        theirs = Door(door.http, url, world.generous, LEGACY[-1])
        await theirs.initialize()
        said = await theirs.call("hidden")
        assert b'"structuredContent"' in said.body, said
        world.log.clear()
        if theirs.session is None:
            return  # the server keeps none

        door.session = theirs.session
        said = await door.call("hidden")

        assert said.status == 404
        assert world.reached() == []


async def test_it_is_on_no_page_of_any_list(world: World, door: Door) -> None:
    for params in ({}, {"cursor": "2"}, {"cursor": ""}, {"includeHidden": True}, {"_meta": {"tools": ["hidden"]}}):
        said = await door.ask("tools/list", params)
        assert b"hidden" not in said.body, params


async def test_it_is_in_no_list_that_is_replayed(world: World) -> None:
    async with world.stage.door() as door:
        await door.initialize()
        said = await door.ask("tools/list", headers={"accept": "text/event-stream, application/json"})
        lines = said.body.decode().splitlines()
        begun = next((line.removeprefix("id:").strip() for line in lines if line.startswith("id:")), "r0")

        heard = b""
        async with asyncio.timeout(PATIENCE), door.stream({"last-event-id": begun}) as answer:
            async for piece in answer.aiter_bytes():
                heard += piece
                if b'"result"' in heard and heard.endswith(b"\n\n"):
                    break

        (replayed,) = [event["result"] for event in events(heard) if "result" in event]
        assert [tool["name"] for tool in replayed["tools"]] == ["look"]
        assert b"hidden" not in heard


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_body_that_should_not_be_there_reaches_nobody(world: World, method: str) -> None:
    async with world.stage.door() as door:
        await door.initialize()
        world.log.clear()
        headers = {**door.headers(), "content-type": "application/json"}
        async with door.http.stream(method, world.url, headers=headers, content=call()) as answer:
            assert answer.status_code in (200, 202, 204, 405)
        assert world.reached() == []
