"""Resource exhaustion: who takes much gets a clear end, others are served, and afterwards all is given back."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import json
import os
import resource
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

import psutil
import pytest
import pytest_asyncio
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame, Opcode

from arrowslit.agent import TurnLimits
from arrowslit.app.build import relay as build
from arrowslit.clock import SystemClock
from arrowslit.connector import backoff
from arrowslit.connector.targets.http import HttpTarget
from arrowslit.connector.targets.upstream.address import read_endpoint
from arrowslit.edge import door
from arrowslit.ledger.disk import FileDisk
from arrowslit.protocol import frames
from arrowslit.relay import accept, reply
from arrowslit.relay.admission import Bounds
from tests.agents.bench import bench, simulated, uses
from tests.agents.tale import DEFINITION
from tests.connector.targets.scripted import Line, answer, serving
from tests.harness import PATIENCE
from tests.security.cases import case
from tests.support.inprocess import ENDPOINT, JSON, House, bearer, connector, in_process, kept
from tests.support.wire import Wire, dial, request, until

in_module = pytest.mark.asyncio(loop_scope="module")
MIB = 1 << 20
CHECK = "internal__check_stock"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with in_process(tmp_path_factory.mktemp("exhaustion")) as house:
        yield house


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds of the door become fractions of one."""
    monkeypatch.setattr(door, "HEAD_TIME", 0.3)
    monkeypatch.setattr(door, "BODY_TIME", 0.3)
    monkeypatch.setattr(door, "REFUSAL_TIME", 0.1)


async def dripped(wire: Wire, said: bytes) -> tuple[int, str]:
    """How somebody is answered who says this byte by byte."""

    async def drip() -> None:
        with contextlib.suppress(ConnectionError):
            for byte in said:
                await wire.send(bytes([byte]))
                await asyncio.sleep(0.02)

    dripping = asyncio.create_task(drip())
    try:
        told = await wire.answer()
        return told.status, told.code
    finally:
        dripping.cancel()
        await asyncio.wait([dripping])


HEADS = {
    "the first line": b"POST /mcp/stock/inventory HTTP/1.1\r\n",
    "a field": b"GET /v1/agents HTTP/1.1\r\nHost: localhost\r\nX-A: " + b"a" * 100,
    "blank lines": b"\r\n" * 100,
    "a method": b"P" * 1 + b"O" * 1 + b"S" * 1 + b"T " + b"/" + b"a" * 100,
    "an upgrade": b"GET /connect HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: ",
}


@pytest.mark.usefixtures("quick")
@in_module
@case("DOS-01", "said", HEADS)
async def test_a_head_that_drips_is_cut(house: House, said: bytes) -> None:
    async with dial(house.port) as wire:
        assert await dripped(wire, said) in [(408, "request_timeout"), (400, "bad_http")]
        assert await wire.rest() == b""
    await house.good_call()


BODIES = {
    "with its length": ("Content-Length: 1000000", b"x" * 400),
    "in chunks": ("Transfer-Encoding: chunked", b"1\r\nx\r\n" * 100),
    "in a chunk that is announced": ("Transfer-Encoding: chunked", b"fffff\r\n" + b"x" * 400),
    "in chunk extensions": ("Transfer-Encoding: chunked", b"1;" + b"a" * 400),
    "that never comes": ("Content-Length: 10", b""),
    "after 100-continue": ("Content-Length: 10\r\nExpect: 100-continue", b""),
}


@pytest.mark.usefixtures("quick")
@in_module
@case("DOS-02", "line,said", BODIES)
async def test_a_body_that_drips_is_cut(house: House, line: str, said: bytes) -> None:
    for path, key in ((ENDPOINT, house.key), ("/v1/tunnels", house.admin)):
        before = len(house.target.requests)
        head = request("GET", path, headers=(*JSON, bearer(key), line)).replace(b"GET", b"POST", 1)
        async with dial(house.port) as wire:
            await wire.send(head)
            if "100-continue" in line:
                assert (await wire.answer()).status == 100
            assert await dripped(wire, said) == (408, "request_timeout")
        assert len(house.target.requests) == before
    await house.good_call()


# ---------------------------------------------------------------- WebSockets


@asynccontextmanager
async def linked(house: House, **more: object) -> AsyncIterator[ClientConnection]:
    """A WebSocket of somebody who holds a right token, and says nothing so far."""
    headers = {"Authorization": f"Bearer {house.token}"}
    url = f"ws://127.0.0.1:{house.port}/connect"
    given = {"compression": None, "max_size": None, "ping_interval": None, **more}
    async with connect(url, additional_headers=headers, **given) as found:  # type: ignore[arg-type]
        yield found


async def ends(websocket: ClientConnection) -> int | None:
    """The close code that the relay says."""
    with contextlib.suppress(ConnectionClosed):
        async with asyncio.timeout(PATIENCE):
            while True:
                await websocket.recv()
    return websocket.close_code


@in_module
@case("DOS-03", "count", {"fifty who hold a token": 50})
async def test_who_upgrades_and_says_nothing_is_let_go(
    house: House, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(accept, "HANDSHAKE", 0.3)
    async with contextlib.AsyncExitStack() as stack:
        silent = [await stack.enter_async_context(linked(house)) for _ in range(count)]
        assert {await ends(each) for each in silent} == {4408}
    assert house.connected
    await house.good_call()


@in_module
@case("DOS-03", "count", {"fifty without a token": 50})
async def test_who_holds_no_token_gets_no_websocket(house: House, count: int) -> None:
    upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
    said = request("GET", "/connect", headers=(*upgrade, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="))
    for _ in range(count):
        async with dial(house.port) as wire:
            await wire.send(said)
            assert (await wire.answer()).status == 401
            assert await wire.rest() == b""


@in_module
@case("DOS-05", "bomb", {"256 MiB of zeros": zlib.compress(bytes(MIB), 9) * 256})
async def test_nothing_is_ever_inflated(house: House, bomb: bytes) -> None:
    offered = [ClientPerMessageDeflateFactory(client_max_window_bits=15)]
    async with linked(house, extensions=offered) as websocket:
        assert websocket.protocol.extensions == []
        said = bytearray(Frame(Opcode.BINARY, bomb).serialize(mask=True))
        said[0] |= 0x40  # RSV1: this is compressed
        websocket.transport.write(said)
        assert await ends(websocket) == 1002
    await house.good_call()


UNKNOWN = frames.encode(99, 0, b"", frames.Flag.IGNORABLE)


def empty(opcode: Opcode, data: bytes = b"", *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin=fin).serialize(mask=True)


FLOODS: dict[str, tuple[str, bytes, bytes, int]] = {
    "DOS-06 pieces of one byte": (
        "",
        empty(Opcode.BINARY, b"x", fin=False),
        empty(Opcode.CONT, b"x", fin=False),
        100_000,
    ),
    "DOS-06 empty pieces": ("", empty(Opcode.BINARY, fin=False), empty(Opcode.CONT, fin=False), 100_000),
    "DOS-06 a message without end": (
        "",
        empty(Opcode.BINARY, fin=False),
        empty(Opcode.CONT, bytes(65_536), fin=False),
        64,
    ),
    "DOS-07 pings": ("", b"", empty(Opcode.PING, b"x"), 50_000),
    "DOS-07 pongs": ("", b"", empty(Opcode.PONG, b"x"), 50_000),
    "DOS-07 empty messages": ("", b"", empty(Opcode.BINARY), 50_000),
    "DOS-07 frames that nobody knows": ("", b"", empty(Opcode.BINARY, UNKNOWN), 50_000),
}
SLOWLY = {
    "pings": empty(Opcode.PING, b"x"),
    "pongs": empty(Opcode.PONG, b"x"),
    "empty messages": empty(Opcode.BINARY),
    "frames that nobody knows": empty(Opcode.BINARY, UNKNOWN),
}


@in_module
@pytest.mark.parametrize(("first", "then", "count"), [row[1:] for row in FLOODS.values()], ids=list(FLOODS))
async def test_a_flood_of_small_frames_ends_and_costs_no_memory(
    house: House, monkeypatch: pytest.MonkeyPatch, first: bytes, then: bytes, count: int
) -> None:
    monkeypatch.setattr(accept, "HANDSHAKE", 1.0)
    before = psutil.Process().memory_info().rss
    async with linked(house) as websocket:
        websocket.transport.write(first + then * count)
        calls = asyncio.create_task(several(house, 5))
        assert await ends(websocket) in (1002, 1008, 1009, 4408, 1006)
        await calls
    assert psutil.Process().memory_info().rss - before < 24 * MIB
    await house.good_call()


@in_module
@case("DOS-07", "then", {f"{name}, a few at a time": then for name, then in SLOWLY.items()})
async def test_what_says_nothing_puts_the_end_of_a_handshake_off_by_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch, then: bytes
) -> None:
    monkeypatch.setattr(accept, "HANDSHAKE", 0.3)
    async with linked(house) as websocket:

        async def go_on() -> None:
            while not websocket.transport.is_closing():
                websocket.transport.write(then)
                await asyncio.sleep(0.05)

        going = asyncio.create_task(go_on())
        code = await ends(websocket)
        going.cancel()
        assert code in (1002, 4408), "either it is no greeting, or it is none in time"


async def several(house: House, count: int) -> None:
    for _ in range(count):
        await house.good_call()


# ---------------------------------------------------------------- readers and results


@in_module
@case("DOS-08", "tool", {"events that nobody reads": "stream"})
async def test_a_client_that_reads_nothing_stops_its_own_stream(house: House, tool: str) -> None:
    async with dial(house.port, receive_buffer=4096) as wire:
        sent = house.target.sent
        await wire.send(house.post(house.message(tool, {"events": 1000, "size": 65_536})))
        await until(lambda: house.target.sent > sent)
        await several(house, 5)
        assert house.target.sent - sent < 8 * MIB, "the target is made to wait"
    await several(house, 1)


@pytest.mark.promise("P15")
@case("DOS-09", "share", {"ten times its share": 10})
async def test_a_tenant_that_asks_for_too_much_is_told_so_and_another_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: int
) -> None:
    monkeypatch.setattr(build, "Bounds", partial(Bounds, per_tenant=4, per_tunnel=6, waiting=8))
    async with in_process(tmp_path) as house, contextlib.AsyncExitStack() as stack:
        globex = await house.make_key("globex")
        wires = [await stack.enter_async_context(dial(house.port)) for _ in range(4 * share)]
        for wire in wires:
            await wire.send(house.post(house.message("wait")))
        refused = [wire for wire in wires if not await wire.is_open(0.02)]
        assert len(refused) == 4 * share - 4 - 8
        for _ in range(20):
            assert (await house.call("echo", key=globex)).status == 200
        late = await house.call("echo")
        assert (late.status, late.code) == (429, "rate_limited")
        assert int(late.headers["retry-after"]) >= 1
        house.target.go.set()
        for wire in (each for each in wires if each not in refused):
            assert "result" in (await wire.answer()).json
        await house.good_call()
        denied = [each for each in house.ledger() if each["kind"] == "asked"]
        assert len(denied) == 4 + 8 + 20 + 1, "what was refused at the gate was never a call"


@in_module
@case("DOS-11", "size", {"3 MiB where 2 are allowed": 3 * MIB, "just over": 2 * MIB + 1})
async def test_a_result_beyond_the_limit_ends_visibly(house: House, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(reply, "MAX_RESULT", 2 * MIB)
    async with dial(house.port) as wire:
        await wire.send(house.post(house.message("big", {"size": size})))
        status, _ = await wire.head()
        assert status == 200
        with pytest.raises(asyncio.IncompleteReadError):
            while await wire.chunk():
                pass
    await until(lambda: house.ledger()[-1]["kind"] == "outcome")
    last = house.ledger()[-1]
    assert (last["outcome"], last["code"]) == ("result", "result_too_large")
    await house.good_call()


@case("DOS-14", "count", {"50,000 tools": 50_000})
async def test_a_list_that_is_too_long_fails_and_calls_go_on(tmp_path: Path, count: int) -> None:
    tools = [{"name": f"tool_{n}", "description": "d" * 80, "inputSchema": {"type": "object"}} for n in range(count)]

    async def script(line: Line) -> None:
        while True:
            said = json.loads((await line.request()).body)
            result: object = {"tools": tools} if said["method"] == "tools/list" else {"content": []}
            body = json.dumps({"jsonrpc": "2.0", "id": said["id"], "result": result}).encode()
            await line.send(answer(body, "200 OK", "content-type: application/json"))

    async with serving(script) as server, in_process(tmp_path, connected=False) as house:
        target = HttpTarget(read_endpoint(server.url), SystemClock())
        async with target, kept(connector(f"ws://127.0.0.1:{house.port}/connect", house.token, target)):
            await until(lambda: house.connected)
            async with dial(house.port) as wire:
                await wire.send(house.post(b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}'))
                assert (await wire.answer()).code == "result_too_large"
            assert "result" in (await house.call("echo")).json


PATTERNS = {"nested": "^(a+)+$", "alternatives": "^(a|a)*$", "a look-ahead": "^(?=(a+)+$)a*$"}


@case("DOS-18", "pattern", PATTERNS)
async def test_a_pattern_of_a_server_is_nothing_that_runs_here(tmp_path: Path, pattern: str) -> None:
    """Arguments are the server's to check; they are copied byte for byte."""
    schema = {"type": "object", "properties": {"sku": {"type": "string", "pattern": pattern}}}
    heard: list[object] = []

    async def script(line: Line) -> None:
        while True:
            said = json.loads((await line.request()).body)
            result: object = {"tools": [{"name": "echo", "inputSchema": schema}]}
            if said["method"] == "tools/call":
                heard.append(said["params"]["arguments"])
                result = {"content": []}
            body = json.dumps({"jsonrpc": "2.0", "id": said["id"], "result": result}).encode()
            await line.send(answer(body, "200 OK", "content-type: application/json"))

    async with serving(script) as server, in_process(tmp_path, connected=False) as house:
        target = HttpTarget(read_endpoint(server.url), SystemClock())
        async with target, kept(connector(f"ws://127.0.0.1:{house.port}/connect", house.token, target)):
            await until(lambda: house.connected)
            async with dial(house.port) as wire:
                await wire.send(house.post(b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}'))
                assert (await wire.answer()).json["result"]["tools"][0]["inputSchema"] == schema
            arguments = {"sku": "a" * 5000 + "!"}
            assert "result" in (await house.call("echo", arguments)).json
            assert heard == [arguments]


# ---------------------------------------------------------------- storms, loops, disks


@case("DOS-13", "count", {"a thousand connectors": 1000})
def test_connectors_that_lost_their_relay_come_back_spread(count: int) -> None:
    """docs of the study want 50 a second; tunnel.md's first bound is a second, within which they come evenly."""
    chance = Random(13)
    waits = [backoff.wait(0, 0.0, chance.random()) for _ in range(count)]
    tenths = [sum(int(each * 10) == tenth for each in waits) for tenth in range(10)]
    assert max(waits) < 1
    assert max(tenths) < count / 10 * 1.5
    later = [backoff.wait(attempt, 120.0, chance.random()) for attempt in range(20) for _ in range(50)]
    assert max(later) <= backoff.LONGEST


@case(
    "DOS-15", "limits", {"requests": {"model_requests": 4}, "calls": {"tool_calls": 4}, "tokens": {"output_tokens": 40}}
)
@simulated
async def test_an_agent_that_calls_for_ever_is_stopped(limits: dict[str, int]) -> None:
    house = bench(rule=lambda _: uses(CHECK))
    async with house.running():
        await house.create(replace(DEFINITION, limits=replace(TurnLimits(), **limits)))
        events = await house.ask("Go")
    kinds = [event.type for event in events]
    assert kinds[-1] == "session.status_idle"
    assert kinds.count("agent.mcp_tool_use") <= 50
    assert "session.error" in kinds


@case("DOS-17", "error", {"no space": errno.ENOSPC, "read-only": errno.EROFS, "broken": errno.EIO})
async def test_what_cannot_be_recorded_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    async with in_process(tmp_path) as house:
        await house.good_call()
        before = len(house.target.requests)

        def full(*_: object) -> None:
            raise OSError(error, os.strerror(error))

        with monkeypatch.context() as patch:
            patch.setattr(FileDisk, "append", full)
            for _ in range(3):
                refused = await house.call("echo")
                assert (refused.status, refused.code) == (200, "ledger_unavailable")
                assert refused.json["error"]["data"]["outcome"] == "not_delivered"
        assert len(house.target.requests) == before
        await house.call("echo")  # the disk is there again


# ---------------------------------------------------------------- all at once


@pytest.fixture
def most_descriptors() -> int:
    """As many open files as this process may have, which it may have from now on."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 20_000 if hard == resource.RLIM_INFINITY else min(hard, 20_000)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most


def held() -> tuple[int, int]:
    """Descriptors and tasks of this process."""
    return psutil.Process().num_fds(), len(asyncio.all_tasks())


@pytest.mark.skipif(not hasattr(psutil.Process, "num_fds"), reason="descriptors are counted where there are some")
@case("DOS-01", "count", {"a thousand half-open, a thousand idle, and a flood of 401s": 1000})
async def test_after_a_siege_everything_is_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_descriptors: int, count: int
) -> None:
    count = min(count, (most_descriptors - 500) // 4)  # both ends of each connection are here
    monkeypatch.setattr(door, "HEAD_TIME", 2.0)
    monkeypatch.setattr(door, "REFUSAL_TIME", 0.1)
    async with in_process(tmp_path) as house:
        await siege(house, min(count, 50))
        await until(lambda: not house.front.state.connections)
        gc.collect()
        (descriptors, tasks), rss = held(), psutil.Process().memory_info().rss

        await siege(house, count)

        await until(lambda: not house.front.state.connections)
        gc.collect()
        assert held()[0] <= descriptors
        assert held()[1] <= tasks
        assert psutil.Process().memory_info().rss - rss < 48 * MIB
        await house.good_call()


async def siege(house: House, count: int) -> None:
    """Half-open ones send a byte now and then, idle ones nothing, others guess; good calls pass all the while."""
    over = asyncio.Event()

    async def half_open() -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            async with dial(house.port) as wire:
                reading = asyncio.create_task(wire.reader.read())
                for byte in b"POST /mcp/stock/inventory HTTP/1.1\r\nHost: localhost\r\n":
                    if reading.done():
                        break
                    await wire.send(bytes([byte]))
                    await asyncio.wait([reading], timeout=0.5)
                assert b" 408 " in await reading

    async def idle() -> None:
        with contextlib.suppress(ConnectionError):
            async with dial(house.port) as wire:
                assert b" 408 " in await wire.reader.read()

    async def guess() -> None:
        async with dial(house.port) as wire:
            while not over.is_set():
                await wire.send(request("POST", ENDPOINT, b"{}", headers=(*JSON, bearer("asl_sk_wrong"))))
                assert (await wire.answer()).status in (401, 429)
                await asyncio.sleep(0.005)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(5):
            tasks.create_task(guess())
        slow = []
        for _ in range(count):
            slow += [tasks.create_task(half_open()), tasks.create_task(idle())]
            await asyncio.sleep(0)
        while not all(task.done() for task in slow):
            await house.good_call()
            await asyncio.sleep(0.1)
        over.set()
