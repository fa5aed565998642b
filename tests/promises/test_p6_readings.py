"""The table of answers that a client reads in another way than whoever judges them: none shows what was not granted.

An HTTP client unpacks, decodes and cuts a body by what its head says, and some cut lines at more places than others.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from typing import Any

import httpx2
import pytest

from tests.connector.targets.scripted import Line, serving
from tests.e2e.door import Door
from tests.e2e.stage import served
from tests.harness import PATIENCE, Relay

pytestmark = pytest.mark.promise("P6")

TOOLS: list[dict[str, Any]] = [{"name": name, "description": "d", "inputSchema": {}} for name in ("look", "SECRET")]


def stored(data: bytes) -> bytes:
    """Deflate without compression: what is inside stands there to be read."""
    packer = zlib.compressobj(0)
    return packer.compress(data) + packer.flush()


def event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"


def hidden_in_lines(end: str) -> Any:
    return lambda data: f": x{end}data: ".encode() + data + f"{end}{end}\n\n".encode()


EVENTS, JSON = "content-type: text/event-stream", "content-type: application/json"

WAYS: dict[str, tuple[list[str], Any]] = {
    "deflated events": ([EVENTS, "content-encoding: deflate"], lambda data: stored(event(data))),
    "deflated JSON": ([JSON, "content-encoding: deflate"], stored),
    "zipped JSON": ([JSON, "Content-Encoding: GZIP"], gzip.compress),
    "zipped events": ([EVENTS, "content-encoding: gzip"], lambda data: gzip.compress(event(data))),
    "a list of codings": ([EVENTS, "content-encoding: identity, deflate"], lambda data: stored(event(data))),
    "two headers": (
        [EVENTS, "content-encoding: identity", "content-encoding: deflate"],
        lambda data: stored(event(data)),
    ),
    "a nameless body": (["content-encoding: deflate"], stored),
    "UTF-16 events": (
        ["content-type: text/event-stream; charset=utf-16"],
        lambda data: event(data).decode().encode("utf-16"),
    ),
    "UTF-7 events": (
        ["content-type: text/event-stream; charset=utf-7"],
        lambda data: b"data: " + data.decode().replace('"', "+ACI-").encode() + b"\n\n",
    ),
    "UTF-16 JSON": ([JSON], lambda data: data.decode().encode("utf-16")),
    "JSON that may be events": (["content-type: application/json; x=text/event-stream"], event),
    "events that may be JSON": (["content-type: text/event-stream; x=application/json"], lambda data: data),
    "two types": ([JSON, EVENTS], event),
    "a part": ([EVENTS, "content-range: bytes 0-1/2"], event),
    **{
        f"lines that end with U+{ord(end):04X}": ([EVENTS], hidden_in_lines(end))
        for end in "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
    },
}


UNASKED: dict[str, tuple[list[str], Any]] = {
    "unasked JSON": ([JSON], lambda data: data),
    "unasked events": ([EVENTS], event),
}


def padded(data: bytes) -> bytes:
    """More than is held before it is passed on."""
    return b" " * 1_100_000 + data


STRANGERS: dict[str, tuple[str, list[str], Any]] = {
    **{
        f"status {code}": (f"{code} So", [JSON], lambda data: data) for code in (200, 201, 202, 203, 299, 400, 404, 500)
    },
    "a batch that failed": ("500 So", [JSON], lambda data: b"[" + data + b"]"),
    "a failure without a type": ("500 So", [], lambda data: data),
    "a long one": ("200 OK", [JSON], padded),
    "a long failure": ("400 So", [JSON], padded),
    "a long one of a second id": ("200 OK", [JSON], lambda data: padded(b'{"id":2,' + data[1:])),
    "a long one of a second spelling": ("200 OK", [JSON], lambda data: padded(b'{"ID":2,' + data[1:])),
    "a long batch": ("200 OK", [JSON], lambda data: padded(b"[" + data + b"]")),
}


class Server:
    """Answers lists and streams in the `way` that a test has chosen."""

    def __init__(self) -> None:
        self.way = ""
        self.replays = 0

    async def __call__(self, line: Line) -> None:
        while True:
            seen = await line.request()
            asked = json.loads(seen.body) if seen.body else {"method": "GET", "id": 1}
            if "id" not in asked and self.way in UNASKED:
                fields, pack = UNASKED[self.way]
                await line.send(written("200 OK", fields, pack(answer(1, {"tools": TOOLS}))))
            elif "id" not in asked:
                await line.send(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")
            elif asked["method"] == "ping" and self.way in STRANGERS:
                status, fields, pack = STRANGERS[self.way]
                await line.send(written(status, fields, pack(answer(1, {"tools": TOOLS}))))
            elif asked["method"] in ("tools/list", "GET") and self.way in WAYS:
                fields, pack = WAYS[self.way]
                status = "206 Partial Content" if self.way == "a part" else "200 OK"
                self.replays += asked["method"] == "GET"
                await line.send(written(status, fields, pack(answer(asked["id"], {"tools": TOOLS}))))
            else:
                agreed = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {}, "tools": TOOLS[:1]}
                await line.send(written("200 OK", [JSON, "mcp-session-id: s1"], answer(asked["id"], agreed)))


def answer(ident: object, result: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": ident, "result": result}).encode()


def written(status: str, fields: list[str], body: bytes) -> bytes:
    return "\r\n".join((f"HTTP/1.1 {status}", *fields, f"content-length: {len(body)}", "", "")).encode() + body


def readings(body: bytes) -> list[bytes]:
    """What clients may make of a body."""
    found = [body]
    for options in (zlib.MAX_WBITS, zlib.MAX_WBITS | 16, -zlib.MAX_WBITS):
        try:
            found.append(zlib.decompressobj(options).decompress(body))
        except zlib.error:
            continue
    return found + [each.replace(b"\0", b"") for each in found]


async def heard(door: Door, method: str) -> tuple[bytes, bytes]:
    """The head and every byte of a list, or of a replayed stream, with nothing unpacked."""
    ask = door.request("tools/list")
    content = json.dumps(ask).encode() if method == "POST" else None
    headers = door.headers(ask) if method == "POST" else {**door.headers(), "last-event-id": "x"}
    async with (
        asyncio.timeout(PATIENCE),
        door.http.stream(method, door.url, headers=headers, content=content) as response,
    ):
        body = b"".join([piece async for piece in response.aiter_raw()])
    return "\n".join(f"{name}: {value}" for name, value in response.headers.items()).encode(), body


@pytest.mark.parametrize("options", [(), ("--allow", "look")], ids=["grant", "ceiling"])
async def test_no_answer_shows_more_to_its_reader_than_to_its_judge(options: tuple[str, ...], relay: Relay) -> None:
    server = Server()
    async with serving(server) as target:
        granted = ["look", "SECRET"] if options else ["look"]
        with served(relay, target.url, granted, *options) as stage:
            async with stage.door() as door:
                await door.initialize()
                for server.way in WAYS:
                    for method in ("POST", "GET"):
                        head, body = await heard(door, method)
                        assert not any(b"SECRET" in each for each in readings(body)), (server.way, method, body)
                        assert b"content-encoding" not in head

                assert server.replays == len(WAYS)
                server.way = "zipped JSON"
                said = await door.ask("tools/list")
                assert said.code == "answer_unreadable"
                assert "compression" in said.error["data"]["hint"]
                server.way = ""
                assert [tool["name"] for tool in (await door.ask("tools/list")).result["tools"]] == ["look"]


@pytest.mark.parametrize("options", [(), ("--allow", "look")], ids=["grant", "ceiling"])
async def test_what_answers_a_notification_shows_no_more(options: tuple[str, ...], relay: Relay) -> None:
    server = Server()
    async with serving(server) as target:
        granted = ["look", "SECRET"] if options else ["look"]
        with served(relay, target.url, granted, *options) as stage:
            async with stage.door() as door:
                await door.initialize()
                for server.way in UNASKED:
                    said = {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}
                    response = await door.http.post(door.url, headers=door.headers(said), json=said)
                    assert response.status_code in (200, 202)
                    assert b"SECRET" not in response.content, server.way


async def test_no_answer_to_another_request_comes_in_the_place_of_ones_own(relay: Relay) -> None:
    """A client that still waits for a list, the request 1, would take it for that."""
    server = Server()
    async with serving(server) as target:
        with served(relay, target.url, ["look"]) as stage:
            async with stage.door() as door:
                await door.initialize()
                for server.way in STRANGERS:
                    said = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
                    content = json.dumps(said).encode()
                    headers = {**door.headers(said), "content-type": "application/json"}
                    body = b""
                    try:
                        async with door.http.stream("POST", door.url, headers=headers, content=content) as response:
                            async for piece in response.aiter_raw():
                                body += piece
                    except httpx2.RemoteProtocolError:
                        assert "long" in server.way, "what has begun is broken off"
                        assert b"}]}}" not in body, server.way
                    else:
                        assert b"SECRET" not in body, server.way
                        assert json.loads(body)["error"]["data"]["code"] == "outcome_unknown", server.way
