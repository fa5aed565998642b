"""The relay that a worker was told of, and nobody else."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from arrowslit.errors import Error
from arrowslit.sandbox.trust import Trust
from tests.cli.certificates import Issued, issue
from tests.harness import Relay
from tests.sandbox.worker.kit import Sandboxes


class Served:
    """A relay, an environment and a key for its worker."""

    def __init__(self, relay: Relay, env: dict[str, str]) -> None:
        self.relay = relay
        self.env = env
        self.environment = relay.run("environment", "create", "e", "--json", env=env).ok().json["id"]
        self.key = relay.run("environment", "key", self.environment, "--json", env=env).ok().json["environment_key"]

    def trust(self, fingerprint: str | None) -> Trust:
        """What a worker relies on that was told this fingerprint."""
        return Trust(self.relay.url, self.key, fingerprint, proxy=None, random=os.urandom)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Relay(tmp_path_factory.mktemp("plain")) as relay:
        yield Served(relay, {})


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Issued:
    return issue(tmp_path_factory.mktemp("tls"), "127.0.0.1")


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory, certificate: Issued) -> Iterator[Served]:
    with Relay(tmp_path_factory.mktemp("secure"), *certificate.options) as relay:
        yield Served(relay, dict(certificate.trust))


def test_a_worker_serves_the_relay_that_it_was_told_of(plain: Served, tmp_path: Path) -> None:
    with Sandboxes(tmp_path, str(plain.relay.address), plain.environment, plain.key) as worker:
        worker.wait_for("connected: waiting for work")


def test_a_worker_ends_when_somebody_else_answers(plain: Served, tmp_path: Path) -> None:
    worker = Sandboxes(tmp_path, f"{plain.relay.url}#sha256={'0' * 64}", plain.environment, plain.key)
    worker.spawn()

    assert worker.wait() == 1
    assert "code: relay_not_trusted" in worker.err
    assert "connected" not in worker.err


async def test_only_certificates_that_the_relay_vouches_for_are_spoken_over(
    secure: Served, certificate: Issued, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one is as good to every authority: a company's proxy has such certificates."""
    monkeypatch.setenv("SSL_CERT_FILE", certificate.trust["SSL_CERT_FILE"])
    trust = secure.trust(secure.relay.said["fingerprint"])
    port = int(secure.relay.url.rpartition(":")[2])
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.open_connection("127.0.0.1", port, ssl=trust.context)

    await trust.prove()

    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust.context)
    writer.transport.abort()


async def test_a_certificate_alone_makes_nobody_the_relay(
    plain: Served, secure: Served, certificate: Issued, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", certificate.trust["SSL_CERT_FILE"])

    with pytest.raises(Error) as refused:
        await secure.trust(plain.relay.said["fingerprint"]).prove()

    assert refused.value.code == "relay_not_trusted"


def test_the_relay_proves_nothing_to_whom_somebody_else_showed_a_certificate(
    secure: Served, certificate: Issued
) -> None:
    with httpx2.Client(verify=ssl.create_default_context(cafile=certificate.trust["SSL_CERT_FILE"])) as http:
        answer = http.post(
            f"{secure.relay.url}/v1/relay/proof",
            json={"nonce": "0" * 64, "certificate": "1" * 64},
            headers={"authorization": f"Bearer {secure.key}"},
        )

    assert answer.status_code == 403
    assert answer.json()["error"]["details"]["error_code"] == "certificate_mismatch"


async def test_a_server_that_has_nothing_to_prove_it_with_is_not_the_relay(plain: Served) -> None:
    trust = Trust(
        plain.relay.url, plain.relay.admin_key, plain.relay.said["fingerprint"], proxy=None, random=os.urandom
    )

    with pytest.raises(Error) as refused:
        await trust.prove()

    assert refused.value.code == "relay_not_trusted"
    assert "answers 403" in refused.value.message
