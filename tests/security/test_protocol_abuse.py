"""Protocol abuse, where it takes more than one message: whatever order or noise, each call ends in one clear way."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import pytest
import pytest_asyncio
from anthropic._streaming import SSEDecoder
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from arrowslit.agents.servers.servers import Servers
from arrowslit.clock import SystemClock
from arrowslit.connector.targets.facade import Facade
from arrowslit.connector.targets.http import HttpTarget
from arrowslit.connector.targets.stdio import Stdio, read_command
from arrowslit.connector.targets.target import Target
from arrowslit.connector.targets.upstream.address import read_endpoint
from arrowslit.errors import CODES
from arrowslit.ids import new_id
from arrowslit.outcome import Outcome
from arrowslit.principal import Principal, Scope, Tenant
from arrowslit.protocol import sse
from tests.connector.targets.scripted import Line, answer, serving
from tests.e2e import plain
from tests.fuzz.seeds import SEEDS
from tests.fuzz.targets import TARGETS
from tests.harness import PATIENCE
from tests.security.cases import case
from tests.support.inprocess import ENDPOINT, JSON, TUNNEL, House, bearer, connector, in_process, kept
from tests.support.wire import Answer, dial, request, until

in_module = pytest.mark.asyncio(loop_scope="module")
KEY = Ed25519PrivateKey.generate()
_idents = count(1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with in_process(tmp_path_factory.mktemp("protocol")) as house:
        yield house


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lonely(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """A house without a connector: each test brings its own."""
    async with in_process(tmp_path_factory.mktemp("targets"), connected=False) as house:
        yield house


@asynccontextmanager
async def serves(house: House, target: Target) -> AsyncIterator[None]:
    async with target:
        async with kept(connector(f"ws://127.0.0.1:{house.port}/connect", house.token, target, key=KEY)):
            await until(lambda: house.connected)
            yield
        await until(lambda: not house.connected)


def program(command: Sequence[str], folder: Path) -> Target:
    """A program behind the façade."""
    read = read_command(shlex.join(command), python="", environment=os.environ, pass_env=())
    return Facade(Stdio(read), clock=SystemClock(), random=os.urandom, state=folder)


def message(method: str, params: object = None, *, ident: object = ...) -> bytes:
    said: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
    if not method.startswith("notifications/"):
        said["id"] = next(_idents) if ident is ... else ident
    return json.dumps(said if params is None else {**said, "params": params}).encode()


async def post(house: House, body: bytes, *headers: str, key: str | None = None) -> Answer:
    async with dial(house.port) as wire:
        await wire.send(request("POST", ENDPOINT, body, headers=(*JSON, bearer(key or house.key), *headers)))
        return await wire.answer()


# ---------------------------------------------------------------- the order of messages

HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}


@in_module
@case("PROTO-13", "seed", {f"in the order of {seed}": seed for seed in range(6)})
async def test_messages_in_any_order_are_answered_or_refused(lonely: House, seed: int, tmp_path: Path) -> None:
    """Twice initialised, called before, ended and called again, with a session of nobody: never an error of ours."""
    chance, sessions = Random(seed), ["", "nobody.0123456789ab.AAAAAAAAAAAAAAAAAAAAAAAA"]
    async with serves(lonely, program(plain.command("stdio"), tmp_path)):
        for _ in range(40):
            session = chance.choice(sessions)
            lines = (f"Mcp-Session-Id: {session}",) if session else ()
            match chance.randrange(7):
                case 0 | 1:
                    said = await post(lonely, message("initialize", HELLO), *lines)
                case 2:
                    said = await post(lonely, message("notifications/initialized"), *lines)
                case 3:
                    said = await post(lonely, message("tools/list"), *lines)
                case 4 | 5:
                    said = await post(lonely, message("tools/call", {"name": "echo", "arguments": {}}), *lines)
                case _:
                    async with dial(lonely.port) as wire:
                        await wire.send(request("DELETE", ENDPOINT, headers=(bearer(lonely.key), *lines)))
                        said = await wire.answer()
            assert said.status in (200, 202, 204, 400, 404, 405), said
            if said.status == 200 and said.body.startswith(b"{"):
                known(said)
            sessions += [said.headers["mcp-session-id"]] if "mcp-session-id" in said.headers else []
        assert len(sessions) > 2


def known(said: Answer) -> None:
    """A result, or an error of the server's own or of our registry."""
    error = said.json.get("error")
    data = error.get("data") if isinstance(error, dict) else None
    assert "result" in said.json or error["code"] < -32000 or (isinstance(data, dict) and data["code"] in CODES), said


# ---------------------------------------------------------------- what is somebody else's

CANCELS: dict[str, Callable[[object], dict[str, object]]] = {
    "by its id": lambda ident: {"requestId": ident, "reason": "mine"},
    "by its id as text": lambda ident: {"requestId": str(ident)},
    "by a task": lambda ident: {"requestId": ident, "taskId": ident},
}


@pytest.mark.promise("P5")
@in_module
@case("PROTO-14", "params", CANCELS)
async def test_nobody_cancels_the_call_of_another(house: House, params: Callable[[object], dict[str, object]]) -> None:
    """Not with the same id, of another tenant or of the same, with the session of the other or with one's own."""
    theirs = await house.make_key("globex")
    session, own = await house.session(), await house.session(key=theirs)
    house.target.go.clear()
    ident = next(_idents)
    before = len(house.target.requests)
    async with dial(house.port) as wire:
        called = message("tools/call", {"name": "wait", "arguments": {}}, ident=ident)
        lines = (*JSON, bearer(house.key), f"Mcp-Session-Id: {session}")
        await wire.send(request("POST", ENDPOINT, called, headers=lines))
        await until(lambda: len(house.target.requests) > before)
        cancel = message("notifications/cancelled", params(ident))
        for shown, status in ((f"Mcp-Session-Id: {session}", 404), (f"Mcp-Session-Id: {own}", 202), (None, 202)):
            said = await post(house, cancel, *([shown] if shown else []), key=theirs)
            assert said.status == status
        assert house.target.cancelled == []
        assert await wire.is_open()
        forwarded = [dict(each.headers).get("mcp-session-id") for each in house.target.requests[before + 1 :]]
        assert session.split(".")[0] not in forwarded, "the target hears it of the canceller's session alone"
        house.target.go.set()
        assert "result" in (await wire.answer()).json
    assert house.outcomes()[-1:] == ["result"]


@pytest.mark.promise("P2")
@in_module
@case(
    "PROTO-15", "token", {"of another call": "theirs", "of nobody": 404, "of another type": "1", "an object": {"x": 1}}
)
async def test_progress_with_a_token_of_another_renews_no_deadline(lonely: House, token: object) -> None:
    async def script(line: Line) -> None:
        await line.request()
        await line.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        while True:
            told = {
                "jsonrpc": "2.0",
                "method": "notifications/progress",
                "params": {"progressToken": token, "progress": 1},
            }
            await line.send(sse.encode(json.dumps(told).encode()))
            await asyncio.sleep(0.02)

    async with serving(script) as server, serves(lonely, HttpTarget(read_endpoint(server.url), SystemClock())):
        meta = {"progressToken": 1, "dev.arrowslit/deadline-ms": 300}
        said = await post(lonely, message("tools/call", {"name": "echo", "arguments": {}, "_meta": meta}))
        last = list(sse.Events().feed(said.body))[-1]
        assert json.loads(last.data)["error"]["data"]["code"] == "outcome_unknown"
    assert lonely.outcomes()[-1:] == ["outcome_unknown"]


@in_module
@case("PROTO-15", "token", {"of another call, sent by a client": "theirs"})
async def test_progress_that_a_client_makes_up_changes_nothing(house: House, token: object) -> None:
    house.target.go.clear()
    async with dial(house.port) as wire:
        meta = {"progressToken": token, "dev.arrowslit/deadline-ms": 400}
        called = message("tools/call", {"name": "wait", "arguments": {}, "_meta": meta})
        await wire.send(request("POST", ENDPOINT, called, headers=(*JSON, bearer(house.key))))
        spoof = message("notifications/progress", {"progressToken": token, "progress": 1})
        for _ in range(3):
            assert (await post(house, spoof, key=await house.make_key("globex"))).status == 202
        assert (await wire.answer()).code == "outcome_unknown", "its deadline stayed where it was"


# ---------------------------------------------------------------- events

INJECTED = {
    "an event": 'x\n\ndata: {"jsonrpc":"2.0","id":1,"result":"fake"}\n\n',
    "with CR": "x\r\rdata: fake\r\r",
    "with CRLF": "x\r\n\r\nevent: evil\r\ndata: fake\r\n\r\n",
    "U+2028": "x\u2028\u2028data: fake\u2028\u2028",
    "U+0085": "x\x85\x85data: fake\x85\x85",
    "a NUL": "x\0\n\ndata: fake\n\n",
    "form feed and vertical tab": "x\x0b\x0cdata: fake\x0c\x0b",
    "an id and a retry": "x\n\nid: 7\nretry: 1\ndata: fake\n\n",
    "a byte order mark": "\ufeffdata: fake\n\n",
}


@pytest.mark.promise("P5")
@in_module
@case("PROTO-16", "text", INJECTED)
async def test_a_result_in_an_event_is_one_event_for_every_reader(lonely: House, text: str) -> None:
    async def script(line: Line) -> None:
        while True:
            ident = json.loads((await line.request()).body)["id"]
            body = json.dumps({"jsonrpc": "2.0", "id": ident, "result": {"text": text}}, ensure_ascii=False).encode()
            event = b"id: 1_a\nevent: message\ndata: " + body + b"\n\n"
            await line.send(answer(event, "200 OK", "content-type: text/event-stream"))

    async with serving(script) as server, serves(lonely, HttpTarget(read_endpoint(server.url), SystemClock())):
        said = await post(lonely, message("tools/call", {"name": "echo", "arguments": {}}))
    readers = [
        [each.data.decode() for each in sse.Events().feed(said.body)],
        [each.data for each in SSEDecoder().iter_bytes(iter([said.body]))],
        strictly(said.body.decode()),
    ]
    for data in readers:
        assert [json.loads(each)["result"] for each in data] == [{"text": text}]


def strictly(text: str) -> list[str]:
    """The data of each event, as WHATWG HTML, 9.2.6 says."""
    found, data = [], list[str]()
    for line in re.split(r"\r\n|\n|\r", text.removeprefix("\ufeff")):
        if not line and data:
            found.append("\n".join(data))
            data = []
        elif line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
    return found


# ---------------------------------------------------------------- servers that misbehave

QUESTIONS = ("sampling/createMessage", "elicitation/create", "roots/list", "unknown/x")


@in_module
@case("PROTO-19", "asked", {method: method for method in QUESTIONS})
async def test_a_server_that_asks_an_agent_is_told_that_nobody_answers(lonely: House, asked: str) -> None:
    """And the agent gets its answer, in which nothing of the question is."""
    heard: list[Any] = []

    async def script(line: Line) -> None:
        while True:
            seen = await line.request()
            said = json.loads(seen.body) if seen.body else {}
            if said.get("method") == "initialize":
                result: dict[str, Any] = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}}
                result["serverInfo"] = {"name": "x", "version": "1"}
                body = json.dumps({"jsonrpc": "2.0", "id": said["id"], "result": result}).encode()
                await line.send(answer(body, "200 OK", "content-type: application/json", "mcp-session-id: s1"))
            elif said.get("method") == "tools/call":
                question = {"jsonrpc": "2.0", "id": "q1", "method": asked, "params": {"secret": "of the question"}}
                await line.send(
                    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n",
                    sse.encode(json.dumps(question).encode()),
                )
                await until(lambda: heard)
                done = {"jsonrpc": "2.0", "id": said["id"], "result": {"content": [{"type": "text", "text": "done"}]}}
                await line.send(sse.encode(json.dumps(done).encode()))
                return
            else:
                if "error" in said or "result" in said:
                    heard.append(said)
                status = "400 Bad Request" if said.get("method", "").startswith("server/") else "202 Accepted"
                await line.send(answer(b"", status))

    who = Principal("key_inside", Tenant("acme"), frozenset({Scope.INVOKE}), frozenset({lonely.agent_id}))
    async with serving(script) as server, serves(lonely, HttpTarget(read_endpoint(server.url), SystemClock())):
        session = await Servers(lonely.relay.calls, SystemClock()).open(who, lonely.agent_id, TUNNEL)
        called = await session.call("echo", {}, call_id=new_id("call", os.urandom))
        await session.close()
    assert [each["error"]["code"] for each in heard] == [-32601]
    assert called.outcome is Outcome.RESULT
    assert "secret" not in repr(called)


NOISY = """
import json, sys, os, time
def say(text): sys.stdout.write(text); sys.stdout.flush()
for line in sys.stdin:
    said = json.loads(line)
    if "id" not in said: continue
    about = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "n", "version": "1"}}
    done = json.dumps({"jsonrpc": "2.0", "id": said["id"], "result": {**about, "content": []}}) + "\\n"
    if said["method"] == "server/discover":
        say(json.dumps({"jsonrpc": "2.0", "id": said["id"], "error": {"code": -32601, "message": "no"}}) + "\\n")
        continue
    if said["method"] != "tools/call" or os.path.exists(sys.argv[2]):
        say(done)
        continue
    open(sys.argv[2], "w").close()
    match sys.argv[1]:
        case "log": say("INFO starting up\\n\\n{not json}\\n" + done)
        case "parts": [(say(part), time.sleep(0.01)) for part in (done[:5], done[5:20], done[20:])]
        case "long": say("x" * (17 << 20) + "\\n" + done)
        case "binary": sys.stdout.buffer.write(bytes(range(256)) + b"\\n" + done.encode()); sys.stdout.flush()
        case "others": say(json.dumps({"jsonrpc": "2.0", "id": 4711, "result": {}}) + "\\n" + done)
        case "exits": sys.exit(0)
        case "dies": os.kill(os.getpid(), 9)
        case "closes": os.close(1); time.sleep(60)
        case "half": say(done[:20]); sys.exit(0)
        case "batch": say("[" + done.strip() + "]\\n" + done)
"""
NOISE = {
    "log lines": ("log", "result"),
    "partial lines": ("parts", "result"),
    "binary": ("binary", "result"),
    "an answer to nobody": ("others", "result"),
    "a batch": ("batch", "result"),
    "a line without an end": ("long", "outcome_unknown"),
    "exits in the middle": ("exits", "outcome_unknown"),
    "is killed": ("dies", "outcome_unknown"),
    "closes its output": ("closes", "outcome_unknown"),
    "half an answer": ("half", "outcome_unknown"),
}


@pytest.mark.promise("P3")
@in_module
@case("PROTO-20", "does,outcome", NOISE)
async def test_noise_of_a_program_ends_its_call_in_one_clear_way(
    lonely: House, tmp_path: Path, does: str, outcome: str
) -> None:
    target = program([sys.executable, "-I", "-c", NOISY, does, str(tmp_path / "done")], tmp_path)
    async with serves(lonely, target):
        hello = await post(lonely, message("initialize", HELLO))
        session = f"Mcp-Session-Id: {hello.headers['mcp-session-id']}"
        assert (await post(lonely, message("notifications/initialized"), session)).status == 202
        call = message("tools/call", {"name": "echo", "arguments": {}, "_meta": {"dev.arrowslit/deadline-ms": 4000}})
        said = answered(await post(lonely, call, session))
        assert ("result" if "result" in said else said["error"]["data"]["code"]) == outcome
        async with asyncio.timeout(PATIENCE):
            while "result" not in answered(await post(lonely, message("tools/call", {"name": "echo"}), session)):  # noqa: ASYNC110
                await asyncio.sleep(0.1)  # it is started again with a growing pause
    assert outcome in lonely.outcomes()[-40:]


def answered(said: Answer) -> Any:
    """The JSON-RPC answer, from a body or from events."""
    assert said.status == 200, said
    if said.headers["content-type"].startswith("text/event-stream"):
        return json.loads(list(sse.Events().feed(said.body))[-1].data)
    return said.json


# ---------------------------------------------------------------- at random


@case("PROTO-25", "name", {name: name for name in TARGETS})
def test_bent_input_breaks_no_reader(name: str) -> None:
    """`make fuzz` looks for longer, guided by what is reached."""
    chance = Random(name)
    for _ in range(2000):
        data = bytearray(chance.choice(SEEDS[name]))
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(data) + 1)
            data[at : at + chance.randint(0, 3)] = chance.randbytes(chance.randint(0, 3))
        TARGETS[name](bytes(data))
