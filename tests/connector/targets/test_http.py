from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from arrowslit.clock import SystemClock
from arrowslit.connector.targets import http
from arrowslit.connector.targets.http import HttpTarget
from arrowslit.connector.targets.target import Cancel, Lost, NotStarted, Request, Target, TooLarge
from arrowslit.connector.targets.upstream import asking as asking_module
from arrowslit.connector.targets.upstream.address import HostPort, read_endpoint
from arrowslit.connector.targets.upstream.health import FRESH
from arrowslit.errors import CODES, Error
from tests.connector.targets.scripted import (
    WAIT,
    Line,
    Remembered,
    Script,
    Server,
    always,
    answer,
    ask,
    echo,
    get,
    post,
    serving,
)


@asynccontextmanager
async def targeting(script: Script, authorization: str | None = None) -> AsyncIterator[tuple[HttpTarget, Server]]:
    """A target in front of a server that runs `script`. It is already connected, which counts as one connection."""
    async with serving(script) as server, asyncio.timeout(WAIT), target_of(server, authorization) as target:
        yield target, server


def target_of(server: Server, authorization: str | None = None) -> HttpTarget:
    return HttpTarget(read_endpoint(server.url), SystemClock(), authorization=authorization)


async def exchanged(target: Target, request: Request) -> Remembered:
    reply = Remembered()
    await ask(target, request, reply)
    return reply


# ---------------------------------------------------------------- what goes out


async def test_the_request_is_the_callers_in_method_headers_and_body_and_the_connectors_in_the_rest() -> None:
    passed = (
        ("accept", "application/json, text/event-stream"),
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-param-sku", "A100"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    )
    async with targeting(echo) as (target, server):
        reply = await exchanged(target, post(b'{"id":1}', *passed))

        assert reply.body == b'{"id":1}'
        assert server.requests[0].line == "POST /mcp HTTP/1.1"
        assert server.requests[0].headers == {
            "host": f"127.0.0.1:{server.port}",
            "connection": "keep-alive",
            "accept-encoding": "identity",
            "content-type": "application/json",
            "content-length": "8",
            **dict(passed),
        }


@pytest.mark.promise("P10")
async def test_what_the_public_side_adds_has_no_way_in() -> None:
    smuggled = [
        ("authorization", "Bearer of-the-caller"),
        ("cookie", "session=1"),
        ("host", "evil.example"),
        ("origin", "https://evil.example"),
        ("content-length", "0"),
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
        ("upgrade", "websocket"),
        ("x-forwarded-for", "10.0.0.1"),
        ("proxy-authorization", "Basic eA=="),
        (":path", "/admin"),
    ]
    async with targeting(echo, authorization="Bearer of-the-target") as (target, server):
        await exchanged(target, post(b"{}", *smuggled))

        seen = server.requests[0]
        assert seen.line == "POST /mcp HTTP/1.1"
        assert seen.headers["host"] == f"127.0.0.1:{server.port}"
        assert seen.headers["authorization"] == "Bearer of-the-target"
        assert seen.body == b"{}"
        assert not set(seen.headers) & {"cookie", "origin", "transfer-encoding", "upgrade", "x-forwarded-for", ":path"}


@pytest.mark.promise("P10")
@pytest.mark.promise("P3")
@pytest.mark.parametrize(
    "request_",
    [
        post(b"{}", ("mcp-name", "a\r\nhost: evil.example")),
        post(b"{}", ("mcp-name", "a\nx: y")),
        post(b"{}", ("mcp-name", "a\x00")),
        post(b"{}", ("mcp-name", "naïve")),
        post(b"{}", ("mcp-a: b\r\nx", "y")),
        get("GET /admin HTTP/1.1\r\nx: y\r\n\r\nGET"),
        get("PUT"),
        get("CONNECT"),
    ],
)
async def test_a_request_that_could_be_read_as_two_is_never_started(request_: Request) -> None:
    async with targeting(echo) as (target, server):
        reply = Remembered()
        with pytest.raises(NotStarted):
            await ask(target, request_, reply)

        assert reply.times_dispatched == 0
        assert server.requests == []


# ---------------------------------------------------------------- what comes back


@pytest.mark.parametrize("status", [200, 202, 204, 400, 401, 403, 404, 405, 406, 413, 421, 429, 500, 503])
async def test_a_status_passes_unchanged(status: int) -> None:
    body = b"" if status == 204 else b'{"jsonrpc":"2.0"}'
    async with targeting(always(answer(body, f"{status} Whatever", "mcp-session-id: s1"))) as (target, _):
        reply = await exchanged(target, post())

    assert (reply.status, reply.body) == (status, body)
    assert list(reply.headers) == [("mcp-session-id", "s1")]


async def test_each_event_of_a_stream_is_passed_on_when_it_comes() -> None:
    async def script(line: Line) -> None:
        await line.request()
        await line.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for event in events:
            await line.send(b"%x\r\n%s\r\n" % (len(event), event))
            await heard.acquire()
        await line.send(b"0\r\n\r\n")

    events = [b": ping\r\n\r\n", b"data: 1\n\n", b"data: " + b"2" * 5000 + b"\n\n"]
    heard = asyncio.Semaphore(0)
    async with targeting(script) as (target, _), asyncio.TaskGroup() as group:
        reply = Remembered()
        group.create_task(ask(target, get(), reply))
        for count in range(1, len(events) + 1):
            await reply.until(lambda reply, count=count: reply.body == b"".join(events[:count]))  # type: ignore[misc]
            heard.release()


async def test_large_bodies_pass_in_both_directions() -> None:
    body = random.Random(1).randbytes(4 << 20)
    async with targeting(echo) as (target, server):
        reply = await exchanged(target, post(body))
        again = await exchanged(target, post(b"small"))

        assert reply.body == body
        assert again.body == b"small"
        assert server.connections == 1


async def test_a_refusal_that_comes_before_the_body_was_taken_is_passed_on() -> None:
    async def script(line: Line) -> None:
        await line.reader.readuntil(b"\r\n\r\n")
        await line.send(answer(b"no", "413 Content Too Large", "connection: close"))
        await line.closed_by_client()

    async with targeting(script) as (target, _):
        reply = await exchanged(target, post(b"x" * (4 << 20)))

    assert (reply.status, reply.body) == (413, b"no")


@pytest.mark.parametrize("announced", [True, False])
async def test_an_answer_beyond_the_limit_is_too_large(announced: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking_module, "RESULT_LIMIT", 1000)
    head = b"HTTP/1.1 200 OK\r\n" + (b"content-length: 1001\r\n\r\n" if announced else b"\r\n")
    async with targeting(always(head, b"a" * 1001)) as (target, _):
        reply = Remembered()
        with pytest.raises(TooLarge):
            await ask(target, post(), reply)

    assert reply.status == (None if announced else 200)
    assert len(reply.body) <= 1000


@pytest.mark.promise("P15")
async def test_a_slow_reader_stops_its_own_answer_and_nobody_elses() -> None:
    async def script(line: Line) -> None:
        while (seen := await line.request()).body != b"large":
            await line.send(answer(seen.body))
        await line.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (count * len(piece)))
        for _ in range(count):
            await line.send(piece)
            sent.append(piece)

    piece, count = bytes(range(256)) * 1024, 120
    sent: list[bytes] = []
    async with targeting(script) as (target, _), asyncio.TaskGroup() as group:
        slow = Remembered()
        slow.open.clear()
        large = group.create_task(ask(target, post(b"large"), slow))
        await slow.until(lambda reply: reply.body != b"")

        for _ in range(200):  # as many turns of the loop as the large answer would have needed, and more
            assert (await exchanged(target, post(b"small"))).body == b"small"
        assert len(sent) < count
        assert len(slow.body) < 1 << 20

        slow.open.set()
        await large
        assert slow.body == piece * count


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
async def test_a_redirect_is_an_answer_that_says_so_and_leads_nowhere(
    status: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(echo) as elsewhere:
        redirect = always(answer(b"", status, f"location: {elsewhere.url}", "set-cookie: a=1"))
        async with targeting(redirect) as (target, server):
            called = await exchanged(target, post(b'{"jsonrpc":"2.0","id":"c-1","method":"tools/call"}'))
            notified = await exchanged(target, post(b'{"jsonrpc":"2.0","method":"notifications/initialized"}'))
            listened = await exchanged(target, get())

        assert elsewhere.connections == 0
        assert len(server.requests) == 3
    message = json.loads(called.body)
    assert (called.status, list(called.headers)) == (200, [("content-type", "application/json")])
    assert (message["id"], message["error"]["code"]) == ("c-1", CODES["redirect_refused"].jsonrpc)
    assert message["error"]["data"]["code"] == "redirect_refused"
    assert [reply.status for reply in (notified, listened)] == [502, 502]
    for reply in (called, notified, listened):
        assert str(elsewhere.port) not in f"{reply.headers} {reply.body!r}"
    assert elsewhere.url in caplog.text


@pytest.mark.promise("P6")
@pytest.mark.parametrize("field", ["content-encoding: gzip", "content-type: application/json; charset=utf-7"])
async def test_an_answer_that_others_read_in_another_way_is_one_that_says_so(field: str) -> None:
    async with targeting(always(answer(b"secret", "200 OK", field))) as (target, _):
        called = await exchanged(target, post(b'{"jsonrpc":"2.0","id":"c-1","method":"tools/call"}'))
        listened = await exchanged(target, get())

        assert "cannot be read" in str(target.state()["last_error"])
    error = json.loads(called.body)["error"]
    assert (called.status, error["data"]["code"]) == (200, "answer_unreadable")
    assert "compression" in error["data"]["hint"]
    assert (listened.status, listened.body) == (502, b"")


# ---------------------------------------------------------------- what may be claimed when it breaks


@pytest.mark.promise("P3")
async def test_a_target_that_is_not_there_was_not_started() -> None:
    async with serving(echo) as server:
        pass
    async with target_of(server) as target:
        reply = Remembered()
        with pytest.raises(NotStarted):
            await ask(target, post(), reply)

        assert reply.times_dispatched == 0


@pytest.mark.promise("P3")
@pytest.mark.parametrize(
    ("sent", "status", "body"),
    [
        (b"", None, b""),
        (b"HTTP/1.1 200 OK\r\ncontent-", None, b""),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello", 200, b"hello"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", 200, b"hello"),
        (b"HTTP/1.1 200 OK\r\nlong: " + b"a" * 70_000, None, b""),
        (b"220 mail.internal ESMTP\r\n", None, b""),
    ],
)
async def test_what_breaks_after_the_request_was_handed_over_is_lost(
    sent: bytes, status: int | None, body: bytes
) -> None:
    async def script(line: Line) -> None:
        await line.request()
        await line.send(sent)

    async with targeting(script) as (target, server):
        reply = Remembered()
        with pytest.raises(Lost) as lost:
            await ask(target, post(), reply)

        assert (reply.times_dispatched, reply.status, reply.body) == (1, status, body)
        assert len(server.requests) == 1
        assert target.state()["last_error"] == str(lost.value)


async def closes_after_reading(line: Line) -> None:
    await line.request()


async def closes_without_reading(line: Line) -> None:
    await line.reader.read(1)


async def resets(line: Line) -> None:
    await line.reader.read(1)
    line.reset()


@pytest.mark.promise("P4")
@pytest.mark.promise("P3")
@pytest.mark.parametrize("breaks", [closes_after_reading, closes_without_reading, resets])
async def test_a_post_on_a_kept_connection_that_breaks_is_lost_and_never_sent_again(breaks: Script) -> None:
    arrived = 0

    async def script(line: Line) -> None:
        nonlocal arrived
        arrived += 1
        await line.send(answer((await line.request()).body))
        await breaks(line)
        arrived += 1

    async with targeting(script) as (target, server):
        assert (await exchanged(target, post(b"first"))).body == b"first"
        reply = Remembered()
        with pytest.raises(Lost):
            await ask(target, post(b"write"), reply)
        await server.left.acquire()

        assert (reply.times_dispatched, arrived, server.connections) == (1, 2, 1)
        assert (await exchanged(target, post(b"third"))).body == b"third"
        assert [seen.body for seen in server.requests].count(b"write") == (breaks is closes_after_reading)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_what_may_be_repeated_is_asked_once_more_when_a_kept_connection_was_dead(method: str) -> None:
    async def script(line: Line) -> None:
        await line.send(answer((await line.request()).line.encode()))
        await line.request()

    async with targeting(script) as (target, server):
        for _ in range(2):
            reply = await exchanged(target, get(method))
            assert reply.body == f"{method} /mcp HTTP/1.1".encode()
            assert reply.times_dispatched == 1

        assert len(server.requests) == 3
        assert server.connections == 2


async def test_after_one_dead_connection_the_others_are_not_tried() -> None:
    async def script(line: Line) -> None:
        await line.send(answer((await line.request()).body))
        await line.request()

    async with targeting(script) as (target, server):
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(exchanged(target, post()))
        assert server.connections == 3

        assert (await exchanged(target, get())).status == 200
        assert server.connections == 4


@pytest.mark.promise("P3")
async def test_a_server_that_went_away_between_two_tries_is_lost() -> None:
    async def script(line: Line) -> None:
        await line.send(answer((await line.request()).body))
        await line.request()
        stop.set()
        await stopped.wait()

    stop, stopped = asyncio.Event(), asyncio.Event()
    running = serving(script)
    server = await running.__aenter__()
    async with asyncio.timeout(WAIT), target_of(server) as target:
        await exchanged(target, post())
        reply = Remembered()
        asking = asyncio.create_task(ask(target, get(), reply))
        await stop.wait()
        await running.__aexit__(None, None, None)
        with pytest.raises(Lost, match="and then: no connection"):
            await asking

    assert reply.times_dispatched == 1


# ---------------------------------------------------------------- giving up

SESSION = ("mcp-session-id", "s1")
CALL = b'{"jsonrpc":"2.0","id":"c-1","method":"tools/call","params":{"name":"slow"}}'


async def accepts(line: Line) -> None:
    await line.send(answer(b"", "202 Accepted"))


async def hangs_up(line: Line) -> None:
    return


class Slow:
    """A server that never answers a call; `notified` is what it does when it is told to stop."""

    def __init__(self, notified: Script = accepts) -> None:
        self.notified = notified
        self.left = asyncio.Event()
        self.told: asyncio.Queue[bytes] = asyncio.Queue()

    async def __call__(self, line: Line) -> None:
        seen = await line.request()
        if b"notifications/cancelled" in seen.body:
            self.told.put_nowait(seen.body)
            await self.notified(line)
        else:
            await line.closed_by_client()
            self.left.set()


async def given_up(target: HttpTarget, request: Request, why: Cancel | None) -> None:
    """Start an exchange and cancel it once the target may have seen it."""
    reply = Remembered()
    asking = asyncio.create_task(ask(target, request, reply))
    await reply.until(lambda reply: reply.times_dispatched == 1)
    reply.cancel = why
    asking.cancel()
    await asyncio.wait([asking], timeout=WAIT)
    assert asking.cancelled()


async def test_after_its_deadline_a_server_of_the_legacy_era_is_told() -> None:
    slow = Slow()
    async with targeting(slow) as (target, server):
        await given_up(target, post(CALL, SESSION, ("mcp-protocol-version", "2025-11-25")), Cancel.DEADLINE)

        await slow.left.wait()
        notice = json.loads(await slow.told.get())
        assert notice["method"] == "notifications/cancelled"
        assert notice["params"]["requestId"] == "c-1"
        assert "id" not in notice
        headers = server.requests[1].headers
        assert (headers["mcp-session-id"], headers["mcp-protocol-version"]) == ("s1", "2025-11-25")


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (post(CALL, SESSION), Cancel.CALLER_LEFT),
        (post(CALL, SESSION), Cancel.LINK_LOST),
        (post(CALL, SESSION), None),
        (post(CALL), Cancel.DEADLINE),  # the modern era: closing the stream is the cancel
        (get("GET", SESSION), Cancel.DEADLINE),
    ],
)
async def test_otherwise_closing_the_connection_says_it_all(request_: Request, why: Cancel | None) -> None:
    slow = Slow()
    async with targeting(slow) as (target, server):
        await given_up(target, request_, why)

        await slow.left.wait()
        assert len(server.requests) == 1
        assert target.state()["connections"] == 0


@pytest.mark.parametrize("notified", [Line.closed_by_client, hangs_up])
async def test_the_last_word_is_short(notified: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking_module, "LAST_WORD", 0.05)
    slow = Slow(notified)
    async with targeting(slow) as (target, _):
        await given_up(target, post(CALL, SESSION), Cancel.DEADLINE)


async def test_the_last_word_to_a_server_that_is_gone_is_not_missed() -> None:
    running = serving(Line.closed_by_client)
    server = await running.__aenter__()
    async with target_of(server) as target:
        reply = Remembered()
        asking = asyncio.create_task(ask(target, post(CALL, SESSION), reply))
        await reply.until(lambda reply: reply.times_dispatched == 1)
        reply.cancel = Cancel.DEADLINE
        asking.cancel()
        await running.__aexit__(None, None, None)
        with pytest.raises(asyncio.CancelledError):
            await asking


@pytest.mark.promise("P3")
async def test_who_gives_up_while_waiting_for_a_connection_was_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "CONNECTIONS", 1)
    slow = Slow()
    async with targeting(slow) as (target, server):
        first, second = Remembered(), Remembered()
        running = asyncio.create_task(ask(target, post(CALL), first))
        await first.until(lambda reply: reply.times_dispatched == 1)
        waiting = asyncio.create_task(ask(target, post(CALL, SESSION), second))
        await asyncio.sleep(0)
        second.cancel = Cancel.DEADLINE
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

        assert second.times_dispatched == 0
        running.cancel()
        await asyncio.wait([running])
        await slow.left.wait()
        assert len(server.requests) == 1


# ---------------------------------------------------------------- whose answer is it


@pytest.mark.promise("P5")
async def test_every_answer_reaches_the_exchange_that_asked() -> None:
    chance = random.Random(7)

    async def script(line: Line) -> None:
        while True:
            body = (await line.request()).body
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
            whole = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
            cut = chance.randrange(len(whole))
            await line.send(whole[:cut])
            await asyncio.sleep(0)
            await line.send(whole[cut:])

    async def caller(target: Target, name: int) -> None:
        for number in range(20):
            body = b'{"id":1,"canary":"%d-%d"}' % (name, number)
            if chance.random() < 0.1:
                asking = asyncio.create_task(exchanged(target, post(body)))
                await asyncio.sleep(0)
                asking.cancel()
                await asyncio.wait([asking])
            assert (await exchanged(target, post(body))).body == body

    async with targeting(script) as (target, server), asyncio.TaskGroup() as group:
        for name in range(50):
            group.create_task(caller(target, name))

    assert server.connections < 300  # they were kept


@pytest.mark.promise("P5")
async def test_a_second_answer_to_the_same_request_reaches_nobody() -> None:
    async def script(line: Line) -> None:
        body = (await line.request()).body
        await line.send(answer(body) + answer(b"surplus"))
        await line.closed_by_client()

    async with targeting(script) as (target, server):
        for body in (b"one", b"two", b"three"):
            assert (await exchanged(target, post(body))).body == body

        assert len(server.requests) == 3


# ---------------------------------------------------------------- state


class TurnedByHand:
    """A clock that stands still."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT):
        while not true():  # noqa: ASYNC110 - a state that is asked for has no event
            await asyncio.sleep(0)


async def test_a_target_that_is_down_at_the_start_is_used_when_it_comes(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(echo) as server:
        endpoint = read_endpoint(server.url)
    clock = TurnedByHand()
    async with HttpTarget(endpoint, clock) as target:
        assert target.state()["ready"] is False
        assert "no connection to http://127.0.0.1" in str(target.state()["detail"])
        assert "does not answer yet" in caplog.text

        async with serving(echo, port=endpoint.place.port) as server:
            target.state()
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.close()
            await server.left.acquire()
            assert (target.state()["ready"], server.connections) == (False, 1)  # fresh enough: nobody looked again

            clock.time += FRESH + 0.1
            await until(lambda: target.state()["ready"] is True)
            assert (target.state()["detail"], server.connections) == (None, 2)


async def test_a_target_that_goes_away_is_noticed_when_somebody_asks() -> None:
    clock = TurnedByHand()
    running = serving(echo)
    server = await running.__aenter__()
    async with HttpTarget(read_endpoint(server.url), clock) as target:
        state = target.state()
        assert (state["ready"], state["detail"], state["connections"], state["last_error"]) == (True, None, 1, None)

        await running.__aexit__(None, None, None)
        await until(lambda: target.state()["connections"] == 0)
        assert target.state()["ready"] is True
        clock.time += FRESH + 0.1
        await until(lambda: target.state()["ready"] is False)
        assert target.state()["last_error"] is not None


async def test_after_a_loss_the_next_question_looks_again_at_once() -> None:
    async def script(line: Line) -> None:
        await line.request()
        stop.set()
        await line.reader.read()

    stop = asyncio.Event()
    running = serving(script)
    server = await running.__aenter__()
    async with HttpTarget(read_endpoint(server.url), TurnedByHand()) as target:
        asking = asyncio.create_task(exchanged(target, post()))
        await stop.wait()
        await running.__aexit__(None, None, None)
        with pytest.raises(Lost):
            await asking

        await until(lambda: target.state()["ready"] is False)


@pytest.mark.promise("P10")
async def test_a_name_that_leads_to_this_machine_is_no_target_unless_it_is_listed() -> None:
    async def here(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    async with serving(echo) as server:
        endpoint = read_endpoint(f"http://inventory.internal:{server.port}/mcp")
        with pytest.raises(Error, match="target_invalid") as caught:
            async with HttpTarget(endpoint, SystemClock(), resolve=here):
                pass
        assert "hosts" in str(caught.value.hint)
        assert server.connections == 0

        listed = {HostPort("127.0.0.1", server.port)}
        async with HttpTarget(endpoint, SystemClock(), resolve=here, allowed=listed) as target:
            assert (await exchanged(target, post(b"hello"))).body == b"hello"
            assert server.requests[0].headers["host"] == f"inventory.internal:{server.port}"


async def test_leaving_a_target_ends_what_runs() -> None:
    async with serving(Line.closed_by_client) as server, asyncio.timeout(WAIT):
        reply = Remembered()
        async with target_of(server) as target:
            asking = asyncio.create_task(ask(target, post(), reply))
            await reply.until(lambda reply: reply.times_dispatched == 1)
        with pytest.raises(Lost):
            await asking
        with pytest.raises(NotStarted):
            await ask(target, post(), Remembered())


# ---------------------------------------------------------------- a real server


async def test_a_server_of_the_mcp_sdk_answers_through_it(canary: str) -> None:
    call = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {
            "name": "echo",
            "arguments": {"canary": "c-1"},
            "_meta": {
                "dev.arrowslit/tenant": "acme",
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
                "io.modelcontextprotocol/clientCapabilities": {},
            },
        },
    }
    headers = (("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", "echo"))
    async with HttpTarget(read_endpoint(canary), SystemClock()) as target:
        for _ in range(2):
            reply = await exchanged(target, post(json.dumps(call).encode(), *headers))

            assert reply.status == 200
            assert b'"canary":"c-1"' in reply.body.replace(b" ", b"")
            assert b"acme" in reply.body
        assert target.state()["connections"] == 1
