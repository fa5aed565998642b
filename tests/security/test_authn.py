"""Who is calling: whatever is shown instead of a good credential opens no door, and no door says why."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from arrowslit.edge.oidc import fetch
from tests.edge.oidc.kit import Site, claims, issuer, jwk, jwks, site, token
from tests.harness import PATIENCE
from tests.security.cases import case
from tests.security.walk import nobodys, ways
from tests.security.world import World
from tests.support.inprocess import AGENT, ENDPOINT, JSON, House, bearer, in_process
from tests.support.wire import Answer, dial, request, until

in_module = pytest.mark.asyncio(loop_scope="module")
UNKNOWN = "asl_sk_" + "0" * 43 + "1OAEwg"
WEBSOCKET = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
CALL = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{}}}'


# ---------------------------------------------------------------- every route

FABRICATED = {
    "none": [None],
    "an unknown key": [UNKNOWN],
    "made up": ["sk-x1234567890", "Bearer", "null", "undefined", "admin", "0", "asl_sk_", "e30.e30.e30", "a" * 4000],
}


@case("AUTHN-01", "shown", {"without a credential": FABRICATED["none"]})
def test_nobody_comes_in_anywhere(here: World, shown: Sequence[str | None]) -> None:
    refused_everywhere(here, shown)


@case("AUTHN-02", "shown", {name: FABRICATED[name] for name in ("an unknown key", "made up")})
def test_nobody_comes_in_anywhere_with_something_made_up(here: World, shown: Sequence[str | None]) -> None:
    refused_everywhere(here, shown)


def refused_everywhere(here: World, shown: Sequence[str | None]) -> None:
    """Of all methods of all paths: the same answer, whatever is shown, and nothing at the private side."""
    before, turn = len(here.log.calls), cycle(shown)
    doors = [
        (way.method, way.filled({name: nobodys(name + "_1") for name in known(way)}), way.body) for way in ways(here)
    ]
    assert len(doors) > 50
    doors += [(method, f"/mcp/{here.agents['acme']}/notes", {}) for method in ("POST", "GET", "DELETE")]
    answers = set()
    for method, path, body in doors:
        credential = next(turn)
        fields = {} if credential is None else {"authorization": f"Bearer {credential}"}
        answer = here.http.request(method, path, json=body, headers=fields)
        said = {**answer.json(), "request_id": None}
        assert answer.status_code == 401, (method, path, credential)
        assert answer.headers["www-authenticate"] == "Bearer"
        answers.add((path.startswith("/mcp/"), json.dumps(said)))
    assert len(answers) == 2, answers
    assert len(here.log.calls) == before


def known(way: Any) -> list[str]:
    return [*way.names, *map(way.known_as, way.names)]


# ---------------------------------------------------------------- our own keys


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with in_process(tmp_path_factory.mktemp("authn")) as house:
        yield house


async def asked(house: House, shown: str, *, method: str = "POST", path: str = ENDPOINT) -> Answer:
    async with dial(house.port) as wire:
        body = CALL if method == "POST" else b""
        said = request(method, path, body, headers=(*JSON, shown)).decode().encode("latin-1", "replace")
        await wire.send(said)
        return await wire.answer()


@in_module
@case("AUTHN-03", "method", {"a call that waits": "POST", "a stream": "GET"})
async def test_a_revoked_key_ends_what_it_has_open_and_opens_nothing(house: House, method: str) -> None:
    revoked = await house.make_key("acme")
    body = house.message("wait") if method == "POST" else b""
    before = len(house.target.requests)
    async with dial(house.port) as wire:
        await wire.send(request(method, ENDPOINT, body, headers=(*JSON, bearer(revoked))))
        await until(lambda: len(house.target.requests) > before)
        await house.api("DELETE", f"/v1/keys/{await house.key_id(revoked)}")
        if method == "POST":
            answer = await wire.answer()
            assert (answer.status, answer.code) == (401, "unauthenticated")
        else:
            assert await wire.rest() != b""
    for path in (ENDPOINT, "/v1/agents"):
        answer = await asked(house, bearer(revoked), method="GET", path=path)
        assert (answer.status, answer.code) == (401, "unauthenticated")
    await house.good_call()


@in_module
@case("AUTHN-04", "path", {"at the MCP door": ENDPOINT, "at the API": "/v1/agents"})
async def test_an_expired_key_opens_nothing(house: House, path: str) -> None:
    ends = time.time() + 0.3
    expired = await house.make_key(
        "acme", expires_at=f"{time.strftime('%FT%T', time.gmtime(ends))}.{int(ends % 1 * 1000):03}Z"
    )
    await until(lambda: time.time() > ends)
    answer = await asked(house, bearer(expired), method="GET", path=path)
    assert (answer.status, answer.code) == (401, "unauthenticated")


BENT: dict[str, Callable[[str], str]] = {
    "one character less": lambda key: key[:-1],
    "one character more": lambda key: key + "A",
    "in capitals": str.upper,
    "in other letters": str.swapcase,
    "a blank within": lambda key: key[:20] + " " + key[20:],
    "a comma behind it": lambda key: key + ",",
    "twice": lambda key: f"{key}, {key}",
    "in quotes": lambda key: f'"{key}"',
    "percent-encoded": lambda key: key.replace("_", "%5F"),
    "a zero-width space behind it": lambda key: key + "\u200b",
    "NEL behind it": lambda key: key + "\x85",
    "NBSP before it": lambda key: "\xa0" + key,
    "another prefix": lambda key: key.replace("asl_sk_", "asl_tun_"),
    "without its prefix": lambda key: key.removeprefix("asl_sk_"),
    "its prefix alone": lambda key: key[:15],
    "another checksum": lambda key: key[:-1] + ("A" if key[-1] != "A" else "B"),
    "a wildcard": lambda key: key[:20] + "*",
    "SQL": lambda key: "' or 1=1 --",
}


@in_module
@case("AUTHN-09", "bend", BENT)
async def test_a_key_that_was_bent_is_no_key(house: House, bend: Callable[[str], str]) -> None:
    before = len(house.target.requests)
    for shown in (bearer(bend(house.key)), f"x-api-key: {bend(house.key)}"):
        for method, path in (("POST", ENDPOINT), ("GET", "/v1/agents")):
            answer = await asked(house, shown, method=method, path=path)
            assert (answer.status, answer.code) == (401, "unauthenticated"), shown
    assert len(house.target.requests) == before


SCHEMES = {
    "Basic": lambda key: "Basic " + base64.b64encode(f"user:{key}".encode()).decode(),
    "Token": lambda key: f"Token {key}",
    "Digest": lambda key: f'Digest username="{key}"',
    "no scheme": lambda key: key,
    "Bearer twice": lambda key: f"Bearer Bearer {key}",
    "a tab for a blank": lambda key: f"Bearer\t{key}",
}


@in_module
@case("AUTHN-02", "scheme", SCHEMES)
async def test_a_credential_of_another_scheme_is_none(house: House, scheme: Callable[[str], str]) -> None:
    answer = await asked(house, f"Authorization: {scheme(house.key)}")
    assert (answer.status, answer.code) == (401, "unauthenticated")


ADDRESSES = {
    "one address": lambda n: "192.0.2.7",
    "what it says of itself": lambda n: f"10.0.{n % 250}.1, 192.0.2.7",
    "the addresses of one network": lambda n: f"2001:db8::{n:x}",
}


@case("AUTHN-22", "address", ADDRESSES)
async def test_guessing_ends_soon_and_costs_nobody_else_anything(tmp_path: Path, address: Callable[[int], str]) -> None:
    """Behind a proxy, whose word on addresses is believed: from loopback more is allowed than a test wants to send."""
    proxies = (ipaddress.ip_network("127.0.0.0/8"),)
    async with in_process(tmp_path, proxies=proxies) as house:
        seen: dict[str, list[int]] = {}
        for door, path in (("the MCP door", ENDPOINT), ("the API", "/v1/agents")):
            seen[door] = []
            async with dial(house.port) as wire:
                for number in range(60):
                    wrong = (f"X-Forwarded-For: {address(number)}", bearer(UNKNOWN))
                    await wire.send(request("GET", path, headers=wrong))
                    seen[door].append((await wire.answer()).status)
        assert seen["the MCP door"][:30] == [401] * 30
        assert set(seen["the MCP door"][31:]) == {429}
        assert set(seen["the API"]) == {429}, "the doors count together"
        async with dial(house.port) as wire:
            await wire.send(request("GET", ENDPOINT, headers=(f"X-Forwarded-For: {address(1)}", bearer(UNKNOWN))))
            assert int((await wire.answer()).headers["retry-after"]) >= 1
            for source in (address(1), "198.51.100.1"):
                await wire.send(house.post(CALL, f"X-Forwarded-For: {source}"))
                assert (await wire.answer()).status == 200
            await wire.send(request("GET", "/v1/agents", headers=("X-Forwarded-For: 198.51.100.1", bearer(UNKNOWN))))
            assert (await wire.answer()).status == 401


# ---------------------------------------------------------------- tokens of others


@dataclass(frozen=True, slots=True)
class Believing:
    """A house that believes `one` and `other`, two issuers whose keys are on one site."""

    house: House
    site: Site

    @property
    def one(self) -> str:
        return f"{self.site.url}/one"

    @property
    def other(self) -> str:
        return f"{self.site.url}/other"

    def said(self, **changed: Any) -> dict[str, Any]:
        now = int(time.time())
        return claims(**{"iss": self.one, "iat": now - 1, "exp": now + 600, "nbf": ..., **changed})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def believing(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Believing]:
    async with site() as published:
        pinned = []
        for number, name in enumerate(("one", "other")):
            url = published.put(f"/{name}.jwks", jwks(jwk("ES256", number=number)))
            pinned.append(issuer(issuer=f"{published.url}/{name}", jwks_url=url, agents=frozenset({AGENT})))
        async with in_process(tmp_path_factory.mktemp("tokens"), issuers=tuple(pinned)) as house:
            found = Believing(house, published)
            for name, number in ((found.one, 0), (found.other, 1)):
                await believed(house, token(found.said(iss=name), number=number))
            yield found


async def believed(house: House, good: str) -> None:
    """Return once the keys of its issuer are there."""
    async with asyncio.timeout(PATIENCE):
        while (await house.call("echo", key=good)).status != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def unsigned(content: Mapping[str, object], **header: object) -> str:
    named = {"alg": "none", "typ": "JWT", "kid": "k1", **header}
    parts = [base64.urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=").decode() for each in (named, content)]
    return ".".join(parts) + "."


def with_our_public_key(scene: Believing, algorithm: str) -> str:
    """HMAC, with what everybody can read of the issuer's key for a secret."""
    secret = json.dumps(jwk("ES256")).encode()
    name = {"HS256": hashlib.sha256, "HS512": hashlib.sha512}[algorithm]
    return token(scene.said(), header={"alg": algorithm}, signature=lambda said: hmac.new(secret, said, name).digest())


Lie = Callable[[Believing], str]
JWTS: Mapping[str, Mapping[str, Lie]] = {
    "AUTHN-10": {
        **{
            f"alg {name}": (lambda scene, name=name: unsigned(scene.said(), alg=name))  # type: ignore[misc]
            for name in ("none", "None", "nOnE", "", "NONE", None, ["none"])
        },
        "alg none, signed": lambda scene: token(scene.said(), header={"alg": "none"}),
        "no alg": lambda scene: token(scene.said(), header={"alg": ...}),
        "HS256 with the public key": lambda scene: with_our_public_key(scene, "HS256"),
        "HS512 with the public key": lambda scene: with_our_public_key(scene, "HS512"),
        "another algorithm of the same kind": lambda scene: token(scene.said(), algorithm="ES384"),
        "a signature of zeros": lambda scene: token(scene.said(), signature=lambda _: b"\0" * 64),
        "no signature": lambda scene: token(scene.said()).rpartition(".")[0] + ".",
        "a signature for something else": lambda scene: ".".join(
            [*token(scene.said(org="evil")).split(".")[:2], token(scene.said()).split(".")[2]]
        ),
    },
    "AUTHN-12": {
        "crit x": lambda scene: token(scene.said(), header={"crit": ["x"]}),
        "crit of nothing": lambda scene: token(scene.said(), header={"crit": []}),
        "crit b64": lambda scene: token(scene.said(), header={"crit": ["b64"], "b64": False}),
    },
    "AUTHN-13": {
        "jwk": lambda scene: token(scene.said(), number=7, header={"jwk": jwk("ES256", number=7), "kid": ...}),
        "jwk and kid": lambda scene: token(scene.said(), number=7, header={"jwk": jwk("ES256", number=7)}),
        "jku": lambda scene: token(scene.said(), number=7, header={"jku": f"{scene.site.url}/evil.jwks"}),
        "x5u": lambda scene: token(scene.said(), number=7, header={"x5u": f"{scene.site.url}/evil.pem"}),
        "x5c": lambda scene: token(scene.said(), number=7, header={"x5c": ["MIIB"]}),
        "kid is a file": lambda scene: token(scene.said(), number=7, header={"kid": "../../dev/null"}),
        "kid is SQL": lambda scene: token(scene.said(), number=7, header={"kid": "' or 1=1"}),
        "kid is a URL": lambda scene: token(scene.said(), number=7, header={"kid": f"{scene.site.url}/evil.jwks"}),
        "kid is a list": lambda scene: token(scene.said(), header={"kid": ["k1"]}),
        "kid of the other issuer's key": lambda scene: token(scene.said(), number=1),
    },
    "AUTHN-14": {
        name: (lambda scene, aud=aud: token(scene.said(aud=aud)))  # type: ignore[misc]
        for name, aud in {
            "another": "evil",
            "a tunnel": "tnl_inventory",
            "none": ...,
            "a list with ours": ["arrowslit", "evil"],
            "a list of nothing": [],
            "longer": "arrowslit2",
            "in capitals": "ARROWSLIT",
            "a blank behind it": "arrowslit ",
            "true": True,
            "an object": {"arrowslit": 1},
        }.items()
    },
    "AUTHN-15": {
        "another": lambda scene: token(scene.said(iss="https://evil.example")),
        "shorter": lambda scene: token(scene.said(iss=scene.one[:-1])),
        "longer": lambda scene: token(scene.said(iss=scene.one + "2")),
        "a slash behind it": lambda scene: token(scene.said(iss=scene.one + "/")),
        "in capitals": lambda scene: token(scene.said(iss=scene.one.upper())),
        "the other's": lambda scene: token(scene.said(iss=scene.other)),
        "a list": lambda scene: token(scene.said(iss=[scene.one])),
        "none": lambda scene: token(scene.said(iss=...)),
        "a user before it": lambda scene: token(scene.said(iss=scene.one.replace("http://", "http://x@"))),
    },
    "AUTHN-16": {
        name: (lambda scene, more=more: token(scene.said(**more)))
        for name, more in {
            "exp is past": {"exp": 1},
            "exp is missing": {"exp": ...},
            "exp is a string": {"exp": "9999999999"},
            "exp is true": {"exp": True},
            "exp is null": {"exp": None},
            "exp is negative": {"exp": -1},
            "nbf is to come": {"nbf": 9999999999},
            "nbf is a string": {"nbf": "1"},
            "iat is to come": {"iat": 9999999999},
            "iat is a string": {"iat": "1"},
        }.items()
    }
    | {
        "exp is 1e999": lambda scene: token(json.dumps(scene.said(exp=0)).replace('"exp": 0', '"exp": 1e999').encode()),
        "exp is NaN": lambda scene: token(json.dumps(scene.said(exp=0)).replace('"exp": 0', '"exp": NaN').encode()),
        "exp is there twice": lambda scene: token(
            json.dumps(scene.said(exp=0)).replace('"exp": 0', '"exp": 1, "exp": 9999999999').encode()
        ),
    },
    "AUTHN-18": {
        "a nonce": lambda scene: token(scene.said(nonce="n-0S6_WzA2Mj")),
        "at_hash": lambda scene: token(scene.said(at_hash="MTIzNDU2Nzg5MDEyMzQ1Ng")),
        "c_hash": lambda scene: token(scene.said(c_hash="MTIzNDU2Nzg5MDEyMzQ1Ng", nonce="x")),
        "for the client": lambda scene: token(scene.said(aud="client-id", azp="client-id")),
        "a logout token": lambda scene: token(scene.said(events={}), header={"typ": "logout+jwt"}),
    },
}


@in_module
@pytest.mark.parametrize(
    "lie",
    [lie for rows in JWTS.values() for lie in rows.values()],
    ids=[f"{ident} {name}" for ident, rows in JWTS.items() for name in rows],
)
async def test_a_token_that_lies_is_nobodys(believing: Believing, lie: Lie) -> None:
    house, asked_of_the_issuer = believing.house, list(believing.site.seen)
    before = len(house.target.requests)
    for method, path in (("POST", ENDPOINT), ("GET", "/v1/agents")):
        answer = await asked(house, bearer(lie(believing)), method=method, path=path)
        assert (answer.status, answer.code) == (401, "unauthenticated")
    assert len(house.target.requests) == before
    assert not [path for path in believing.site.seen[len(asked_of_the_issuer) :] if "evil" in path]


@in_module
@case("AUTHN-19", "rounds", {"interleaved": 50})
async def test_the_same_subject_of_two_issuers_is_two(believing: Believing, rounds: int) -> None:
    """And tokens that begin alike are not taken for each other."""
    tenants = {believing.one: "acme", believing.other: "evil"}
    shown = {
        name: token(believing.said(iss=name, org=tenants[name]), number=number)
        for number, name in enumerate((believing.one, believing.other))
    }
    alike = [token(believing.said(org=org, aud="arrowslit", x="x" * 200)) for org in ("acme", "evil")]
    assert alike[0][:64] == alike[1][:64]
    for _ in range(rounds):
        for tenant, each in (
            *((tenants[name], text) for name, text in shown.items()),
            *zip(("acme", "evil"), alike, strict=True),
        ):
            answer = await believing.house.call("echo", key=each)
            assert answer.json["result"]["meta"]["dev.arrowslit/tenant"] == tenant
    people = {
        (record["tenant"], record["principal"])
        for record in believing.house.ledger()
        if record["kind"] == "asked" and record["principal"].startswith("jwt_")
    }
    assert len({principal for _, principal in people}) == len(people) >= 3


def _moved(published: Site) -> None:
    published.put("/keys", b"", "302 Found", location=published.put("/evil.jwks", jwks(jwk("ES256"))))


def _answers(body: bytes, status: str = "200 OK") -> Callable[[Site], None]:
    def answer(published: Site) -> None:
        published.put("/keys", body, status)

    return answer


FAULTS: dict[str, Callable[[Site], None]] = {
    "down": _answers(b"", "503 Busy"),
    "not there": _answers(b"", "404 Not Found"),
    "no JSON": _answers(b"<html>"),
    "10 MiB": _answers(b" " * (10 << 20) + jwks(jwk("ES256"))),
    "a redirect": _moved,
    "silent": lambda published: published.answers.update({"/keys": None}),
}


@case("AUTHN-20", "fault", FAULTS)
async def test_without_its_keys_nobody_of_an_issuer_comes_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Callable[[Site], None]
) -> None:
    monkeypatch.setattr(fetch, "TIME", 0.3)
    async with site() as published:
        fault(published)
        pinned = issuer(issuer=published.url, jwks_url=f"{published.url}/keys", agents=frozenset({AGENT}))
        async with in_process(tmp_path, issuers=(pinned,)) as house:
            await until(lambda: published.seen)
            now = int(time.time())
            good = token(claims(iss=published.url, iat=now - 1, exp=now + 600))
            answer = await asked(house, bearer(good))
            assert (answer.status, answer.code) == (503, "idp_unavailable")
            assert "/evil.jwks" not in published.seen
            await house.good_call()


@in_module
@case("AUTHN-21", "count", {"flood": 500})
async def test_tokens_with_unknown_keys_make_the_relay_ask_no_oftener(believing: Believing, count: int) -> None:
    before = len(believing.site.seen)
    async with dial(believing.house.port) as wire:
        for number in range(count):
            shown = token(believing.said(), number=7, header={"kid": f"k{number}"})
            await wire.send(request("GET", ENDPOINT, headers=(bearer(shown),)))
            assert (await wire.answer()).status in (401, 429)
    assert len(believing.site.seen) - before <= 2, "once for each issuer in half a minute"
    await believing.house.good_call()
