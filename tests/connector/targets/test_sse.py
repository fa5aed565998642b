"""Servers of the transport of 2024-11-05: a stream to listen to, an address to post to."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from arrowslit.clock import SystemClock
from arrowslit.connector.targets.eventsource import stream as module
from arrowslit.connector.targets.facade import Facade
from arrowslit.connector.targets.sse import EventSource, SseEndpoint, read_url
from arrowslit.connector.targets.target import Lost, NotStarted
from arrowslit.connector.targets.upstream.address import read_endpoint
from arrowslit.errors import Error
from arrowslit.protocol import sse
from tests.connector.targets.facade_kit import INITIALIZE, Answer, call, open_session, request, send, until
from tests.connector.targets.scripted import Line, Seen, answer, serving

STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"


@dataclass
class OldServer:
    """Each GET is a session. Its tools: `echo`, `ask` (the client, before it answers), `never`, `end` (the stream)."""

    endpoint: str = "/messages?session="
    status: str = "202 Accepted"
    open: list[Line] = field(default_factory=list)
    posted: list[Seen] = field(default_factory=list)
    asked: dict[str, Any] = field(default_factory=dict)
    listening: bytes = STREAM
    left: int = 0

    async def __call__(self, line: Line) -> None:
        while True:
            seen = await line.request()
            if seen.line.startswith("GET"):
                await self.listen(line)
                return
            self.posted.append(seen)
            await line.send(answer(b"", self.status))
            session = int(seen.line.split("session=")[1].split()[0])
            await self.hear(self.open[session], json.loads(seen.body))

    async def listen(self, line: Line) -> None:
        self.open.append(line)
        ping = b": ping\r\n\r\n"
        told = f"event: endpoint\r\ndata: {self.endpoint}{len(self.open) - 1}\r\n\r\n".encode()
        await line.send(self.listening, ping, told if self.endpoint else b"")
        await line.closed_by_client()
        self.left += 1

    async def hear(self, line: Line, message: dict[str, Any]) -> None:
        ident, method = message.get("id"), message.get("method")
        if method is None:
            await self.say(line, id=self.asked.pop("id"), result={"heard": message["result"]})
        elif method == "initialize":
            about = {"protocolVersion": "2024-11-05", "capabilities": {}, "serverInfo": {"name": "old"}}
            await self.say(line, id=ident, result=about)
        elif method == "tools/call":
            await self.call(line, ident, message["params"]["name"], message["params"].get("arguments"))
        elif ident is not None:
            await self.say(line, id=ident, error={"code": -32601, "message": "no"})

    async def call(self, line: Line, ident: object, tool: str, arguments: object) -> None:
        if tool == "echo":
            await self.say(line, id=ident, result={"arguments": arguments})
        elif tool == "ask":
            self.asked["id"] = ident
            await self.say(line, id="q", method="sampling/createMessage", params={})
        elif tool == "end":
            line.writer.close()
        elif tool == "garbage":
            await line.send(b"event: message\ndata: not json\n\ndata: {}\n\nevent: other\ndata: {}\n\n")
            await self.say(line, id=ident, result={})

    async def say(self, line: Line, **message: object) -> None:
        data = json.dumps({"jsonrpc": "2.0", **message}, indent=1).encode()
        await line.send(sse.encode(data, event="message"))


@asynccontextmanager
async def offered(folder: Path, server: OldServer, **options: Any) -> AsyncIterator[Facade]:
    """A façade over the old server."""
    async with serving(server) as served:
        url = f"http://127.0.0.1:{served.port}/sse"
        async with facade(folder, url, **options) as target:
            yield target


def facade(folder: Path, url: str, **options: Any) -> Facade:
    program = EventSource(read_endpoint(url), SystemClock(), **options)
    chance = random.Random(7).randbytes
    return Facade(program, clock=SystemClock(), random=chance, state=folder / "sessions", legacy=True)


async def test_a_server_of_2024_becomes_an_endpoint_of_today(tmp_path: Path) -> None:
    server = OldServer()
    async with offered(tmp_path, server, authorization="Bearer theirs") as target:
        assert (target.state()["era"], target.state()["ready"]) == ("legacy", True)
        session = await open_session(target)
        answered = await send(target, call("echo", n=1), session=session)
        other = await open_session(target)

        assert answered.json["result"] == {"arguments": {"n": 1}}
        assert session != other
        await until(lambda: target.state()["processes"] == 2)
        await send(target, method="DELETE", session=other)
        await until(lambda: target.state()["processes"] == 1)
    assert {seen.headers["authorization"] for seen in server.posted} == {"Bearer theirs"}
    assert all("mcp-session-id" not in seen.headers for seen in server.posted)


async def test_a_question_in_the_middle_of_a_call_is_answered(tmp_path: Path) -> None:
    async with offered(tmp_path, OldServer()) as target:
        session, reply = await open_session(target), Answer()
        asking = asyncio.create_task(send(target, call("ask"), session=session, reply=reply))
        await reply.until(lambda answer: b"sampling" in answer.body)
        await send(target, {"jsonrpc": "2.0", "id": "q", "result": {"a": 1}}, session=session)
        assert (await asking).result == {"heard": {"a": 1}}


async def test_a_call_is_lost_with_its_stream_and_the_next_opens_another(tmp_path: Path) -> None:
    server = OldServer()
    async with offered(tmp_path, server) as target:
        session = await open_session(target)
        with pytest.raises(Lost, match="ended its event stream"):
            await send(target, call("end"), session=session)
        assert (await send(target, call("echo"), session=session)).status == 200
    handshakes = [json.loads(seen.body)["method"] for seen in server.posted if b"initialize" in seen.body]
    assert handshakes[-2:] == ["initialize", "notifications/initialized"]


async def test_a_server_that_takes_no_message_has_lost_its_session(tmp_path: Path) -> None:
    server = OldServer()
    async with offered(tmp_path, server) as target:
        session = await open_session(target)
        server.status = "404 Not Found"
        with pytest.raises(Lost, match="refused a message with status 404"):
            await send(target, call("never"), session=session)
        server.status = "202 Accepted"
        assert (await send(target, call("echo"), session=session)).status == 200


async def test_what_is_no_message_is_ignored(tmp_path: Path) -> None:
    async with offered(tmp_path, OldServer()) as target:
        assert (await send(target, call("garbage"), session=await open_session(target))).status == 200


@pytest.mark.parametrize(
    ("server", "why"),
    [
        (OldServer(endpoint="https://elsewhere.example/messages?session="), "elsewhere"),
        (OldServer(endpoint="//127.0.0.1:1/messages?session="), "elsewhere"),
        (OldServer(endpoint="http://user@127.0.0.1/?session="), "names an address for messages that is none"),
        (OldServer(listening=answer(b"", "404 Not Found")), "status 404"),
        (OldServer(listening=answer(b"{}", "200 OK", "content-type: application/json")), "application/json"),
        (OldServer(listening=STREAM.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n")), "compressed"),
        (OldServer(listening=STREAM.replace(b"200 OK", b"206 Partial Content")), "a part of a body"),
        (OldServer(endpoint=""), "said nothing"),
    ],
)
async def test_a_server_that_is_no_such_server_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: OldServer, why: str
) -> None:
    monkeypatch.setattr(module, "OPEN_LIMIT", 0.2)
    async with offered(tmp_path, server) as target:
        with pytest.raises(NotStarted, match=why):
            await send(target, INITIALIZE, reply=(reply := Answer()))
        assert not reply.was_dispatched
        assert why in str(target.state()["last_error"])
    assert server.posted == []


async def test_a_server_that_is_not_there_yet_may_come_later(tmp_path: Path) -> None:
    async with serving(OldServer()) as served:
        port = served.port
    async with facade(tmp_path, f"http://127.0.0.1:{port}/sse") as target:
        with pytest.raises(NotStarted):
            await send(target, INITIALIZE)
        async with serving(OldServer(), port=port):
            assert (await send(target, INITIALIZE)).status == 200


async def test_there_is_a_limit_to_streams(tmp_path: Path) -> None:
    async with offered(tmp_path, OldServer(), most=1) as target:
        await until(lambda: target.state()["processes"] == 0)
        await open_session(target)
        with pytest.raises(NotStarted, match="1 streams"):
            await send(target, INITIALIZE)


async def test_leaving_hangs_up(tmp_path: Path) -> None:
    server = OldServer()
    async with offered(tmp_path, server) as target:
        session = await open_session(target)
        hanging = asyncio.create_task(send(target, call("never"), session=session))
        await until(lambda: any(b"never" in seen.body for seen in server.posted))
    with pytest.raises(Lost):
        await hanging
    await until(lambda: server.left == len(server.open))


async def test_no_caller_learns_where_the_server_is(tmp_path: Path) -> None:
    async with serving(OldServer()) as served:
        port = served.port
    async with facade(tmp_path, f"http://127.0.0.1:{port}/sse") as target:
        for _ in range(3):
            with pytest.raises(NotStarted) as ended:
                await send(target, INITIALIZE)
            assert "127.0.0.1" not in str(ended.value)


def test_a_url_names_the_transport_before_it_names_the_place() -> None:
    endpoint = read_endpoint("http://127.0.0.1:8000/sse")
    assert (read_url("sse+http://127.0.0.1:8000/sse"), read_url("http://127.0.0.1:8000/sse")) == (
        SseEndpoint(endpoint),
        endpoint,
    )
    assert str(SseEndpoint(endpoint)) == "sse+http://127.0.0.1:8000/sse"
    for wrong in ("sse+", "sse:http://a/", "sse+stdio:x", "sse+sse+http://a/", "sse+ftp://a/"):
        with pytest.raises(Error, match="address of a target"):
            read_url(wrong)


def test_a_credential_that_would_be_two_lines_is_refused() -> None:
    with pytest.raises(Error) as refused:
        EventSource(read_endpoint("http://127.0.0.1/sse"), SystemClock(), authorization="a\r\nb: c")
    assert refused.value.code == "target_invalid"


SDK_SERVER = """
import asyncio, sys
from mcp.server.mcpserver import MCPServer
import uvicorn
mcp = MCPServer("old")
@mcp.tool()
def greet(name: str) -> str:
    return "hello " + name
class Said(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        print(self.servers[0].sockets[0].getsockname()[1], flush=True)
Said(uvicorn.Config(mcp.sse_app(), port=0, log_level="error")).run()
"""


async def test_a_server_of_the_sdk_that_listens_with_sse_is_called(tmp_path: Path) -> None:
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SDK_SERVER, stdout=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL
    )
    try:
        assert server.stdout is not None
        port = int(await server.stdout.readline())
        async with facade(tmp_path, f"http://127.0.0.1:{port}/sse") as target:
            session = await open_session(target)
            tools = await send(target, request("tools/list"), session=session)
            greeted = await send(target, call("greet", ident=2, name="you"), session=session)
    finally:
        server.terminate()
        await server.wait()
    assert [tool["name"] for tool in tools.result["tools"]] == ["greet"]
    assert greeted.result["content"][0]["text"] == "hello you"
