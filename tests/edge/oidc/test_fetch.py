from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from arrowslit.edge.oidc import fetch as module
from arrowslit.edge.oidc.fetch import MAX_DOCUMENT, Fetch, Unreachable, fetch_keys, web
from tests.edge.oidc.kit import Published, Site, issuer, site


@pytest_asyncio.fixture
async def published() -> AsyncIterator[Site]:
    async with site() as found:
        yield found


@pytest_asyncio.fixture
async def fetch() -> AsyncIterator[Fetch]:
    async with web() as found:
        yield found


def discovery(**said: object) -> bytes:
    return json.dumps(said).encode()


async def refused(fetch: Fetch, url: str) -> str:
    with pytest.raises(Unreachable) as found:
        await fetch(url)
    return str(found.value)


async def test_a_document_comes_as_it_is(published: Site, fetch: Fetch) -> None:
    body = b" " * MAX_DOCUMENT

    assert await fetch(published.put("/keys", body)) == body
    assert published.seen == ["/keys"]


async def test_a_redirect_is_not_followed(published: Site, fetch: Fetch) -> None:  # AUTHN-20
    url = published.put("/keys", b"", "302 Found", location=f"{published.url}/latest/meta-data")

    assert "answered 302" in await refused(fetch, url)
    assert published.seen == ["/keys"]


async def test_no_more_is_read_than_keys_need(published: Site, fetch: Fetch) -> None:  # AUTHN-20
    large = published.put("/large", b"x" * (10 * 1024 * 1024))
    packed = published.put("/packed", gzip.compress(b"x" * 100_000_000), content_encoding="gzip")
    published.answers["/endless"] = (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"ffff\r\n" + b"x" * 65535
    )

    assert "more than 262144 bytes" in await refused(fetch, large)
    assert "encoding" in await refused(fetch, packed)
    assert "Error" in await refused(fetch, published.url + "/endless")


async def test_it_is_not_waited_for_ever(published: Site, fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIME", 0.1)
    published.answers["/keys"] = None
    published.answers["/half"] = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"

    assert "took more than 0.1 s" in await refused(fetch, f"{published.url}/keys")
    assert "Error" in await refused(fetch, f"{published.url}/half")


@pytest.mark.parametrize("status", ["204 No Content", "404 Not Found", "500 Oops", "503 Busy"])
async def test_only_an_answer_counts(status: str, published: Site, fetch: Fetch) -> None:
    assert status[:3] in await refused(fetch, published.put("/keys", b"", status))


async def test_a_place_that_is_not_there_is_said_as_such(published: Site, fetch: Fetch) -> None:
    published.answers["/garbage"] = b"\x00\x01not http\r\n\r\n"
    server = await asyncio.start_server(lambda _, __: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()

    assert "ConnectError" in await refused(fetch, f"http://127.0.0.1:{port}/keys")
    assert "Error" in await refused(fetch, f"https://127.0.0.1:{published.url.rpartition(':')[2]}/keys")
    assert "Error" in await refused(fetch, f"{published.url}/garbage")
    assert "Invalid" in await refused(fetch, "http://[::1")


async def test_nothing_in_the_environment_leads_it_elsewhere(published: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"{published.url}/proxy")
    async with site() as other, web() as fetch:
        assert await fetch(other.put("/keys", b"{}")) == b"{}"

    assert published.seen == []


# ---------------------------------------------------------------- discovery


async def test_an_issuer_says_where_its_keys_are(published: Site, fetch: Fetch) -> None:
    url = published.put("/tenant/keys", b'{"keys": []}')
    name = f"{published.url}/tenant"
    published.put("/tenant/.well-known/openid-configuration", discovery(issuer=name, jwks_uri=url))

    assert await fetch_keys(issuer(issuer=name), fetch) == b'{"keys": []}'
    assert published.seen == ["/tenant/.well-known/openid-configuration", "/tenant/keys"]


SAID: list[dict[str, object]] = [
    {"issuer": "https://other.example.com/", "jwks_uri": "https://login.example.com/keys"},
    {"issuer": "https://login.example.com", "jwks_uri": "https://login.example.com/keys"},
    {"jwks_uri": "https://login.example.com/keys"},
    {"issuer": "https://login.example.com/"},
    {"issuer": "https://login.example.com/", "jwks_uri": ["https://login.example.com/keys"]},
    {"issuer": "https://login.example.com/", "jwks_uri": "http://login.example.com/keys"},
    {"issuer": "https://login.example.com/", "jwks_uri": "http://169.254.169.254/latest/meta-data"},
    {"issuer": "https://login.example.com/", "jwks_uri": "http://127.0.0.1:8420/keys"},
    {"issuer": "https://login.example.com/", "jwks_uri": "file:///etc/passwd"},
    {"issuer": "https://login.example.com/", "jwks_uri": "/keys"},
]


@pytest.mark.parametrize("said", SAID)
async def test_discovery_leads_only_where_it_may(said: dict[str, object]) -> None:
    published = Published()
    published.document = discovery(**said)

    with pytest.raises(Unreachable):
        await fetch_keys(issuer(), published)

    assert published.asked == [issuer().discovery_url]


async def test_what_is_no_discovery_document_leads_nowhere() -> None:
    published = Published()
    published.document = b"<html>"

    with pytest.raises(Unreachable, match="is no discovery document"):
        await fetch_keys(issuer(), published)


async def test_where_the_operator_said_nothing_is_discovered() -> None:
    published = Published()

    await fetch_keys(issuer(jwks_url="https://login.example.com/certs"), published)

    assert published.asked == ["https://login.example.com/certs"]
