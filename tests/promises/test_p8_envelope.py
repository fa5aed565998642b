from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from tests.e2e import plain
from tests.e2e.door import MODERN, VERSIONS, Door
from tests.e2e.stage import Stage, served
from tests.harness import Relay

pytestmark = pytest.mark.promise("P8")

ARGUMENTS = [
    b"{}",
    b"{ }",
    b'{ "sku" : "A1" ,\t"n": 1.0 }',
    b'{"big":12345678901234567890,"small":-9223372036854775808,"e":1E+5}',
    b'{"float":1.10,"minus":-0.0,"exp":1e-7,"long":0.1000000000000000055511151231257827}',
    rb'{"escapes":"\u00e9\/\n\ud83d\ude00\u0000"}',
    '{"plain":"é😀\u2028\u200b","ключ":"値"}'.encode(),
    b'{"z":1,"a":2,"Z":3,"":4}',
    b'{"nested":{"a":[1,[2,[3,{"b":[]}]]],"c":null,"d":true}}',
    b'{"tenant":"other","name":"hidden","_meta":{"dev.arrowslit/tenant":"other"},"jsonrpc":"1.0","method":"x"}',
    b'{"__proto__":{"a":1},"constructor":1}',
    b'{"text":"' + b"x" * 200_000 + b'"}',
]
"""Objects that a reader and a writer of JSON would give back in other bytes."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A tunnel to a server whose log shows what it saw."""

    stage: Stage
    log: plain.Log
    kind: str


@pytest.fixture(scope="module", params=["http", "stdio"])
def place(relay: Relay, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Watched]:
    log = plain.Log(tmp_path_factory.mktemp("p8") / "log")
    with plain.target(request.param, log=log.path) as target, served(relay, target, ["look"]) as stage:
        yield Watched(stage, log, request.param)


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


async def post(client: Door, params: bytes, *, before: bytes = b"", after: bytes = b"") -> None:
    """Call `look` with these bytes as params; `before` and `after` are further members of the envelope."""
    body = b'{ %b"id" : 1,"method":"tools\\/call" , "params": %b,"jsonrpc":"2.0"%b}' % (before, params, after)
    said = await client.post(body, client.headers(client.request("tools/call", {"name": "look"})))
    assert said.outcome == "result", said


def meta_of(client: Door) -> bytes:
    return json.dumps(client.request("tools/call").get("params", {}).get("_meta", {})).encode()


async def test_arguments_arrive_byte_for_byte(client: Door, watched: Watched) -> None:
    for arguments in ARGUMENTS:
        await post(client, b'{"name":"look","_meta":%b,"arguments": %b }' % (meta_of(client), arguments))

    for arguments, call in zip(ARGUMENTS, watched.log.calls, strict=True):
        assert b'"arguments":' + arguments in call.body


async def test_a_line_end_between_tokens_is_all_that_a_line_protocol_changes(client: Door, watched: Watched) -> None:
    arguments = b'{\r\n  "sku": "A1",\n  "text": "two\\nlines"\n}'
    await post(client, b'{"name":"look","arguments":%b,"_meta":%b}' % (arguments, meta_of(client)))

    (call,) = watched.log.calls
    expected = arguments if watched.kind == "http" else arguments.replace(b"\r", b" ").replace(b"\n", b" ")
    assert b'"arguments":' + expected in call.body


async def test_the_envelope_is_our_own(client: Door, watched: Watched) -> None:
    await post(client, b'{  "_meta":%b, "name" : "l\\u006fok" ,"arguments":{ "a":1}}' % meta_of(client))

    (call,) = watched.log.calls
    assert call.body.startswith(b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{') or watched.kind == "stdio"
    assert list(call.message) == ["jsonrpc", "id", "method", "params"]
    assert list(call.message["params"])[-1] == "_meta"
    assert b"tools\\/call" not in call.body
    assert b'"arguments":{ "a":1}' in call.body
    assert call.meta["dev.arrowslit/tenant"] == "acme"


async def test_what_is_not_of_the_envelope_is_refused_and_not_passed_on(client: Door, watched: Watched) -> None:
    message = client.request("tools/call", {"name": "look"})
    extras: list[dict[str, object]] = [
        {"extra": 1},
        {"Method": "tools/list"},
        {"params ": {}},
        {"result": {}},
        {"error": {}},
    ]
    for extra in extras:
        said = await client.post(json.dumps(message | extra).encode(), client.headers(message))
        assert (said.status, said.code) == (400, "unknown_member"), extra
    assert not watched.log.calls


REFUSED = [
    (b'{"a":1,"a":1}', "duplicate_key"),
    (rb'{"a":1,"\u0061":1}', "duplicate_key"),
    (b'{"a":{"b":[{"c":1,"c":2}]}}', "duplicate_key"),
    (b'{"a":123456789012345678901}', "number_out_of_range"),
    (b'{"a":1e999}', "number_out_of_range"),
    (b'{"a":NaN}', "number_out_of_range"),
    (b'{"a":"\xff"}', "encoding_invalid"),
    (rb'{"a":"\ud800"}', "encoding_invalid"),
    (b'{"a":"\0"}', "encoding_invalid"),
    (b'{"a":' + b"[" * 40 + b"]" * 40 + b"}", "depth_exceeded"),
    (b'{"a":01}', "parse_error"),
    (b'{"a":1,}', "parse_error"),
    (b"{'a':1}", "parse_error"),
    (b'{"a":1', "parse_error"),
    (b"[]", "arguments_invalid"),
    (b'"{}"', "arguments_invalid"),
    (b"null", "arguments_invalid"),
    (b'{"a":"' + b"x" * (1 << 20) + b'"}', "payload_too_large"),
]  # fmt: skip


@pytest.mark.parametrize("version", [VERSIONS[-2], MODERN])
async def test_arguments_are_read_as_strictly_as_the_rest(version: str, watched: Watched) -> None:
    async with watched.stage.door("acme", version) as client:
        if not client.is_modern:
            await client.initialize()
        for arguments, code in REFUSED:
            params = b'{"name":"look","_meta":%b,"arguments":%b}' % (meta_of(client), arguments)
            body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":%b}' % params
            said = await client.post(body, client.headers(client.request("tools/call", {"name": "look"})))
            assert (said.code, said.outcome) == (code, "no call"), arguments[:60]
        assert not watched.log.calls
        await post(client, b'{"name":"look","_meta":%b}' % meta_of(client))


async def test_only_the_headers_that_mcp_knows_arrive(relay: Relay, tmp_path: Path) -> None:
    others = {
        "cookie": "a=b", "x-api-key-hint": "1", "x-forwarded-for": "10.0.0.1", "forwarded": "for=10.0.0.1",
        "referer": "http://x/", "user-agent": "by hand", "x-anything": "y", "te": "trailers", "pragma": "no-cache",
        "arrowslit-deadline-ms": "9000", "proxy-authorization": "Basic eA==", "traceparent": "00-1-2-01",
    }  # fmt: skip
    log = plain.Log(tmp_path / "log")
    with plain.over_http(log=log.path) as url, served(relay, url, ["look"]) as stage:
        async with stage.door("acme", MODERN) as client:
            assert (await client.call("look", headers=others)).outcome == "result"

        (call,) = log.calls
        assert {name.lower() for name, _ in call.headers} == {
            "host", "connection", "accept-encoding", "accept", "content-type", "content-length", "traceparent",
            "mcp-protocol-version", "mcp-method", "mcp-name",
        }  # fmt: skip
        assert call.header("host") == [url.split("/")[2]]
        assert call.header("content-length") == [str(len(call.body))]
