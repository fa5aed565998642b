"""What the proxy gives the code of one session: so many connections, bytes and seconds, and no memory of its own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import uvloop

from arrowslit.clock import SystemClock
from arrowslit.policy.egress import Refusal, read_rules
from arrowslit.sandbox.egress.attempt import Attempt, Caps, Verdict
from arrowslit.sandbox.egress.proxy import Proxy
from tests.sandbox.egress.kit import HOST, LOOPBACK, OK, PATIENCE, Gate, Names, gate, hello, origin, private

pytestmark = pytest.mark.promise("P13")


def get(port: int, host: str = HOST) -> bytes:
    return f"GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()


def post(port: int, length: int) -> bytes:
    head = f"POST http://{HOST}:{port}/ HTTP/1.1\r\nHost: {HOST}:{port}\r\nContent-Length: {length}\r\n\r\n"
    return head.encode()


async def closed(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the proxy closes, by a reset too."""
    found = bytearray()
    with suppress(ConnectionError):
        while data := await asyncio.wait_for(reader.read(65536), PATIENCE):
            found += data
    return bytes(found)


# ---------------------------------------------------------------- how many


async def test_a_hundred_connections_at_once_are_all_served() -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 50000\r\nconnection: close\r\n\r\n" + bytes(50000)
    async with origin(answer=answer) as server, gate(private(server.port)) as at:
        answers = await asyncio.gather(*(at.say(get(server.port)) for _ in range(100)))
        attempts = [await at.attempt() for _ in range(100)]

    assert set(answers) == {answer}
    assert {(each.verdict, each.bytes_in) for each in attempts} == {(Verdict.ALLOWED, len(answer))}
    assert len(server.received) == 100


async def test_a_connection_too_many_waits_until_another_ends() -> None:
    async with origin() as server, gate(private(server.port), caps=Caps(connections=2)) as at:
        held = [await at.open() for _ in range(2)]
        for _, writer in held:
            writer.write(b"GET ")
        waiting = asyncio.create_task(at.say(get(server.port)))
        while (await asyncio.wait({waiting}, timeout=0.05))[0]:
            raise AssertionError("it was served beside two others")
        held[0][1].close()
        assert await waiting == OK
        held[1][1].close()


async def test_attempts_come_no_faster_than_they_may() -> None:
    """So that a loop of refused attempts does not fill the records."""
    begun = asyncio.get_running_loop().time()
    async with gate([], caps=Caps(burst=2, per_second=20)) as at:
        await asyncio.gather(*(at.say(get(80)) for _ in range(5)))
        assert asyncio.get_running_loop().time() - begun >= 0.15
        assert {(await at.attempt()).verdict for _ in range(5)} == {Verdict.DENIED}


# ---------------------------------------------------------------- slow senders

SHORT = Caps(first=0.15, idle=30)


@pytest.mark.parametrize("begun", [b"", b"GET http://allowed.test/ HTTP/1.1\r\n"])
async def test_a_request_that_comes_drop_by_drop_is_cut(begun: bytes) -> None:
    async with gate([HOST], caps=SHORT) as at:
        reader, writer = await at.open()
        writer.write(begun)
        for drop in b"X-A: bcdefghijklmnopqrstuvwxyz" * (1 if begun else 0):
            writer.write(bytes([drop]))
            await asyncio.sleep(0.002)
        answer = await closed(reader)
        writer.close()
        attempt = await at.attempt()

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert (attempt.verdict, attempt.code) == (Verdict.DENIED, Refusal.REQUEST_TOO_SLOW)


async def test_a_tls_hello_that_does_not_come_is_cut() -> None:
    async with origin() as server, gate(private(server.port), caps=SHORT) as at:
        reader, writer = await at.open()
        writer.write(f"CONNECT {HOST}:{server.port} HTTP/1.1\r\n\r\n".encode() + hello(HOST)[:-1])
        await closed(reader)
        writer.close()
        attempt = await at.attempt()

    assert (attempt.code, attempt.bytes_out) == (Refusal.REQUEST_TOO_SLOW, 0)


async def test_a_hundred_slow_senders_do_not_keep_others_out_for_long() -> None:
    caps = Caps(connections=20, first=0.1, burst=1000)
    async with origin() as server, gate(private(server.port), caps=caps) as at:
        slow = [await at.open() for _ in range(100)]
        for _, writer in slow:
            writer.write(b"GET http://")
        assert await at.say(get(server.port)) == OK
        for _, writer in slow:
            writer.close()


async def test_who_connects_and_says_nothing_leaves_no_record() -> None:
    async with origin() as server, gate(private(server.port)) as at:
        _, writer = await at.open()
        writer.close()
        await at.say(get(server.port))

        assert (await at.attempt()).verdict is Verdict.ALLOWED


@pytest.mark.parametrize(("caps", "code"), [(Caps(idle=0.1), Refusal.IDLE), (Caps(total=0.1), Refusal.TOTAL_TIME)])
async def test_a_server_that_does_not_answer_is_given_up(caps: Caps, code: Refusal) -> None:
    async with origin(answer=b"", stubborn=True) as server, gate(private(server.port), caps=caps) as at:
        await at.say(get(server.port))
        attempt = await at.attempt()

    assert (attempt.verdict, attempt.code) == (Verdict.CUT, code)
    assert attempt.seconds >= 0.1


async def test_what_goes_on_slowly_is_not_idle() -> None:
    async with origin(stubborn=True) as server, gate(private(server.port), caps=Caps(idle=1)) as at:
        _, writer = await at.open()
        writer.write(post(server.port, 100))
        for _ in range(5):
            await asyncio.sleep(0.25)
            writer.write(b"x")
        writer.close()
        attempt = await at.attempt()

    assert (attempt.code, bytes(server.received[0][-5:])) == (Refusal.CONNECTION_LOST, b"xxxxx")


# ---------------------------------------------------------------- how much


async def test_no_byte_more_goes_out_than_the_session_may_send() -> None:
    async with origin(stubborn=True) as server, gate(private(server.port), caps=Caps(bytes_out=100_000)) as at:
        await at.say(post(server.port, 200_000) + bytes(200_000))
        first = await at.attempt()
        second = await at.refused(get(server.port))

    assert (first.verdict, first.code, first.bytes_out) == (Verdict.CUT, Refusal.BYTES_OUT, 100_000)
    assert len(server.received[0]) <= 100_000
    assert (second.verdict, second.code, len(server.received)) == (Verdict.DENIED, Refusal.BYTES_OUT, 1)


async def test_no_byte_more_comes_in_than_the_session_may_receive() -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 60000\r\nconnection: close\r\n\r\n" + bytes(60000)
    async with origin(answer=answer) as server, gate(private(server.port), caps=Caps(bytes_in=100_000)) as at:
        assert await at.say(get(server.port)) == answer
        assert len(await at.say(get(server.port))) <= 100_000 - len(answer)
        first, second = await at.attempt(), await at.attempt()
        third = await at.refused(get(server.port))

    assert (first.verdict, first.bytes_in) == (Verdict.ALLOWED, len(answer))
    assert (second.code, second.bytes_in) == (Refusal.BYTES_IN, 100_000 - len(answer))
    assert third.code is Refusal.BYTES_IN


async def test_a_client_that_does_not_read_makes_the_server_wait() -> None:
    """What is under way lies in the buffers of sockets, a few MiB at most, and not in the proxy."""
    answer = b"HTTP/1.1 200 OK\r\n\r\n" + bytes(64 << 20)
    async with origin(answer=answer) as server, gate(private(server.port), caps=Caps(idle=0.3)) as at:
        with socket.create_connection(("127.0.0.1", at.port)) as client:
            client.sendall(get(server.port))
            attempt = await at.attempt()

    assert (attempt.verdict, attempt.code) == (Verdict.CUT, Refusal.IDLE)
    assert attempt.bytes_in < 16 << 20


async def test_a_refusal_arrives_although_its_client_was_still_sending() -> None:
    async with gate([]) as at:
        for _ in range(5):
            assert b"sandbox_egress_denied" in await at.say(post(80, 4 << 20) + bytes(4 << 20))


# ---------------------------------------------------------------- its own life


async def test_what_is_open_when_the_proxy_is_stopped_is_cut_and_recorded() -> None:
    async with origin(answer=b"", stubborn=True) as server:
        async with gate(private(server.port)) as at:
            reader, writer = await at.open()
            writer.write(get(server.port))
            await asyncio.wait_for(server.asked.wait(), PATIENCE)
        attempt = at.attempts.get_nowait()
        await closed(reader)
        writer.close()

    assert (attempt.host, attempt.verdict, attempt.code) == (HOST, Verdict.CUT, Refusal.CLOSED)
    assert attempt.bytes_out > 0


async def test_a_record_that_is_being_kept_when_the_proxy_is_stopped_is_kept() -> None:
    keeping, go, kept = asyncio.Event(), asyncio.Event(), []

    async def record(attempt: Attempt) -> None:
        keeping.set()
        await go.wait()
        kept.append(attempt)

    async with listener() as listening:
        proxy = Proxy([], resolve=Names({}), record=record, clock=SystemClock())
        serving = asyncio.create_task(proxy.serve(listening))
        await Gate(listening.getsockname()[1], [], Names({})).say(get(80))
        await asyncio.wait_for(keeping.wait(), PATIENCE)
        serving.cancel()
        asyncio.get_running_loop().call_later(0.02, go.set)
        await asyncio.wait({serving})

    assert [each.code for each in kept] == [Refusal.HOST_NOT_ALLOWED]


async def test_nothing_more_gets_out_when_an_attempt_cannot_be_recorded() -> None:
    async def record(attempt: Attempt) -> None:
        raise OSError("the disk is full")

    async with origin() as server, listener() as listening:
        rules = read_rules(private(server.port))
        proxy = Proxy(rules, resolve=Names(LOOPBACK), record=record, clock=SystemClock())
        serving = asyncio.create_task(proxy.serve(listening))
        await Gate(listening.getsockname()[1], rules, Names({})).say(get(server.port))
        with pytest.raises(ExceptionGroup) as failed:
            await asyncio.wait_for(serving, PATIENCE)

    assert failed.group_contains(OSError, match="the disk is full")


async def test_a_defect_is_recorded_and_hits_one_connection_only(caplog: pytest.LogCaptureFixture) -> None:
    class Defective(Names):
        async def __call__(self, host: str, port: int) -> list[str]:
            if not self.asked:
                self.asked.append(host)
                raise ZeroDivisionError
            return ["127.0.0.1"]

    async with origin() as server, gate(private(server.port), names=Defective({})) as at:
        await at.say(get(server.port))
        attempt = await at.attempt()
        assert await at.say(get(server.port)) == OK

    assert (attempt.verdict, attempt.code) == (Verdict.FAILED, Refusal.INTERNAL_ERROR)
    assert "ZeroDivisionError" in caplog.text


@asynccontextmanager
async def listener() -> AsyncIterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


async def through_unix(path: Path) -> tuple[bytes, Attempt]:
    """The answer to one request through a proxy on a Unix socket, and what was recorded."""
    kept: asyncio.Queue[Attempt] = asyncio.Queue()
    async with origin() as server:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
            listening.listen()
            rules = read_rules(private(server.port))
            proxy = Proxy(rules, resolve=Names(LOOPBACK), record=kept.put, clock=SystemClock())
            serving = asyncio.create_task(proxy.serve(listening))
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(get(server.port))
            answer = await asyncio.wait_for(reader.read(), PATIENCE)
            writer.close()
            attempt = await asyncio.wait_for(kept.get(), PATIENCE)
            serving.cancel()
            await asyncio.wait({serving})
    return answer, attempt


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_unix_listener_and_uvloop_serve_as_well(tmp_path: Path, loop: type[asyncio.AbstractEventLoop]) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        answer, attempt = runner.run(through_unix(tmp_path / "out"))

    assert answer == OK
    assert attempt.verdict is Verdict.ALLOWED
