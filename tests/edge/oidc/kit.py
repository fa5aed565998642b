"""What the tests of tokens share: real keys, tokens made by hand, an issuer's server on loopback, a clock to turn."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from arrowslit.edge.oidc.issuer import Issuer
from arrowslit.edge.oidc.issuers import Issuers
from arrowslit.principal import Scope

NOW = 1_795_000_000.0
LOGIN = "https://login.example.com/"
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def key(algorithm: str, number: int = 0) -> PrivateKey:
    """The key of that algorithm and number, the same throughout a run: RSA keys take long to make."""
    return _key("RSA" if algorithm[:2] in ("RS", "PS") else algorithm, number)


@cache
def _key(kind: str, number: int) -> PrivateKey:
    match kind:
        case "RSA":
            return rsa.generate_private_key(65537, 2048)
        case "EdDSA":
            return ed25519.Ed25519PrivateKey.generate()
        case _:
            curves = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
            return ec.generate_private_key(curves[kind])


def jwk(algorithm: str, kid: str | None = "k1", number: int = 0, **more: object) -> dict[str, Any]:
    """The public half of a key, as an issuer publishes it."""
    found: dict[str, Any] = jwt.get_algorithm_by_name(algorithm).to_jwk(
        key(algorithm, number).public_key(), as_dict=True
    )
    found.pop("key_ops", None)
    named = {} if kid is None else {"kid": kid}
    return found | {"use": "sig", "alg": algorithm} | named | more


def jwks(*keys: Mapping[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def issuer(**changed: Any) -> Issuer:
    given: dict[str, Any] = {
        "issuer": LOGIN,
        "audience": "arrowslit",
        "algorithm": "ES256",
        "tenant_claim": "org",
        "agents": frozenset({"stock"}),
        "scopes": frozenset({Scope.INVOKE}),
    }
    return Issuer(**given | changed)


def claims(**changed: Any) -> dict[str, Any]:
    """Those of a good token; a claim that is changed to `...` is left out."""
    good = {"iss": LOGIN, "aud": "arrowslit", "sub": "ada", "org": "acme", "iat": NOW - 10, "exp": NOW + 600}
    return {name: value for name, value in (good | changed).items() if value is not ...}


def part(content: object) -> str:
    """One part of a token: an object, or bytes as they are."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(
    said: object = None,
    *,
    algorithm: str = "ES256",
    number: int = 0,
    header: Mapping[str, Any] | None = None,
    signature: Callable[[bytes], bytes] | None = None,
) -> str:
    """A token: `said` are its claims (an object, or bytes), `header` changes what stands in the header."""
    named: dict[str, Any] = {"alg": algorithm, "kid": "k1", "typ": "JWT", **(header or {})}
    body = f"{part({name: each for name, each in named.items() if each is not ...})}.{part(said or claims())}"
    signed = (
        jwt.get_algorithm_by_name(algorithm).sign(body.encode(), key(algorithm, number))
        if signature is None
        else signature(body.encode())
    )
    return f"{body}.{part(signed)}"


class TurnedClock:
    """Stands until it is turned; then those wake whose time has come."""

    def __init__(self) -> None:
        self._now = NOW
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.Event()
        self._sleepers.append((self._now + seconds, woken))
        await woken.wait()

    async def turn(self, seconds: float) -> None:
        """Let that much time pass, and those do their work who waited for it."""
        end = self._now + seconds
        while due := min((each for each in self._sleepers if each[0] <= end), key=lambda each: each[0], default=None):
            self._sleepers.remove(due)
            self._now = max(self._now, due[0])
            due[1].set()
            await settle()
        self._now = end


async def until(true: Callable[[], bool]) -> None:
    """Wait for what the network brings, at most five seconds."""
    for _ in range(1000):
        if true():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not happen")


async def settle() -> None:
    """Let every task go as far as it gets without time and without a network."""
    for _ in range(20):
        await asyncio.sleep(0)


class Published:
    """What an issuer publishes: a Fetch without a network, which counts, and fails while `error` is set."""

    def __init__(self, *keys: Mapping[str, Any]) -> None:
        self.document = jwks(*keys)
        self.error: Exception | None = None
        self.asked: list[str] = []

    async def __call__(self, url: str) -> bytes:
        self.asked.append(url)
        if self.error is not None:
            raise self.error
        return self.document


def agent_id(text: str) -> str | None:
    """There are two agents."""
    return {"stock": "agent_stock", "agent_stock": "agent_stock", "mail": "agent_mail"}.get(text)


@asynccontextmanager
async def kept(
    *issuers: Issuer, published: Published, clock: TurnedClock, settled: bool = True
) -> AsyncIterator[Issuers]:
    """Issuers whose keys are kept."""
    opened = Issuers(issuers, agent_id, published, clock)
    keeping = asyncio.create_task(opened.keep_keys())
    try:
        if settled:
            await settle()
        yield opened
    finally:
        keeping.cancel()
        await asyncio.wait({keeping})


class Site:
    """An HTTP server on loopback: `answers` by path, each the bytes of a whole response, or None for silence."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes | None] = {}
        self.seen: list[str] = []
        self.url = ""

    def put(self, path: str, body: bytes, status: str = "200 OK", **headers: str) -> str:
        """Answer that at `path` from now on. Its URL."""
        fields = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        head = f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n{fields}\r\n"
        self.answers[path] = head.encode() + body
        return self.url + path

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if await reader.readexactly(1) != b"G":
                return  # a greeting of TLS, for one
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split()[1].decode()
            self.seen.append(path)
            answer = self.answers.get(path, b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
            if answer is None:
                await reader.read()  # until the other side gives up
            else:
                writer.write(answer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def site() -> AsyncIterator[Site]:
    """A Site that listens."""
    found = Site()
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    async with server:
        found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield found
