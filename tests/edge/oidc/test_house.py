"""A whole house that believes an issuer: its users call tools, and the private side sees their tenant."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from arrowslit.errors import Error
from arrowslit.relay import endpoint
from tests.edge.oidc.kit import Site, claims, issuer, jwk, jwks, site, token
from tests.support.inprocess import AGENT, ENDPOINT, JSON, House, bearer, in_process
from tests.support.wire import dial, request, until

AUDIENCE = "arrowslit"


@pytest_asyncio.fixture
async def published() -> AsyncIterator[Site]:
    async with site() as found:
        found.put("/keys", jwks(jwk("ES256")))
        yield found


@pytest_asyncio.fixture
async def house(tmp_path: Path, published: Site) -> AsyncIterator[House]:
    pinned = issuer(issuer=published.url, jwks_url=f"{published.url}/keys", agents=frozenset({AGENT}), leeway=0)
    async with in_process(tmp_path, issuers=(pinned,)) as house:
        await until(lambda: published.seen)
        yield house


def token_of(published: Site, *, seconds: float = 60, number: int = 0, **changed: Any) -> str:
    now = time.time()
    said = {"iss": published.url, "iat": now - 1, "exp": now + seconds} | changed
    return token(claims(**said), number=number)


async def believed(house: House, published: Site) -> None:
    """Return once the keys are there."""
    for _ in range(1000):
        if (await house.call("echo", key=token_of(published))).status == 200:
            return
        await asyncio.sleep(0.005)


@pytest.mark.promise("P7")
async def test_the_tenant_of_a_token_reaches_the_private_side_and_nothing_else_does(
    house: House, published: Site
) -> None:
    await believed(house, published)
    said = ("X-Tenant-Id: globex", "X_Tenant: globex", "Baggage: tenant=globex")
    for tenant in ("acme", "initech"):
        async with dial(house.port) as wire:
            await wire.send(house.post(house.message("echo"), *said, key=token_of(published, org=tenant)))
            assert (await wire.answer()).status == 200
        (meta,) = [value for name, value in _meta(house).items() if name.endswith("/tenant")]
        assert meta == tenant
    asked = [record for record in house.ledger() if record["kind"] == "asked"]
    assert {record["tenant"] for record in asked} == {"acme", "initech"}
    assert all("jwt_" in json.dumps(record) for record in asked)


def _meta(house: House) -> dict[str, Any]:
    found = json.loads(house.target.requests[-1].body)["params"]["_meta"]
    assert isinstance(found, dict)
    return found


async def test_wrong_tokens_are_nobody_at_every_door(house: House, published: Site) -> None:
    await believed(house, published)
    served = len(house.target.requests)
    for text in (
        token_of(published, number=1),
        token_of(published, aud=[AUDIENCE, "evil"]),
        token_of(published, org={"id": "acme"}),
        token_of(published, seconds=-1),
        token_of(published, iss="https://other.example"),
        "eyJhbGciOiJub25lIn0.e30.",
    ):
        for method, path in (("POST", ENDPOINT), ("GET", ENDPOINT), ("GET", "/v1/agents"), ("GET", "/v1/x")):
            async with dial(house.port) as wire:
                body = house.message("echo") if method == "POST" else b""
                await wire.send(request(method, path, body, headers=(*JSON, bearer(text))))
                answer = await wire.answer()
            assert (answer.status, answer.code) == (401, "unauthenticated"), (method, path)
    assert len(house.target.requests) == served


async def test_a_token_opens_what_its_scopes_say(house: House, published: Site) -> None:
    await believed(house, published)
    text = token_of(published)

    assert (await house.api("GET", "/v1/agents", key=text))["data"]
    for method, path in (("POST", "/v1/tunnels"), ("GET", "/v1/keys"), ("POST", "/v1/keys")):
        async with dial(house.port) as wire:
            await wire.send(request(method, path, b"{}" if method == "POST" else b"", headers=(*JSON, bearer(text))))
            answer = await wire.answer()
        assert (answer.status, answer.code) == (403, "forbidden")


@pytest.mark.promise("P11")
async def test_a_stream_ends_with_its_token(house: House, published: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    await believed(house, published)
    monkeypatch.setattr(endpoint, "EXPIRY_CHECK", 0.05)
    async with house.open_stream(key=token_of(published)) as kept:
        async with house.open_stream(key=token_of(published, seconds=1.5)) as stream:
            with pytest.raises(asyncio.IncompleteReadError):
                await stream.chunk()
        assert await kept.is_open()


async def test_without_the_keys_of_its_issuer_a_token_waits(tmp_path: Path, published: Site) -> None:
    published.put("/keys", b"", "503 Busy")
    pinned = issuer(issuer=published.url, jwks_url=f"{published.url}/keys", agents=frozenset({AGENT}))
    async with in_process(tmp_path, issuers=(pinned,)) as house:
        await until(lambda: published.seen)
        answer = await house.call("echo", key=token_of(published))

        assert (answer.status, answer.code) == (503, Error("idp_unavailable", "").code)
        await house.good_call()  # API keys need nobody else
