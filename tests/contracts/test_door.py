"""What a newer uvicorn or httptools has to pass: the door through real sockets, on both loops."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from arrowslit.edge import door as door_module
from arrowslit.edge import guard
from arrowslit.edge.request import McpRequest
from arrowslit.principal import Principal, Scope
from tests.support.front import Behind, Front, fronted, listening
from tests.support.inprocess import in_process
from tests.support.wire import WAIT, Answer, chunked, dial, request, until

MIB = 1024 * 1024
UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
CONNECTOR = "Authorization: Bearer connector"


@pytest.fixture
def behind() -> Behind:
    return Behind()


@pytest_asyncio.fixture
async def front(behind: Behind) -> AsyncIterator[Front]:
    async with fronted(behind) as front:
        yield front


def post(path: str, body: bytes = b"", *headers: str) -> bytes:
    return request("POST", path, body, headers=headers)


def get(path: str, *headers: str) -> bytes:
    return request("GET", path, headers=headers)


def echoed(answer: Answer) -> tuple[str, str]:
    assert answer.status == 200, answer
    return answer.json["path"], answer.json["body"]


# ---------------------------------------------------------------- one connection, both kinds of traffic


async def test_both_kinds_of_traffic_alternate_on_one_connection(front: Front, behind: Behind) -> None:
    async with dial(front.port) as wire:
        for path in ("/mcp/echo", "/v1/echo", "/mcp/slow", "/v1/slow", "/mcp/echo", "/healthz"):
            behind.go.clear()
            await wire.send(post(path, b"hello"))
            if path.endswith("slow"):
                await behind.begins(path)
            behind.go.set()
            assert echoed(await wire.answer()) == (path, "hello")


async def test_a_request_that_begins_as_the_last_one_did_is_read_like_it(front: Front, behind: Behind) -> None:
    async with dial(front.port) as wire:
        for body in (b"hello", b"world", b"!", b"?", b"hello again", b"", b"12345"):
            await wire.send(post("/mcp/echo", body))
            assert echoed(await wire.answer()) == ("/mcp/echo", body.decode())
        for cut in (1, 40, -1):
            said = post("/mcp/echo", b"piece")
            await wire.send(said[:cut])
            await asyncio.sleep(0.01)  # so that it arrives in two pieces; in one it is answered alike
            await wire.send(said[cut:])
            assert echoed(await wire.answer()) == ("/mcp/echo", "piece")
        await wire.send(post("/mcp/echo", b"world") + post("/mcp/echo", b"there"))
        assert [echoed(await wire.answer())[1] for _ in range(2)] == ["world", "there"]


async def test_a_request_that_was_in_line_says_that_it_waited(front: Front, behind: Behind) -> None:
    async with dial(front.port) as wire:
        behind.go.set()
        await wire.send(post("/mcp/echo", b"before"))
        assert echoed(await wire.answer())[1] == "before"
        behind.go.clear()
        await wire.send(post("/mcp/slow", b"1"))
        await behind.begins("/mcp/slow")
        await wire.send(post("/mcp/echo", b"before"))
        await until(lambda: front.connection.pipeline)
        behind.go.set()
        assert [echoed(await wire.answer())[1] for _ in range(2)] == ["1", "before"]
        await wire.send(post("/mcp/echo", b"before"))
        assert echoed(await wire.answer())[1] == "before"
    assert behind.waited == [True, True, True, False]


SIX = ("/mcp/slow", "/v1/slow", "/mcp/a", "/v1/b", "/v1/c", "/mcp/d")


async def test_six_requests_in_one_packet_are_answered_in_their_order(front: Front, behind: Behind) -> None:
    async with dial(front.port) as wire:
        await wire.send(b"".join(post(path, path.encode()) for path in SIX))
        await behind.begins("/mcp/slow")
        behind.go.set()

        assert [echoed(await wire.answer()) for _ in SIX] == [(path, path) for path in SIX]

    assert behind.started == list(SIX)


async def test_a_request_may_come_one_byte_at_a_time(front: Front, behind: Behind) -> None:
    behind.go.set()
    paths = ("/mcp/a", "/v1/slow", "/mcp/b")
    async with dial(front.port) as wire:
        for byte in b"".join(post(path, b"xyz") for path in paths):
            await wire.send(bytes([byte]))

        assert [echoed(await wire.answer()) for _ in paths] == [(path, "xyz") for path in paths]


async def test_a_chunked_body_is_put_together(front: Front) -> None:
    async with dial(front.port) as wire:
        for path in ("/mcp/echo", "/v1/echo"):
            head = request("PUT", path, headers=("Transfer-Encoding: chunked",)).replace(b"PUT", b"POST")
            await wire.send(head, b"3;of=two\r\nabc\r\n", b"2\r\nde", b"\r\n0\r\n\r\n")
            assert echoed(await wire.answer()) == (path, "abcde")


async def test_a_client_that_expects_100_hears_it_before_it_sends_its_body(front: Front, behind: Behind) -> None:
    async with dial(front.port) as wire:
        for path in ("/mcp/echo", "/v1/echo"):
            whole = post(path, b"hello", "Expect: 100-continue")
            await wire.send(whole[:-5])
            assert (await wire.answer()).status == 100
            await wire.send(whole[-5:])
            assert echoed(await wire.answer()) == (path, "hello")


async def test_a_pipelined_client_that_expects_100_hears_it_when_it_is_its_turn(front: Front, behind: Behind) -> None:
    async with dial(front.port) as wire:
        second = post("/mcp/echo", b"hello", "Expect: 100-continue")
        await wire.send(post("/mcp/slow"), second[:-5])
        await behind.begins("/mcp/slow")
        assert await wire.is_open()

        behind.go.set()

        assert echoed(await wire.answer()) == ("/mcp/slow", "")
        assert (await wire.answer()).status == 100
        await wire.send(second[-5:])
        assert echoed(await wire.answer()) == ("/mcp/echo", "hello")


async def test_http_1_0_gets_its_answer_and_the_end_of_the_connection(front: Front, behind: Behind) -> None:
    behind.pieces.put_nowait(b"data: 1\n\n")
    behind.pieces.put_nowait(None)
    for path in ("/mcp/echo", "/v1/echo", "/mcp/stream"):
        async with dial(front.port) as wire:
            await wire.send(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            answer = await wire.answer()
            assert answer.status == 200
            assert answer.headers["connection"] == "close"
            assert "transfer-encoding" not in answer.headers
            assert await wire.rest() == b""
            assert answer.body == b"data: 1\n\n" or not path.endswith("stream")


async def test_a_client_that_wants_the_connection_closed_gets_that(front: Front) -> None:
    for path in ("/mcp/echo", "/v1/echo"):
        async with dial(front.port) as wire:
            await wire.send(post(path, b"", "Connection: close") + post(path, b"not any more"))
            assert (await wire.answer()).headers["connection"] == "close"
            assert await wire.rest() == b""


# ---------------------------------------------------------------- answers that could be read as two


@pytest.mark.parametrize("status", [204, 304])
async def test_an_answer_without_a_body_has_none(front: Front, status: int) -> None:
    async with dial(front.port) as wire:
        await wire.send(get(f"/mcp/{status}") + post("/mcp/echo"))
        first = await wire.answer()
        assert (first.status, "content-length" in first.headers) == (status, False)
        assert echoed(await wire.answer()) == ("/mcp/echo", "")


async def test_the_answer_to_head_has_no_body(front: Front) -> None:
    async with dial(front.port) as wire:
        await wire.send(request("HEAD", "/mcp/echo") + post("/mcp/echo"))
        assert int((await wire.answer(to_head=True)).headers["content-length"]) > 0
        assert echoed(await wire.answer()) == ("/mcp/echo", "")


async def test_a_defect_behind_the_door_is_said_without_its_text(
    front: Front, caplog: pytest.LogCaptureFixture
) -> None:
    async with dial(front.port) as wire:
        await wire.send(post("/mcp/raise"))
        answer = await wire.answer()
        assert (answer.status, answer.code) == (500, "internal_error")
        assert b"behind the door" not in answer.body
        assert "a defect behind the door" in caplog.text
        await wire.send(post("/mcp/echo"))
        assert echoed(await wire.answer()) == ("/mcp/echo", "")


async def test_a_request_that_nobody_answers_is_broken_off(front: Front) -> None:
    async with dial(front.port) as wire:
        await wire.send(post("/mcp/forget"))
        assert await wire.rest() == b""


# ---------------------------------------------------------------- what is refused


REFUSED = {
    "garbage": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "bad_http"),
    "length and chunks": (
        post("/mcp/echo", b"12345", "Transfer-Encoding: chunked") + get("/mcp/smuggled"),
        400,
        "bad_http",
    ),
    "chunks and length": (
        b"POST /v1/echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        400,
        "bad_http",
    ),
    "HTTP/0.9": (b"GET /mcp/echo\r\n\r\n", 400, "bad_http"),
    "HTTP/2 in the clear": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "bad_http"),
    "HTTP/2 with a path": (b"GET /mcp/echo HTTP/2.0\r\nHost: localhost\r\n\r\n", 400, "bad_http"),
    "RTSP to a server": (b"POST /mcp/echo RTSP/1.0\r\nHost: localhost\r\n\r\n", 400, "bad_http"),
    "RTSP to the API": (b"GET /v1/never  RTSP/1.1\r\nHost: localhost\r\n\r\n", 400, "bad_http"),
    "Icecast": (b"SOURCE /mcp/echo ICE/1.0\r\nHost: localhost\r\n\r\n", 400, "bad_http"),
    "a proxy's method": (b"CONNECT /mcp/echo HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "bad_http"),
    "fields after the body": (
        b"POST /v1/echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Admin: yes\r\n\r\n",
        400,
        "bad_http",
    ),
    "65 fields": (get("/mcp/echo", *(f"X-{n}: 1" for n in range(64))), 431, "header_too_large"),
    "a head of 17 KiB": (get("/v1/echo", "X: " + "x" * 17 * 1024), 431, "header_too_large"),
    "a target of 17 KiB": (get("/mcp/" + "x" * 17 * 1024), 431, "header_too_large"),
    "a head of blanks": (post("/mcp/echo", b"body", "X: " + " " * 60_000 + "a"), 431, "header_too_large"),
    "a chunk extension of 20 KiB": (
        request("GET", "/mcp/echo", headers=("Transfer-Encoding: chunked",))
        + b"3;"
        + b"x" * 20 * 1024
        + b"\r\nabc\r\n0\r\n\r\n",
        431,
        "header_too_large",
    ),
}


@pytest.mark.parametrize(("said", "status", "code"), REFUSED.values(), ids=REFUSED.keys())
async def test_what_is_no_request_is_refused(front: Front, behind: Behind, said: bytes, status: int, code: str) -> None:
    async with dial(front.port) as wire:
        await wire.send(said)
        answer = await wire.answer()
        assert (answer.status, answer.code, answer.headers["connection"]) == (status, code, "close")
        assert answer.hint
        assert await wire.rest() == b""
    assert [path for path in behind.started if path != "/v1/echo"] == []


@pytest.mark.parametrize("path", ["/mcp/echo", "/v1/echo"])
async def test_a_head_of_exactly_the_limit_passes_whatever_comes_with_it(front: Front, path: str) -> None:
    def head(blanks: int, body: bytes) -> bytes:
        return post(path, body, "X:" + " " * blanks + "a")

    for body in (b"", b"x", b"x" * 200_000):
        fits = guard.MAX_HEAD - len(head(0, body)) + len(body)
        async with dial(front.port) as wire:
            for _ in range(2):
                await wire.send(head(fits, body))
                assert (await wire.answer()).status == 200
            await wire.send(head(fits + 1, body))
            assert (await wire.answer()).status == 431


async def test_rtsp_said_byte_by_byte_is_refused_and_rtsp_in_a_body_is_not(front: Front) -> None:
    async with dial(front.port) as wire:
        await wire.send(post("/mcp/echo", b"GET rtsp://camera RTSP/1.0"))
        assert echoed(await wire.answer()) == ("/mcp/echo", "GET rtsp://camera RTSP/1.0")
        for byte in b"GET /connect RTSP/1.1\r\nHost: localhost\r\n\r\n":
            await wire.send(bytes([byte]))
        assert (await wire.answer()).code == "bad_http"


async def test_a_client_that_holds_on_after_a_refusal_is_cut(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_module, "REFUSAL_TIME", 0.1)
    async with dial(front.port) as wire:
        await wire.send(get("/v1/echo", "Host: again"))
        assert (await wire.answer()).code == "header_ambiguous"
        await until(lambda: not front.state.connections)


@pytest.mark.parametrize("path", ["/mcp/slow", "/v1/slow"])
async def test_garbage_behind_good_requests_does_not_cost_their_answers(
    front: Front, behind: Behind, path: str
) -> None:
    async with dial(front.port) as wire:
        await wire.send(post(path) + post("/mcp/a") + post("/v1/b") + b"\x00garbage\r\n\r\n" + post("/mcp/never"))
        await behind.begins(path)
        behind.go.set()
        assert [echoed(await wire.answer())[0] for _ in range(3)] == [path, "/mcp/a", "/v1/b"]
        assert await wire.rest() == b""
    assert "/mcp/never" not in behind.started


@pytest.mark.parametrize("path", ["/mcp/echo", "/v1/echo", "/healthz"])
@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_a_body_past_the_limit_gets_413_and_not_a_reset(
    front: Front, behind: Behind, monkeypatch: pytest.MonkeyPatch, path: str, framing: str
) -> None:
    for limit in ("MCP_BODY", "V1_BODY", "OTHER_BODY"):
        monkeypatch.setattr(door_module, limit, MIB)
    kept: list[int] = []
    monkeypatch.setattr(door_module.Door, "on_body", _measured(door_module.Door.on_body, kept))
    piece = b"x" * MIB
    async with dial(front.port) as wire:
        if framing == "length":
            await wire.send(post(path, b"", f"Content-Length: {64 * MIB}").replace(b"Content-Length: 0\r\n", b""))
        else:
            await wire.send(post(path, b"", "Transfer-Encoding: chunked").replace(b"Content-Length: 0\r\n", b""))
        for _ in range(64):  # a client that sends it all before it looks for an answer
            await wire.send(piece if framing == "length" else b"%x\r\n%b\r\n" % (len(piece), piece))

        answer = await wire.answer()
        assert (answer.status, answer.code) == (413, "payload_too_large")
        assert await wire.rest() == b""

    assert sum(kept) <= MIB + 256 * 1024
    assert [each for each in behind.started if each.startswith("/mcp/")] == []


def _measured(on_body: object, kept: list[int]) -> object:
    """`on_body`, and how many bytes the parser handed to it."""

    def measured(door: door_module.Door, body: bytes) -> None:
        kept.append(len(body))
        on_body(door, body)  # type: ignore[operator]

    return measured


async def test_32_mib_of_headers_get_431_and_not_a_reset(front: Front) -> None:
    async with dial(front.port) as wire:
        await wire.send(b"GET /mcp/echo HTTP/1.1\r\nHost: localhost\r\nX: ")
        for _ in range(32):
            await wire.send(b"x" * MIB)
        answer = await wire.answer()
        assert (answer.status, answer.code) == (431, "header_too_large")
        assert await wire.rest() == b""


@pytest.mark.parametrize("endless", [b"X-Trailer: " + b"x" * 4096, b"1;" + b"x" * 4096, b"0\r\nX: " + b"x" * 4096])
async def test_a_chunked_body_cannot_hide_a_second_head(front: Front, endless: bytes) -> None:
    async with dial(front.port) as wire:
        await wire.send(post("/mcp/echo", b"", "Transfer-Encoding: chunked").replace(b"Content-Length: 0\r\n", b""))
        await wire.send(b"3\r\nabc\r\n0\r\n" if endless.startswith(b"X") else b"", endless)
        with contextlib.suppress(ConnectionError):
            for _ in range(4096):
                await wire.send(b"x" * 4096)
                if wire.reader._buffer:  # type: ignore[attr-defined]  # an answer came
                    break
            else:
                pytest.fail("16 MiB were taken")
        assert (await wire.answer()).status == 431


# ---------------------------------------------------------------- time


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds become hundredths of seconds."""
    monkeypatch.setattr(door_module, "HEAD_TIME", 0.1)
    monkeypatch.setattr(door_module, "BODY_TIME", 0.1)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("said", [b"", b"GET /mcp/ec", b"\r\n\r\n", b"GET /mcp/echo HTTP/1.1\r\nHost: local"])
async def test_half_a_head_gets_408(behind: Behind, said: bytes) -> None:
    async with fronted(behind) as front, dial(front.port) as wire:
        await wire.send(said)
        answer = await wire.answer()
        assert (answer.status, answer.code, answer.headers["connection"]) == (408, "request_timeout", "close")
        assert await wire.rest() == b""


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("path", ["/mcp/echo", "/v1/echo"])
async def test_half_a_head_on_a_kept_connection_gets_408_too(front: Front, path: str) -> None:
    async with dial(front.port) as wire:
        await wire.send(post(path))
        assert echoed(await wire.answer()) == (path, "")
        await wire.send(b"POST ")
        assert (await wire.answer()).status == 408


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("path", ["/mcp/echo", "/v1/echo", "/v1/other"])
async def test_a_trickled_body_gets_408(front: Front, path: str) -> None:
    async with dial(front.port) as wire:
        await wire.send(post(path, b"", "Content-Length: 1000").replace(b"Content-Length: 0\r\n", b""))

        async def trickle() -> None:
            with contextlib.suppress(ConnectionError):
                while True:
                    await wire.send(b"x")
                    await asyncio.sleep(0.01)

        trickling = asyncio.create_task(trickle())
        answer = await wire.answer()
        trickling.cancel()
        assert (answer.status, answer.code) == (408, "request_timeout")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("slow", ["/mcp/slow", "/v1/slow"])
async def test_half_a_request_behind_a_slow_one_waits_for_its_turn_and_is_then_cut(
    front: Front, behind: Behind, slow: str
) -> None:
    half = post("/mcp/late", b"12345")[:-3]
    async with dial(front.port) as wire:
        await wire.send(post(slow), half)
        await asyncio.sleep(0.3)  # three times what a body may take
        behind.go.set()
        assert echoed(await wire.answer()) == (slow, "")
        assert await wire.rest() == b""
    assert "/mcp/late" not in behind.started


@pytest.mark.usefixtures("quick")
async def test_a_request_that_the_door_does_not_read_is_not_too_slow(front: Front, behind: Behind) -> None:
    many = [post("/mcp/echo", b"x" * 20_000)] * 4
    last = post("/mcp/echo", b"last")
    async with dial(front.port) as wire:
        await wire.send(post("/mcp/slow") + b"".join(many) + last[:-2])
        await until(lambda: front.connection.flow.read_paused)
        await wire.send(last[-2:])
        await asyncio.sleep(0.3)
        behind.go.set()
        for body in ("", *["x" * 20_000] * 4, "last"):
            assert echoed(await wire.answer())[1] == body


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("path", ["/mcp/slow", "/v1/slow"])
async def test_no_timer_of_the_request_runs_while_it_is_answered(front: Front, behind: Behind, path: str) -> None:
    async with dial(front.port) as wire:
        await wire.send(post(path, b"body"))
        await asyncio.sleep(0.3)
        behind.go.set()
        assert echoed(await wire.answer()) == (path, "body")


async def test_an_idle_connection_is_closed_and_blank_lines_do_not_keep_it(behind: Behind) -> None:
    async with fronted(behind, keep_alive=0.2) as front, dial(front.port) as wire:
        await wire.send(post("/mcp/echo"))
        await wire.answer()
        async with asyncio.timeout(WAIT):
            while front.state.connections:
                await asyncio.sleep(0.05)
                await wire.send(b"\r\n")


async def test_the_idle_timer_does_not_end_the_next_call(behind: Behind) -> None:
    async with fronted(behind, keep_alive=0.2) as front, dial(front.port) as wire:
        second = post("/mcp/slow", b"hello")
        await wire.send(post("/mcp/echo") + second[:9])
        await wire.answer()  # and now the timer runs
        await wire.send(second[9:])
        await behind.begins("/mcp/slow")
        await asyncio.sleep(0.4)
        behind.go.set()
        assert echoed(await wire.answer()) == ("/mcp/slow", "hello")


async def test_the_idle_timer_does_not_cut_a_head_that_has_begun(behind: Behind) -> None:
    behind.go.set()
    async with fronted(behind, keep_alive=0.2) as front, dial(front.port) as wire:
        await wire.send(post("/mcp/echo"))
        await wire.answer()
        second = post("/mcp/slow", b"hello")
        await wire.send(second[:9])
        await asyncio.sleep(0.4)
        await wire.send(second[9:])
        assert echoed(await wire.answer()) == ("/mcp/slow", "hello")


# ---------------------------------------------------------------- clients that leave


@pytest.mark.parametrize("leave", ["close", "reset", "half-close"])
@pytest.mark.parametrize("path", ["/mcp/slow", "/v1/slow", "/mcp/stream"])
async def test_a_call_is_cancelled_at_once_when_its_client_leaves(
    front: Front, behind: Behind, path: str, leave: str
) -> None:
    async with dial(front.port) as wire:
        await wire.send(post(path))
        await behind.begins(path)
        if leave == "reset":
            wire.reset()
        elif leave == "half-close":
            wire.half_close()
        else:
            wire.writer.close()
        if path.startswith("/mcp/"):
            await until(lambda: behind.cancelled == [path])
        await until(lambda: not front.state.connections)
        behind.go.set()  # Starlette asks for a disconnect only when it reads
        await until(lambda: not front.state.tasks)


@pytest.mark.parametrize("first", ["/mcp/slow", "/v1/slow"])
async def test_a_client_that_leaves_with_requests_in_line_has_the_running_one_cancelled_and_none_started(
    front: Front, behind: Behind, first: str
) -> None:
    async with dial(front.port) as wire:
        await wire.send(post(first) + post("/mcp/never") + post("/v1/never"))
        await behind.begins(first)
        wire.writer.close()
        await until(lambda: not front.state.connections)
        behind.go.set()
        await until(lambda: not front.state.tasks)
    assert behind.started == [first]
    assert behind.cancelled == ([first] if first == "/mcp/slow" else [])


async def test_a_client_that_fills_the_line_is_not_read_any_further(front: Front, behind: Behind) -> None:
    async with dial(front.port) as wire:
        await wire.send(post("/mcp/slow"))
        await behind.begins("/mcp/slow")
        await wire.send(*[post("/mcp/echo", b"x" * 60_000)] * 3)  # those that are answered below
        sent = 3 * 60_000
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.3):
                while sent < 256 * MIB:
                    await wire.send(post("/mcp/echo", b"x" * 60_000))
                    sent += 60_000
        connection = front.connection
        waiting = sum([len(cycle.body) for cycle, _ in connection.pipeline])
        assert waiting <= door_module.READ_AHEAD + 2 * 256 * 1024
        assert sent < 64 * MIB
        behind.go.set()
        assert [echoed(await wire.answer())[0] for _ in range(4)] == ["/mcp/slow", *["/mcp/echo"] * 3]


async def test_a_finished_call_is_not_started_a_second_time(front: Front, behind: Behind) -> None:
    """uvicorn sets the event of a request again when its connection is lost (trap 1)."""
    for path in ("/mcp/echo", "/v1/echo"):
        async with dial(front.port) as wire:
            await wire.send(post(path))
            await wire.answer()
        await until(lambda: not front.state.connections)
    assert behind.started == ["/mcp/echo", "/v1/echo"]


async def test_an_answer_that_comes_after_its_client_left_harms_nobody(
    front: Front, behind: Behind, caplog: pytest.LogCaptureFixture
) -> None:
    """Writing to a transport that is closed raises in uvloop (trap 2)."""

    async def stubborn() -> None:
        async with dial(front.port) as wire:
            await wire.send(post("/mcp/stream"))
            await wire.head()
            wire.reset()
            behind.pieces.put_nowait(b"too late")
            behind.pieces.put_nowait(None)
        await until(lambda: not front.state.connections and not front.state.tasks)
        while not behind.pieces.empty():
            behind.pieces.get_nowait()

    for _ in range(20):
        await stubborn()
    for _ in range(20):
        async with dial(front.port) as wire:
            await wire.send(post("/mcp/late"))
            await behind.begins("/mcp/late")
            behind.started.clear()
        await until(lambda: not front.state.connections and not front.state.tasks)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.promise("P5")
async def test_callers_who_hang_up_disturb_no_other_caller_of_the_link(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Trap 2 of the door: a late answer to somebody who left once took the whole link down."""
    async with in_process(tmp_path) as house:

        async def hangs_up(number: int) -> None:
            async with dial(house.port) as wire:
                await wire.send(house.post(house.message("stream", {"events": 50, "size": 4000})))
                if number % 3:
                    await wire.head()  # the answer is on its way
                if number % 2:
                    wire.reset()

        async def stays(number: int) -> None:
            for turn in range(5):
                canary = {"canary": f"{number}-{turn}"}
                answer = await house.call("echo", canary)
                assert "result" in answer.json, answer.json
                assert answer.json["result"]["arguments"] == canary

        for number in range(6):
            async with asyncio.TaskGroup() as callers:
                for each in range(6):
                    callers.create_task(hangs_up(number + each))
                callers.create_task(stays(number))
        assert house.reconnects == 0
        assert house.connected
        assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


# ---------------------------------------------------------------- slow readers


async def test_a_slow_reader_holds_up_its_own_stream_and_fills_no_memory(front: Front, behind: Behind) -> None:
    piece = b"x" * 32 * 1024
    for _ in range(1024):
        behind.pieces.put_nowait(piece)
    behind.pieces.put_nowait(None)
    async with dial(front.port, receive_buffer=8 * 1024) as wire:
        await wire.send(get("/mcp/stream"))
        await wire.head()
        connection = front.connection
        await until(lambda: connection.flow.write_paused)
        taken = behind.taken
        await asyncio.sleep(0.05)
        held = connection.transport.get_write_buffer_size()
        assert behind.taken == taken
        assert held < 256 * 1024
        assert taken < 16 * MIB  # what the kernel took
        async with dial(front.port) as other:
            await other.send(post("/mcp/echo", b"meanwhile"))
            assert echoed(await other.answer()) == ("/mcp/echo", "meanwhile")
        size = 0
        while chunk := await wire.chunk():
            size += len(chunk)
        assert size == 1024 * len(piece)


async def test_a_client_that_reads_no_answers_gets_no_more_of_them(front: Front, behind: Behind) -> None:
    async with dial(front.port, receive_buffer=4 * 1024) as wire:
        await wire.send(post("/mcp/echo", b"x" * 50_000))
        await until(lambda: behind.started)
        connection = front.connection

        async def send_on() -> None:
            while True:
                await wire.send(post("/mcp/echo", b"x" * 50_000) * 4)

        sending = asyncio.create_task(send_on())
        await until(lambda: connection.flow.write_paused and connection.flow.read_paused)
        started = len(behind.started)
        await asyncio.sleep(0.1)
        sending.cancel()
        assert len(behind.started) == started
        assert connection.transport.get_write_buffer_size() < 256 * 1024


@pytest.mark.usefixtures("quick")
async def test_a_client_that_reads_nothing_loses_its_connection(
    front: Front, behind: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door_module.Door.close_within, "__defaults__", (0.1,))
    async with dial(front.port, receive_buffer=4 * 1024) as wire:
        await wire.send(get("/mcp/stream"))
        await wire.head()
        connection = front.connection
        while not connection.flow.write_paused:
            behind.pieces.put_nowait(b"x" * 64 * 1024)
            await asyncio.sleep(0)
        connection.cycle.abort()  # as for a result that turns out too large
        await until(lambda: not front.state.connections)


@pytest.mark.usefixtures("quick")
async def test_a_client_that_asks_the_api_and_never_reads_loses_its_connection(front: Front, behind: Behind) -> None:
    async with dial(front.port, receive_buffer=4 * 1024) as wire:
        sending = asyncio.create_task(wire.send(*[post("/v1/echo", b"x" * 60_000)] * 200))
        await until(lambda: behind.started)
        await until(lambda: not front.state.connections and not front.state.tasks)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def test_a_client_that_reads_late_but_reads_keeps_its_connection(
    front: Front, behind: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door_module, "BODY_TIME", 0.7)
    async with dial(front.port, receive_buffer=4 * 1024) as wire:
        sending = asyncio.create_task(wire.send(*[post("/v1/echo", b"x" * 60_000)] * 100))
        await until(lambda: behind.started)
        door = front.connection
        await until(lambda: door.flow.write_paused)
        for _ in range(100):
            assert echoed(await wire.answer())[0] == "/v1/echo"
        await sending
        assert await wire.is_open(0.8)


# ---------------------------------------------------------------- connectors


async def test_an_upgrade_becomes_a_link_on_the_same_connection(front: Front, behind: Behind) -> None:
    async with dial(front.port) as wire:
        await wire.send(post("/mcp/echo", b"first") + post("/v1/echo", b"second"))
        await wire.answer()
        await wire.answer()
        await wire.send(get("/connect", CONNECTOR, *UPGRADE))
        assert await wire.reader.readexactly(4) == b"LINK"
        await wire.send(b"anything")
        assert await wire.reader.readexactly(8) == b"anything"
    assert not front.state.connections, "uvicorn no longer has it on its books"


@pytest.mark.usefixtures("quick")
async def test_no_timer_touches_a_link(behind: Behind) -> None:
    async with fronted(behind, keep_alive=0) as front, dial(front.port) as wire:
        upgrade = get("/connect", CONNECTOR, *UPGRADE)
        await wire.send(upgrade[:40], upgrade[40:])
        assert await wire.reader.readexactly(4) == b"LINK"
        assert await wire.is_open(0.5)  # five times every time there is
        await wire.send(b"alive")
        assert await wire.reader.readexactly(5) == b"alive"


REFUSED_UPGRADES = {
    "wrong token": (get("/connect", "Authorization: Bearer nobody", *UPGRADE), 401, "connector_unauthenticated"),
    "no token": (get("/connect", *UPGRADE), 401, "connector_unauthenticated"),
    "no upgrade": (get("/connect", CONNECTOR), 400, "bad_http"),
    "no connection: upgrade": (get("/connect", CONNECTOR, *UPGRADE[1:]), 400, "bad_http"),
    "another upgrade": (get("/connect", CONNECTOR, UPGRADE[0], "Upgrade: h2c", *UPGRADE[2:]), 400, "bad_http"),
    "an older version": (
        get("/connect", CONNECTOR, *UPGRADE[:2], "Sec-WebSocket-Version: 8", UPGRADE[3]),
        400,
        "bad_http",
    ),
    "a bad nonce": (get("/connect", CONNECTOR, *UPGRADE[:3], "Sec-WebSocket-Key: c2hvcnQ="), 400, "bad_http"),
    "a nonce that another text stands for": (
        get("/connect", CONNECTOR, *UPGRADE[:3], "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR=="),
        400,
        "bad_http",
    ),
    "POST": (post("/connect", b"", CONNECTOR, *UPGRADE), 400, "bad_http"),
    "a body": (get("/connect", CONNECTOR, "Content-Length: 2", *UPGRADE), 400, "bad_http"),
    "a chunked body": (get("/connect", CONNECTOR, "Transfer-Encoding: chunked", *UPGRADE), 400, "bad_http"),
    "HTTP/1.0": (get("/connect", CONNECTOR, *UPGRADE).replace(b"HTTP/1.1", b"HTTP/1.0"), 400, "bad_http"),
    "bytes after the head": (get("/connect", CONNECTOR, *UPGRADE) + b"\x82\x80", 400, "bad_http"),
    "a second token": (get("/connect", CONNECTOR, CONNECTOR, *UPGRADE), 400, "header_ambiguous"),
    "a token in the address": (get("/connect?token=asl_tun_x", CONNECTOR, *UPGRADE), 400, "credential_in_url"),
    "another origin": (get("/connect", CONNECTOR, "Origin: https://evil.example", *UPGRADE), 403, "origin_not_allowed"),
}


@pytest.mark.parametrize(("said", "status", "code"), REFUSED_UPGRADES.values(), ids=REFUSED_UPGRADES.keys())
async def test_a_refused_upgrade_is_answered_in_http(
    front: Front, behind: Behind, said: bytes, status: int, code: str
) -> None:
    async with dial(front.port) as wire:
        await wire.send(said)
        answer = await wire.answer()
        assert (answer.status, answer.code, answer.headers["content-type"]) == (status, code, "application/json")
        assert answer.hint
        assert await wire.rest() == b""
    assert behind.upgraded == []


async def test_an_upgrade_behind_a_running_call_does_not_take_its_answer(front: Front, behind: Behind) -> None:
    async with dial(front.port) as wire:
        await wire.send(post("/mcp/slow") + get("/connect", CONNECTOR, *UPGRADE))
        await behind.begins("/mcp/slow")
        behind.go.set()
        assert echoed(await wire.answer()) == ("/mcp/slow", "")
        assert await wire.rest() == b""
    assert behind.upgraded == []


@pytest.mark.parametrize("path", ["/mcp/echo", "/v1/echo"])
@pytest.mark.parametrize("wanted", ["h2c", "websocket", "TLS/1.0"])
async def test_an_upgrade_elsewhere_is_no_upgrade_and_its_body_no_second_request(
    front: Front, behind: Behind, path: str, wanted: str
) -> None:
    """The parser takes what follows an upgrade for another protocol, and would read the body as the next request."""
    body = get("/mcp/smuggled")
    asks = (f"Upgrade: {wanted}", "Connection: keep-alive, Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQ")
    async with dial(front.port) as wire:
        await wire.send(post(path, body, *asks) + get(path, *asks) + post(path, b"third"))
        for expected in (body.decode(), "", "third"):
            assert echoed(await wire.answer()) == (path, expected)
        head = post(path, b"", "Transfer-Encoding: chunked", *asks).replace(b"Content-Length: 0\r\n", b"")
        for byte in head + chunked(body[:9], body[9:]):
            await wire.send(bytes([byte]))
        assert echoed(await wire.answer()) == (path, body.decode())
        await wire.send(get(path, f"Upgrade: {wanted}", "Connection: close, Upgrade"))
        assert (await wire.answer()).headers["connection"] == "close"
    assert "/mcp/smuggled" not in behind.started


@pytest.mark.parametrize("order", [("key", "length"), ("length", "key")])
@pytest.mark.parametrize("name", ["Authorization: Bearer ", "X-Api-Key: "])
async def test_two_keys_on_one_connection_are_two_callers(name: str, order: tuple[str, str]) -> None:
    """Also where the length, which may differ, stands before the key."""

    async def who(request: McpRequest) -> None:
        request.whole(200, [], request.caller().id.encode())

    def key(credential: str | None, _address: str) -> Principal:
        return Principal(str(credential), None, frozenset({Scope.INVOKE}))

    async with listening(who, Behind().admit, Behind().app(), identify=key) as front, dial(front.port) as wire:
        for caller in ("one", "two", "one", "one", "two"):
            fields = {"key": name + caller, "length": "Content-Length: 0"}
            await wire.send(get("/mcp/a", *[fields[each] for each in order]))
            assert (await wire.answer()).body == caller.encode()


async def test_a_header_limit_holds_for_all_of_a_body_that_was_announced_with_an_upgrade(front: Front) -> None:
    async with dial(front.port) as wire:
        length = f"Content-Length: {door_module.MCP_BODY + 1}"
        await wire.send(get("/mcp/echo", length, "Upgrade: h2c", "Connection: Upgrade"))
        assert (await wire.answer()).status == 413
    assert guard.MAX_HEAD == 16 * 1024


# ---------------------------------------------------------------- an answer that did not wait for the body


async def test_a_request_that_was_answered_is_not_answered_again(front: Front) -> None:
    """An application may answer before it has read the body; what is wrong with the rest is no second answer."""
    async with dial(front.port) as wire:
        await wire.send(post("/v1/deaf", b"", "Transfer-Encoding: chunked").replace(b"Content-Length: 0\r\n", b""))
        assert (await wire.answer()).status == 401
        await wire.send(b"not a chunk\r\n")
        assert await wire.rest() == b""
