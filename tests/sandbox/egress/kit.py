"""What the tests of the proxy stand on: a proxy that keeps its attempts, servers behind it, a CA, and programs."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import os
import shutil
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from arrowslit.clock import SystemClock
from arrowslit.policy.egress import Rule, read_rules
from arrowslit.sandbox.egress.attempt import Attempt, Caps, Resolve
from arrowslit.sandbox.egress.proxy import Proxy
from arrowslit.sandbox.egress.variables import environment_for_sandbox

PATIENCE = 60.0  # seconds
HOST = "allowed.test"


class Names:
    """Fulfils Resolve: what each name leads to, one answer after the other, the last one again and again."""

    def __init__(self, names: Mapping[str, Sequence[Sequence[str]]]) -> None:
        self._names = {name: list(answers) for name, answers in names.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        answers = self._names.get(host, [[]])
        return answers.pop(0) if len(answers) > 1 else answers[0]


LOOPBACK = {HOST: [["127.0.0.1"]], "evil.test": [["127.0.0.1"]], "a.below.test": [["127.0.0.1"]]}


@dataclass
class Gate:
    """A proxy that runs, where it listens, and what it recorded. `close` ends it before its time."""

    port: int
    rules: Sequence[Rule]
    names: Names
    attempts: asyncio.Queue[Attempt] = field(default_factory=asyncio.Queue)
    close: Callable[[], Awaitable[None]] | None = None

    async def attempt(self) -> Attempt:
        """The next attempt that it records."""
        return await asyncio.wait_for(self.attempts.get(), PATIENCE)

    @property
    def environment(self) -> Mapping[str, str]:
        return environment_for_sandbox(f"http://127.0.0.1:{self.port}", self.rules)

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def say(self, data: bytes) -> bytes:
        """Send `data` and return all that is answered until the proxy closes."""
        reader, writer = await self.open()
        try:
            writer.write(data)
            return await asyncio.wait_for(reader.read(), PATIENCE)
        except ConnectionError:
            return b""
        finally:
            writer.close()

    async def refused(self, data: bytes) -> Attempt:
        """Send `data`, see that the proxy says no, and return what it recorded."""
        answer = await self.say(data)
        assert b"sandbox_egress_denied" in answer, answer
        return await self.attempt()


@asynccontextmanager
async def gate(
    rules: object,
    *,
    names: Names | None = None,
    resolve: Resolve | None = None,
    caps: Caps | None = None,
    at: socket.socket | None = None,
) -> AsyncIterator[Gate]:
    """A proxy on a TCP listener of its own, or on the one that is handed over."""
    with at or socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        read = read_rules(rules)
        names = names or Names(LOOPBACK)

        async def close() -> None:
            serving.cancel()
            await asyncio.wait({serving})
            listener.close()
            assert serving.cancelled(), serving.exception()

        found = Gate(listener.getsockname()[1], read, names, close=close)
        proxy = Proxy(read, resolve=resolve or names, record=found.attempts.put, clock=SystemClock(), caps=caps)
        serving = asyncio.create_task(proxy.serve(listener))
        try:
            yield found
        finally:
            await close()


def private(port: int, *hosts: str) -> list[object]:
    """Rules that allow these hosts (HOST without any) on loopback, at one port."""
    return [{"host": host, "ports": [port], "allow_private": True} for host in hosts or (HOST,)]


# ---------------------------------------------------------------- servers

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"


@dataclass
class Origin:
    """A server that keeps every byte it gets and answers each head with the same `answer`; it never closes by itself
    if it is `stubborn`, and closes behind its answer otherwise.
    """

    port: int = 0
    answer: bytes = OK
    stubborn: bool = False
    received: list[bytearray] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got = bytearray()
        self.received.append(got)
        try:
            while data := await reader.read(65536):
                got += data
                if got.endswith(b"\r\n\r\n"):
                    self.asked.set()
                    writer.write(self.answer)
                    if not self.stubborn:
                        break
            await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def origin(
    *,
    tls: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    answer: bytes = OK,
    stubborn: bool = False,
) -> AsyncIterator[Origin]:
    """An Origin that listens."""
    made = Origin(answer=answer, stubborn=stubborn)
    server = await asyncio.start_server(made.attend, host, port, ssl=tls, backlog=256)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()


# ---------------------------------------------------------------- TLS


@dataclass(frozen=True)
class Authority:
    """A CA of the test's own, and a server's certificate by it for HOST and 127.0.0.1."""

    path: Path
    server: ssl.SSLContext

    @property
    def client(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.path))


def authority(folder: Path) -> Authority:
    """A fresh one, its files in `folder`."""
    now = dt.datetime.now(dt.UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test's CA")])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])

    def begun(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder().subject_name(subject).issuer_name(ca_name).public_key(public)
            .serial_number(x509.random_serial_number()).not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(hours=1))
        )  # fmt: skip

    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    ca = (
        begun(ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    names = [x509.DNSName(HOST), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    leaf = (
        begun(name, key.public_key())
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    path, chain = folder / "ca.pem", folder / "server.pem"
    path.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    chain.write_bytes(leaf.public_bytes(serialization.Encoding.PEM) + secret)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(chain)
    return Authority(path, server)


def hello(name: str | None, *, least: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2) -> bytes:
    """The first bytes that a TLS client sends which asks for `name`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = least
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake without a server")


# ---------------------------------------------------------------- programs


@dataclass(frozen=True)
class Done:
    """How a program ended, and what it said."""

    status: int
    out: str
    err: str


async def run(*argv: str | Path, at: Gate, home: Path, **more: str) -> Done:
    """Run a program as a sandbox would: with nothing in its environment but what sends it to the proxy, and `more`."""
    program = shutil.which(argv[0])
    assert program is not None, f"this test needs {argv[0]}: apt-get install {argv[0]}"
    base = {
        "PATH": os.defpath,
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
        "PIP_CONFIG_FILE": os.devnull,
    }
    process = await asyncio.create_subprocess_exec(
        program, *argv[1:], env={**base, **at.environment, **more}, cwd=home,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode is not None
    return Done(process.returncode, out.decode(errors="replace"), err.decode(errors="replace"))
