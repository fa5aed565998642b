from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from arrowslit.clock import SystemClock
from arrowslit.connector.targets.target import NotStarted
from arrowslit.connector.targets.upstream import pool as pool_module
from arrowslit.connector.targets.upstream.address import HostPort, read_endpoint
from arrowslit.connector.targets.upstream.connection import Connection
from arrowslit.connector.targets.upstream.pool import AddressRefused, Pool, Resolve, Way, system_resolve
from arrowslit.connector.targets.upstream.reading import ask
from tests.connector.targets.scripted import WAIT, Line, answer, echo, serving


@asynccontextmanager
async def pooling(
    url: str,
    *,
    resolve: Resolve = system_resolve,
    allowed: Sequence[HostPort] = (),
    tls: ssl.SSLContext | None = None,
    limit: int = 4,
    idle_limit: float = 60.0,
) -> AsyncIterator[Pool]:
    way = Way(read_endpoint(url), allowed, resolve, tls)
    pool = Pool(way, SystemClock(), limit=limit, idle_limit=idle_limit)
    try:
        async with asyncio.timeout(WAIT):
            yield pool
    finally:
        await pool.close()
        assert pool.open == 0


async def use(connection: Connection, body: bytes = b"hello") -> bytes:
    """One exchange with `echo`."""
    head = b"POST /mcp HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % len(body)
    _, reading = await ask(connection, head, body)
    got = await reading.read()
    assert await reading.read() == b""
    return got


async def test_the_connection_used_last_is_used_next() -> None:
    async with serving(echo) as server, pooling(server.url) as pool:
        first, second = await pool.take(), await pool.take()
        for connection in (first, second):
            await use(connection)
            pool.give_back(connection)

        assert await pool.take() is second
        assert await pool.take() is first
        assert server.connections == pool.open == 2


async def test_an_idle_connection_is_closed_soon() -> None:
    async def script(line: Line) -> None:
        await line.send(answer((await line.request()).body))
        await line.closed_by_client()
        closed.set()

    closed = asyncio.Event()
    async with serving(script) as server, pooling(server.url, idle_limit=0.02) as pool:
        connection = await pool.take()
        await use(connection)
        pool.give_back(connection)

        await closed.wait()
        await connection.gone.wait()
        assert pool.open == 0


async def test_a_connection_that_was_idle_for_too_long_is_not_used() -> None:
    async with serving(echo) as server, pooling(server.url, idle_limit=0.0) as pool:
        old = await pool.take()
        await use(old)
        pool.give_back(old)

        assert await pool.take() is not old
        await old.gone.wait()


async def test_a_connection_that_the_server_closed_is_not_used() -> None:
    async def script(line: Line) -> None:
        await line.send(answer((await line.request()).body))
        await kept.wait()

    kept = asyncio.Event()
    async with serving(script) as server, pooling(server.url) as pool:
        connection = await pool.take()
        await use(connection)
        pool.give_back(connection)
        kept.set()
        await connection.gone.wait()

        assert await use(await pool.take()) == b"hello"
        assert server.connections == 2


async def test_an_unfinished_exchange_ends_its_connection() -> None:
    async with serving(Line.closed_by_client) as server, pooling(server.url) as pool:
        connection = await pool.take()
        asking = asyncio.create_task(use(connection))
        await asyncio.sleep(0)
        asking.cancel()
        pool.give_back(connection)

        await connection.gone.wait()
        await server.left.acquire()
        assert pool.open == 0


async def test_beyond_the_limit_one_waits_for_a_place() -> None:
    async with serving(echo) as server, pooling(server.url, limit=2) as pool:
        first, second = await pool.take(), await pool.take()
        gave_up = asyncio.create_task(pool.take())
        waiting = asyncio.create_task(pool.take())
        await asyncio.sleep(0)
        assert not waiting.done()

        gave_up.cancel()
        pool.give_back(first)

        assert await waiting is first
        assert gave_up.cancelled()
        pool.give_back(second)
        assert await pool.take() is second
        assert server.connections == 2


async def test_a_place_is_free_again_after_a_failed_connect() -> None:
    async with serving(echo) as server:
        gone = server.url
    async with pooling(gone, limit=1) as pool:
        for _ in range(3):
            with pytest.raises(NotStarted, match=r"no connection to http://127\.0\.0\.1"):
                await pool.take()


async def test_a_pool_that_was_closed_opens_nothing() -> None:
    async with serving(echo) as server, pooling(server.url, limit=1) as pool:
        held = await pool.take()
        waiting = asyncio.create_task(pool.take())
        await asyncio.sleep(0)
        await pool.close()
        pool.give_back(held)

        with pytest.raises(NotStarted, match="being stopped"):
            await waiting
        assert server.connections == 1


async def test_a_pool_that_is_closed_while_it_connects_keeps_nothing() -> None:
    async def slowly(host: str, port: int) -> Sequence[str]:
        asked.set()
        await closed.wait()
        return ["127.0.0.1"]

    asked, closed = asyncio.Event(), asyncio.Event()
    async with serving(Line.closed_by_client) as server:
        url, listed = f"http://stock.internal:{server.port}/", [HostPort("127.0.0.1", server.port)]
        async with pooling(url, resolve=slowly, allowed=listed) as pool:
            connecting = asyncio.create_task(pool.take())
            await asked.wait()
            await pool.close()
            closed.set()

            with pytest.raises(NotStarted):
                await connecting
            await server.left.acquire()


async def test_a_server_that_never_shakes_hands_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "CONNECT_LIMIT", 0.05)
    context = ssl.create_default_context()
    async with (
        serving(Line.closed_by_client) as server,
        pooling(f"https://127.0.0.1:{server.port}/", tls=context) as pool,
    ):
        with pytest.raises(NotStarted, match=r"no answer within 0\.05 s"):
            await pool.take()


class Names:
    """A resolver that gives the next answer each time it is asked."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        return self.answers.pop(0)


@pytest.mark.promise("P10")
async def test_a_name_is_resolved_once_and_leads_only_where_it_may(unused_tcp_port: int) -> None:
    """Whoever answers for the name later (DNS rebinding) moves nobody, and nobody to where it may not lead."""
    names, place = Names(["127.0.0.1"], ["127.0.0.2"], ["10.0.0.5"]), [HostPort("127.0.0.1", unused_tcp_port)]
    url = f"http://inventory.internal:{unused_tcp_port}/mcp"
    async with pooling(url, resolve=names, allowed=place) as pool:
        async with serving(echo, port=unused_tcp_port) as server:
            for connection in [await pool.take() for _ in range(3)]:
                await use(connection)
            assert server.connections == 3
        assert names.asked == [("inventory.internal", unused_tcp_port)]

        with pytest.raises(AddressRefused, match=r"127\.0\.0\.2"):
            await pool.take()
        assert len(names.asked) == 2, "it was asked again, once nobody was there any more"


async def test_a_server_that_moved_is_found_where_it_is_now() -> None:
    names = Names(["127.0.0.9"], ["127.0.0.1"])
    async with serving(echo) as server:
        place = [HostPort(address, server.port) for address in ("127.0.0.1", "127.0.0.9")]
        async with pooling(f"http://stock.internal:{server.port}/", resolve=names, allowed=place) as pool:
            with pytest.raises(NotStarted):
                await pool.take()
            assert await use(await pool.take()) == b"hello"


async def test_the_next_address_is_tried_when_the_first_does_not_answer() -> None:
    async with serving(echo) as server:
        place = [HostPort(address, server.port) for address in ("127.0.0.1", "127.0.0.9")]
        names = Names(["127.0.0.9", "127.0.0.1"])
        async with pooling(f"http://stock.internal:{server.port}/", resolve=names, allowed=place) as pool:
            assert await use(await pool.take()) == b"hello"


async def test_an_address_and_localhost_need_no_resolver() -> None:
    async with serving(echo) as server:
        for host in ("127.0.0.1", "localhost", "mcp.localhost"):
            async with pooling(f"http://{host}:{server.port}/mcp", resolve=Names()) as pool:
                assert await use(await pool.take()) == b"hello"


async def test_a_name_that_nobody_knows_is_not_started() -> None:
    async def nobody(host: str, port: int) -> Sequence[str]:
        raise OSError("Name or service not known")

    async with pooling("http://inventory.internal:8080/mcp", resolve=nobody) as pool:
        with pytest.raises(NotStarted, match="Name or service not known"):
            await pool.take()


async def test_the_system_resolver_gives_each_address_once() -> None:
    found = await system_resolve("localhost", 80)

    assert len(found) == len(set(found))
    assert set(found) <= {"127.0.0.1", "::1"}


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(echo) as trap, serving(echo) as server:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, trap.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        async with pooling(server.url) as pool:
            await use(await pool.take())

        assert (trap.connections, server.connections) == (0, 1)


def certificate(folder: Path, name: str) -> tuple[ssl.SSLContext, Path]:
    """A self-signed certificate for `name`: the server's context, and the file that a client would have to trust."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    alternative: x509.GeneralName = x509.DNSName(name)
    if name[0].isdigit():
        alternative = x509.IPAddress(ipaddress.ip_address(name))
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "public.pem", folder / "private.pem"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return context, public


@pytest.mark.parametrize(
    ("name", "host", "trusted", "works"),
    [
        ("stock.internal", "stock.internal", True, True),
        ("127.0.0.1", "127.0.0.1", True, True),
        ("stock.internal", "other.internal", True, False),
        ("stock.internal", "127.0.0.1", True, False),
        ("stock.internal", "stock.internal", False, False),
    ],
)
async def test_the_certificate_is_checked_for_the_name_of_the_target(
    tmp_path: Path, name: str, host: str, trusted: bool, works: bool
) -> None:
    context, public = certificate(tmp_path, name)
    client = ssl.create_default_context(cafile=public if trusted else None)
    async with serving(echo, tls=context) as server:
        names, listed = Names(["127.0.0.1"]), [HostPort("127.0.0.1", server.port)]
        async with pooling(f"https://{host}:{server.port}/", resolve=names, allowed=listed, tls=client) as pool:
            if works:
                connection = await pool.take()
                assert await use(connection) == b"hello"
                pool.give_back(connection)
                assert await pool.take() is connection
            else:
                with pytest.raises(NotStarted, match="certificate"):
                    await pool.take()
            assert server.requests == [] or works
