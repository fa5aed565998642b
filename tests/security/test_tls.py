"""TLS: a connector speaks to nobody whom it cannot verify, and a relay speaks nothing old."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from arrowslit.app import serve
from arrowslit.app.config import Listen, RelayConfig, forget_key_log
from arrowslit.connector.dial import Dialler
from arrowslit.errors import Error
from arrowslit.link import websocket
from tests.cli import certificates
from tests.cli.kit import invoke
from tests.harness import PATIENCE
from tests.security.cases import case
from tests.support.inprocess import connector, in_process, kept
from tests.support.wire import dial, request, until

SOURCE = Path(__file__).parents[2] / "src"

# ---------------------------------------------------------------- a connector dials


@asynccontextmanager
async def pretender(issued: certificates.Issued) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Somebody who listens in the relay's place with that certificate: the port, and what was said to them."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(issued.cert, issued.key)
    said: list[bytes] = []

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said.append(await reader.read(65536))
        writer.close()

    async with await asyncio.start_server(hear, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1], said


CERTIFICATES = {
    "another authority": ("localhost", -1, 24, False),
    "another name": ("relay.example", -1, 24, True),
    "expired": ("localhost", -24, -1, True),
    "not yet valid": ("localhost", 1, 24, True),
    "a wildcard of nothing": ("*", -1, 24, True),
}


@case("TLS-01", "name,begins,ends,trusted", CERTIFICATES)
async def test_a_relay_that_cannot_be_verified_hears_nothing(
    tmp_path: Path, name: str, begins: float, ends: float, trusted: bool
) -> None:
    issued = certificates.issue(tmp_path / "theirs", name, begins=begins, ends=ends)
    authority = (issued if trusted else certificates.issue(tmp_path / "other", "localhost")).authority
    async with pretender(issued) as (port, said):
        address = websocket.Address(
            f"wss://localhost:{port}/connect", None, ssl.create_default_context(cafile=authority)
        )
        with pytest.raises(Error) as refused:
            await websocket.connect(address, [("Authorization", "Bearer secret")])
        assert refused.value.code == "relay_not_trusted"
        assert b"".join(said) == b""


@case("TLS-01", "scheme", {"a relay that speaks no TLS": "wss"})
async def test_a_connector_does_not_fall_back_to_plain_text(scheme: str) -> None:
    said: list[bytes] = []

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said.append(await reader.read(65536))
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(hear, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        address = websocket.Address(f"{scheme}://localhost:{port}/connect", None, ssl.create_default_context())
        with pytest.raises(Error):
            await websocket.connect(address, [("Authorization", "Bearer secret")])
    assert b"secret" not in b"".join(said)
    assert len(said) == 1, "it did not come again otherwise"


PLAIN = {
    "http": "http://relay.example#sha256=" + "0" * 64,
    "ws": "ws://relay.example#sha256=" + "0" * 64,
    "an address": "http://192.0.2.1:8420#sha256=" + "0" * 64,
    "almost loopback": "http://127.0.0.1.example",
    "loopback as a user": "http://127.0.0.1@relay.example",
    "no fingerprint": "https://relay.example",
    "no scheme": "relay.example",
}


@case("TLS-03", "address", PLAIN)
def test_a_connector_sends_its_token_to_no_plain_address(address: str) -> None:
    variables = {"ARROWSLIT_RELAY": address, "ARROWSLIT_TUNNEL_TOKEN": "asl_tun_x"}
    done = invoke("connect", "--target", "http://127.0.0.1:1/mcp", "--name", "x", **variables)
    assert done.status in (1, 2)
    assert re.search("insecure_relay|usage|without TLS|fingerprint|http", done.err)
    assert "asl_tun_x" not in done.err


@case("TLS-03", "listen", {"all addresses": "0.0.0.0:0", "another address": "192.0.2.1:0", "IPv6": "[::]:0"})
def test_a_relay_listens_beyond_loopback_with_tls_only(listen: str, tmp_path: Path) -> None:
    done = invoke("serve", "--listen", listen, "--state", str(tmp_path))
    assert done.status in (1, 2)
    assert "without TLS" in done.err


KEYS = {"another connector's": Ed25519PrivateKey.generate}


@pytest.mark.promise("P10")
@case("TLS-06", "make", KEYS)
async def test_a_right_token_with_another_connectors_key_opens_nothing(tmp_path: Path, make: object) -> None:
    async with in_process(tmp_path) as house:
        assert callable(make)
        thief = connector(f"ws://127.0.0.1:{house.port}/connect", house.token, house.target, key=make())
        async with kept(thief):
            await until(lambda: said_of(thief))
            assert "key_mismatch" in said_of(thief)
            assert not thief.state.connected
        await house.good_call()


def said_of(dialler: Dialler) -> str:
    return str(dialler.state.report().get("last_error") or "")


# ---------------------------------------------------------------- a relay listens


@asynccontextmanager
async def secure(folder: Path) -> AsyncIterator[tuple[int, certificates.Issued]]:
    """A relay with TLS, in this process: its port, and its certificate."""
    issued = certificates.issue(folder, "localhost")
    ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    config = RelayConfig(
        listen=Listen("127.0.0.1", 0), state=folder / "state", tls_cert=issued.cert, tls_key=issued.key
    )
    running = asyncio.create_task(serve.serve(config, lambda _, listen: ready.set_result(listen.port)))
    try:
        async with asyncio.timeout(PATIENCE):
            yield await ready, issued
    finally:
        running.cancel()
        await asyncio.wait([running])


def trusting(issued: certificates.Issued) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(issued.authority))
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


OLD = {"1.0": ssl.TLSVersion.TLSv1, "1.1": ssl.TLSVersion.TLSv1_1, "1.2": ssl.TLSVersion.TLSv1_2}


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@case("TLS-02", "version", OLD)
async def test_an_old_version_gets_no_handshake(tmp_path: Path, version: ssl.TLSVersion) -> None:
    async with secure(tmp_path) as (port, issued):
        old = trusting(issued)
        old.set_ciphers("ALL:@SECLEVEL=0")
        old.minimum_version = old.maximum_version = version
        with pytest.raises((ssl.SSLError, ConnectionError)):
            async with dial(port, tls=old):
                pass
        async with dial(port, tls=trusting(issued)) as wire:
            await wire.send(request("GET", "/healthz", host=f"localhost:{port}"))
            assert (await wire.answer()).status == 200
            assert wire.writer.get_extra_info("ssl_object").version() == "TLSv1.3"


@case("DOS-01", "said", {"a TLS handshake that never comes": b"", "half a ClientHello": b"\x16\x03\x01\x02\x00\x01"})
async def test_a_handshake_has_the_time_of_a_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: bytes) -> None:
    monkeypatch.setattr(serve, "HEAD_TIME", 0.2)
    async with secure(tmp_path) as (port, _), dial(port) as wire:
        await wire.send(said)
        with suppress(ConnectionResetError):
            assert await wire.rest() in (b"", b"\x15\x03\x01\x00\x02\x02\x28")


@case("TLS-08", "early", {"early data": b"POST /mcp/a/b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"})
async def test_no_request_comes_before_the_handshake(tmp_path: Path, early: bytes) -> None:
    """0-RTT data can be replayed by whoever saw it, so none is taken, with a resumed session either."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("there is no openssl to send early data with")
    (tmp_path / "early").write_bytes(early)
    async with secure(tmp_path) as (port, issued):
        common = [program, "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_3", "-CAfile", str(issued.authority)]
        ask = request("GET", "/healthz", headers=("Connection: close",))
        first = await ran([*common, "-sess_out", str(tmp_path / "session"), "-ign_eof"], ask)
        assert "200 OK" in first
        again = await ran(
            [*common, "-sess_in", str(tmp_path / "session"), "-early_data", str(tmp_path / "early"), "-ign_eof"], ask
        )
        assert "Early data was accepted" not in again
        assert "HTTP/1.1 401" not in again, "the request that came too early was not read"


async def ran(command: Sequence[str], said: bytes) -> str:
    """What a command prints that is told this."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    async with asyncio.timeout(PATIENCE):
        out, _ = await process.communicate(said)
    return out.decode(errors="replace")


# ---------------------------------------------------------------- how it is set up

NEVER = {
    "verify=False": r"verify\s*=\s*False",
    "CERT_NONE": r"CERT_NONE|CERT_OPTIONAL",
    "no host name": r"check_hostname\s*=\s*False",
    "an unverified context": r"_create_unverified_context|_create_default_https_context",
    "an own keylog": r"keylog_filename",
}


@case("TLS-07", "pattern", NEVER)
def test_no_certificate_goes_unverified(pattern: str) -> None:
    found = [path for path in SOURCE.rglob("*.py") if re.search(pattern, path.read_text())]
    assert found == []


@case("TLS-07", "name", {"SSLKEYLOGFILE": "SSLKEYLOGFILE"})
def test_the_keys_of_connections_are_written_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    kept_in = tmp_path / "keys"
    monkeypatch.setenv(name, str(kept_in))
    forget_key_log()
    assert ssl.create_default_context().keylog_filename is None
    assert name not in os.environ
    monkeypatch.setenv(name, str(kept_in))
    invoke(
        "tunnel", "list", ARROWSLIT_RELAY="https://127.0.0.1:1", ARROWSLIT_API_KEY="asl_sk_x", **{name: str(kept_in)}
    )
    assert not kept_in.exists()
