"""A relay in the wrong hands: it may speak the protocol well or badly, and changes nothing on the private side."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from arrowslit.protocol import hello
from arrowslit.protocol.events import StreamEnded
from arrowslit.protocol.frames import Flag, Kind, encode
from arrowslit.protocol.state import Ending
from tests.e2e import plain
from tests.e2e.door import until
from tests.e2e.hand import Hand, TakenOver, taken_over
from tests.harness import PATIENCE, Program
from tests.support.processes import below, of_each

pytestmark = pytest.mark.promise("P10")

CEILING = 'tools = ["look"]\ntenants = ["acme"]\n'
ACME: dict[str, object] = {"dev.arrowslit/tenant": "acme"}


@dataclass(slots=True)
class Scene:
    """A connector whose relay was taken over. `link` is its link of the moment."""

    relay: TakenOver
    connector: Program
    log: plain.Log
    target: str
    ceiling: Path
    link: Hand
    pid: int
    commands: list[list[str]]

    async def good_call(self, canary: str = "good") -> None:
        """The connector is healthy, and does what it did before."""
        said = await self.link.exchange(head(), call("look", canary=canary))
        assert said.ending == "complete", said
        assert canary.encode() in said.body
        self.check()

    def check(self) -> None:
        """Nothing has changed: the same process runs the same commands, and its ceiling stands."""
        assert self.connector.running
        assert self.connector.pid == self.pid
        assert commands(self.pid) == self.commands
        assert self.ceiling.read_text() == CEILING
        for heard in self.log.heard():
            if heard.line:
                assert heard.line in ("POST /mcp HTTP/1.1", "GET /mcp HTTP/1.1", "DELETE /mcp HTTP/1.1")
                assert heard.header("host") == [self.target.split("/")[2]]
                assert heard.line.startswith("POST") or not heard.body
        for heard in self.log.calls:
            assert heard.message["params"]["name"] == "look"
            assert {heard.meta.get("dev.arrowslit/tenant"), heard.meta.get("tenant")} <= {"acme", None}


def commands(pid: int) -> list[list[str]]:
    """What a connector runs."""
    return of_each(below(pid), psutil.Process.cmdline)


@pytest.fixture(params=["http", "stdio"])
async def scene(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Scene]:
    async with opened(request.param, tmp_path) as scene:
        yield scene


@asynccontextmanager
async def opened(kind: str, folder: Path) -> AsyncIterator[Scene]:
    log, ceiling = plain.Log(folder / "log"), folder / "ceiling.toml"
    ceiling.write_text(CEILING)
    async with AsyncExitStack() as stack:
        target = stack.enter_context(plain.target(kind, log=log.path))
        relay = await stack.enter_async_context(taken_over())
        words = ["connect", "--name", "private", "--target", target, "--ceiling", str(ceiling)]
        words += ["--state", str(folder / "state")]
        env = {"ARROWSLIT_RELAY": relay.address, "ARROWSLIT_TUNNEL_TOKEN": "asl_tun_any"}
        connector = Program(folder / "said", words, env)
        stack.callback(connector.kill)
        connector.spawn()
        async with asyncio.timeout(PATIENCE):
            hand = await relay.dialled.get()
        await relay.greet(hand)
        await hand.round_trip()
        scene = Scene(relay, connector, log, target, ceiling, hand, connector.pid, commands(connector.pid))
        await scene.good_call()
        yield scene
        await hand.socket.close()


def head(method: str = "POST", headers: list[Any] | None = None, more: dict[str, object] | None = None) -> bytes:
    """A request head as a relay writes it, with `headers` after those of a call, and with `more` members."""
    usual = [["content-type", "application/json"], ["accept", "application/json, text/event-stream"], *MODERN]
    return json.dumps({"method": method, "headers": usual + (headers or []), "call": "call_1", **(more or {})}).encode()


MODERN = [["mcp-protocol-version", "2026-07-28"], ["mcp-method", "tools/call"], ["mcp-name", "look"]]
VERSION = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "evil", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


def call(tool: str, meta: dict[str, object] | None = None, **arguments: object) -> bytes:
    """A call of a tool."""
    params = {"name": tool, "arguments": arguments, "_meta": VERSION | (ACME if meta is None else meta)}
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()


# ---------------------------------------------------------------- heads

ELSEWHERE: list[dict[str, object]] = [
    {"path": "/admin"},
    {"url": "http://127.0.0.1:1/admin"},
    {"Target": "stdio:/bin/sh -c id", "targets": ["stdio:/bin/sh -c id"], "target": None},
    {"argv": ["/bin/sh", "-c", "id"], "command": "id", "python": "/bin/sh"},
    {"host": "127.0.0.1:1", "port": 1, "scheme": "https"},
    {"env": {"PATH": "/tmp"}, "pass_env": ["ARROWSLIT_TUNNEL_TOKEN"]},
    {"ceiling": None, "tools": ["*"], "tenants": ["*"], "allow": ["hidden"]},
    {"query": "?admin=1", "fragment": "#x"},
]
"""Members of a head that mean nothing: it goes where it always goes."""


async def test_no_member_of_a_head_leads_elsewhere(scene: Scene) -> None:
    for more in ELSEWHERE:
        said = await scene.link.exchange(head(more=more), call("look", canary="x"))
        assert said.ending == "complete", more
        scene.check()
        assert (await scene.link.exchange(head(more=more), call("hidden"))).ending == "denied", more
    assert len(scene.log.calls) == len(ELSEWHERE) + 1


NOT_OFFERED: list[object] = ["stdio:/bin/sh -c id", "http://127.0.0.1:1/admin", "other", "../look", "", 7, ["look"], {}]
"""Words for `target`, the one member that says which server is meant: of those that the connector's owner named."""


async def test_a_head_for_a_server_that_is_not_offered_starts_nothing(scene: Scene) -> None:
    for target in NOT_OFFERED:
        for tool in ("look", "hidden"):
            said = await scene.link.exchange(head(more={"target": target}), call(tool))
            assert said.ending == "not_started", (target, said)
    await scene.good_call()
    assert len(scene.log.calls) == 2


BAD_HEADS = [
    *(head(method) for method in ["", "PUT", "CONNECT", "OPTIONS", "HEAD", "get", "POST /admin HTTP/1.1\r\nx:"]),
    head("GET http://127.0.0.1:1/"),
    *(
        head(headers=[[name, value]])
        for name, value in [
            ("mcp-x", "a\r\nhost: evil"),
            ("mcp-x", "a\nb"),
            ("mcp-x", "a\0b"),
            ("mcp-x\r\nhost", "evil"),
            ("mcp-x: y\r\nhost", "evil"),
            ("mcp x", "a"),
            (":path", "/admin"),
            ("Host", "evil"),
            ("", "a"),
            ("mcp-x", "x" * 9_000),
        ]
    ),
    b"",
    b"{}",
    b"null",
    b"[]",
    b"\xff",
    b"[" * 30_000,
    b'{"method":1,"headers":[],"call":"call_1"}',
    b'{"method":"POST","headers":{"a":"b"},"call":"call_1"}',
    b'{"method":"POST","headers":[["a"]],"call":"call_1"}',
    b'{"method":"POST","headers":[["a","b","c"]],"call":"call_1"}',
    b'{"method":"POST","headers":[],"call":7}',
    b'{"method":"POST","headers":[]}',
    b"POST /mcp HTTP/1.1\r\nHost: evil\r\n\r\n",
]


async def test_a_head_that_is_none_starts_nothing(scene: Scene) -> None:
    for bad in BAD_HEADS:
        said = await scene.link.exchange(bad, call("look"))
        assert said.ending in ("not_started", "denied"), (bad[:200], said)
        await scene.good_call()
    assert len(scene.log.calls) == len(BAD_HEADS) + 1


async def test_headers_of_the_connection_and_credentials_do_not_pass(scene: Scene) -> None:
    sent = {
        "host": "evil", "authorization": "Bearer evil", "proxy-authorization": "Basic evil", "cookie": "evil=1",
        "connection": "upgrade", "upgrade": "evil", "transfer-encoding": "chunked", "content-length": "0", "te": "evil",
        "expect": "100-continue", "x-forwarded-host": "evil", "forwarded": "host=evil", "origin": "http://evil",
        "x-http-method-override": "DELETE", "x-original-url": "/evil", "range": "bytes=0-1", "trailer": "evil",
    }  # fmt: skip
    for name, value in sent.items():
        said = await scene.link.exchange(head(headers=[[name, value]]), call("look"))
        assert said.ending == "complete", (name, said)
    await scene.link.exchange(head(headers=[[name, value] for name, value in sent.items()]), call("look"))

    for heard in scene.log.heard():
        assert not [field for field in heard.headers if "evil" in field[1] or field[0].lower() in ("cookie", "expect")]
        assert len(heard.header("host")) == len(heard.header("content-length")) == bool(heard.line)
        assert not heard.header("transfer-encoding")
    await scene.good_call()


# ---------------------------------------------------------------- bodies

START = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":'
NAMED = b'"_meta":{"dev.arrowslit/tenant":"acme"}'
BAD_BODIES = [
    call("hidden"),
    call("LOOK"),
    call("look\0"),
    call("*"),
    call("look", meta={}),
    call("look", meta={"dev.arrowslit/tenant": "globex"}),
    call("look", meta={"tenant": "globex"}),
    call("look", meta=ACME | {"tenant": "globex"}),
    call("look", meta=ACME | {"Tenant": "globex"}),
    call("look", meta=ACME | {"te\u200bnant": "globex"}),
    call("look", meta=ACME | {"dev.arrowslit/Tenant": "globex"}),
    call("look", meta={"dev.arrowslit/tenant": ["acme"]}),
    call("look", meta={"dev.arrowslit/tenant": None}),
    call("look", meta={"dev.arrowslit/tenant": "*"}),
    START + b'{"name":"look","name":"hidden",' + NAMED + b"}}",
    START + b'{"name":"look","Name":"hidden",' + NAMED + b"}}",
    START + b'{"name":["hidden"],' + NAMED + b"}}",
    START + b'{"name":"look","_meta":{"dev.arrowslit/tenant":"globex"},' + NAMED + b"}}",
    b"[" + START + b'{"name":"look",' + NAMED + b"}}]",
    START + b'{"name":"look",' + NAMED + b"}}\n" + START + b'{"name":"hidden",' + NAMED + b"}}",
    START.replace(b"tools/call", b"resources/read") + b'{"uri":"file:///etc/passwd",' + NAMED + b"}}",
    START.replace(b"tools/call", b"arrowslit/ceiling") + b'{"tools":["*"],' + NAMED + b"}}",
    START.replace(b"tools/call", b"tools/Call") + b'{"name":"look",' + NAMED + b"}}",
    b"",
    b"\0" * 100,
    b"id; reboot",
    b"GET /admin HTTP/1.1\r\n\r\n",
]


async def test_no_body_reaches_past_the_ceiling(scene: Scene) -> None:
    headers = [field for field in MODERN if field[0] == "mcp-protocol-version"]
    plainly = json.dumps({"method": "POST", "headers": [["content-type", "application/json"], *headers], "call": "c"})
    for body in BAD_BODIES:
        said = await scene.link.exchange(plainly.encode(), body)
        assert said.ending == "denied", (body, said)
    assert len(scene.log.calls) == 1
    await scene.good_call()


async def test_a_stream_or_a_goodbye_carries_no_call(scene: Scene) -> None:
    for method in ["GET", "DELETE"]:
        for body in [call("look"), call("hidden"), b"x" * 100]:
            said = await scene.link.exchange(head(method), body)
            assert said.ending == "not_started", (method, body, said)
    assert len(scene.log.calls) == 1
    await scene.good_call()


async def test_a_list_shows_no_more_than_the_ceiling_lets_through(scene: Scene) -> None:
    params = {"_meta": VERSION | ACME}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": params}).encode()
    listing = head().replace(b'["mcp-method", "tools/call"], ["mcp-name", "look"]', b'["mcp-method", "tools/list"]')
    said = await scene.link.exchange(listing, body)

    assert said.ending == "complete"
    assert [tool["name"] for tool in json.loads(said.body)["result"]["tools"]] == ["look"]


async def test_a_body_without_measure_starts_nothing(scene: Scene) -> None:
    said = await scene.link.exchange(head(), call("look") + b" " * (6 << 20))

    assert said.ending == "not_started"
    await scene.good_call()


# ---------------------------------------------------------------- frames

BAD_FRAMES = {
    "an unknown kind": encode(99, 0, b"run=/bin/sh"),
    "an unknown kind on a stream": encode(77, 1 << 40, b"x"),
    "a second hello": encode(Kind.HELLO, 0, b"{}"),
    "a second welcome": encode(Kind.WELCOME, 0, b'{"tunnel":"tnl_x","features":[],"key":"","proof":""}'),
    "a late refusal": encode(Kind.REFUSE, 0, b'{"code":"usage","message":"x"}'),
    "a stream that was used": encode(Kind.OPEN, 1, head(), Flag.END),
    "data for no stream": encode(Kind.DATA, 1 << 50, b"x"),
    "a connector's frame": encode(Kind.HEAD, 1, b"{}"),
    "a frame that is too long": struct.pack(">BBHQ", Kind.OPEN, 0, 0xFFFF, 1 << 20) + b"x" * 0xFFFF,
    "credit without measure": encode(Kind.CREDIT, 0, b"\xff\xff\xff\xff"),
    "a pong of the wrong length": encode(Kind.PONG, 0, b"x"),
    "a message that is too long": encode(Kind.PING, 0, b"12345678") * 60_000,
}  # fmt: skip


async def test_a_frame_against_the_protocol_costs_the_link_and_nothing_else(tmp_path: Path) -> None:
    async with opened("stdio", tmp_path) as scene:
        for what, frame in BAD_FRAMES.items():
            await scene.link.say(frame)
            await scene.link.hung_up()
            scene.link = await scene.relay.link()
            await scene.good_call(what)
    assert "Traceback" not in scene.connector.log


async def test_a_kind_that_may_be_skipped_is_skipped(scene: Scene) -> None:
    await scene.link.say(encode(99, 0, b"run=/bin/sh", Flag.IGNORABLE) + encode(99, 7, b"x", Flag.IGNORABLE))
    await scene.good_call("on the same link")


async def test_text_is_no_message(tmp_path: Path) -> None:
    async with opened("stdio", tmp_path) as scene:
        await scene.link.socket.send("run /bin/sh")
        await scene.link.hung_up()
        scene.link = await scene.relay.link()
        await scene.good_call()


# ---------------------------------------------------------------- greetings


async def test_whatever_it_says_at_the_door_is_not_believed_and_the_connector_comes_back(tmp_path: Path) -> None:
    good = hello.Offer(versions=[1], features=["http-exchange"], required=["http-exchange"], nonce=bytes(32))
    offers = [
        b"{}",
        b"[" * 8_000,
        hello.encode(good).replace(b"[1]", b"[99]"),
        hello.encode(good).replace(b'"features":["http-exchange"]', b'"features":[]'),
        hello.encode(good).replace(b'"required":["http-exchange"]', b'"required":["run-commands"]'),
    ]
    refusal = b'{"code":"run","message":"\\u001b[2Jgo\\r\\nto","hint":"\\u0007"}'
    async with opened("stdio", tmp_path) as scene:
        for said in [*(encode(Kind.HELLO, 0, offer) for offer in offers), encode(Kind.REFUSE, 0, refusal)]:
            scene.link = await again(scene)
            await scene.link.say(said)
            await scene.link.hung_up()
            scene.link = await scene.relay.link()
            await scene.good_call()
    assert "\x1b" not in scene.connector.log
    assert "\x07" not in scene.connector.log
    assert "Traceback" not in scene.connector.log


async def again(scene: Scene) -> Hand:
    """Let the link go; the next connection that the connector dials."""
    await scene.link.socket.close()
    return await scene.relay.next()


async def test_another_key_than_the_one_that_was_named_is_not_the_relay(tmp_path: Path) -> None:
    async with opened("stdio", tmp_path) as scene:
        scene.link = await again(scene)
        await scene.relay.greet(scene.link, key=Ed25519PrivateKey.generate())
        await scene.link.hung_up()
        scene.connector.wait_for("this is not the relay that ARROWSLIT_RELAY names")
        scene.link = await scene.relay.link()
        await scene.good_call()


@pytest.mark.parametrize("tunnel", ["tnl_other", "\x1b]0;owned\x07", "tnl_private\nrun this", ""])
async def test_it_cannot_say_that_another_tunnel_was_opened(tunnel: str, tmp_path: Path) -> None:
    async with taken_over() as relay:
        words = ["connect", "--name", "private", "--target", plain.over_stdio(), "--state", str(tmp_path / "state")]
        env = {"ARROWSLIT_RELAY": relay.address, "ARROWSLIT_TUNNEL_TOKEN": "asl_tun_any"}
        connector = Program(tmp_path / "said", words, env)
        connector.spawn()
        try:
            async with asyncio.timeout(PATIENCE):
                hand = await relay.dialled.get()
            await relay.greet(hand, tunnel=tunnel)
            await hand.hung_up()
            connector.wait_for("protocol_error: the relay opened another tunnel")
        finally:
            connector.kill()

    assert connector.out == ""
    assert not set("\x1b\x07") & set(connector.err)


async def test_it_cannot_give_another_token_to_a_connector_that_has_one(tmp_path: Path) -> None:
    async with opened("stdio", tmp_path) as scene:
        scene.link = await again(scene)
        await scene.relay.greet(scene.link, token="asl_tun_evil")
        await scene.good_call()
        scene.link = await again(scene)

        request = scene.link.socket.request
        assert request is not None
        assert request.headers["authorization"] == "Bearer asl_tun_any"
    assert not [path for path in (tmp_path / "state").rglob("*") if path.is_file() and b"evil" in path.read_bytes()]


async def test_many_streams_at_once_are_answered_or_refused(tmp_path: Path) -> None:
    async with opened("stdio", tmp_path) as scene:
        for _ in range(1_100):
            scene.link.peer.open(head(), call("look", delay_ms=60_000))
        await scene.link.flush()
        ended = await until(scene.link.event, "one is refused")
        assert isinstance(ended, StreamEnded)
        assert ended.ending is Ending.NOT_STARTED
        await scene.link.socket.close()
        scene.link = await scene.relay.link()
        await scene.good_call()
