"""The way over a network: TLS with certificates that only some trust, and the proxy of a company on the way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from arrowslit.app.config import RelayAddress
from tests.cli.certificates import Issued, issue
from tests.cli.proxy import Proxy
from tests.harness import Connector, Done, Relay, Tunnel, arrowslit

NAME = "relay.test"  # RFC 6761: no resolver knows it


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Issued:
    return issue(tmp_path_factory.mktemp("tls"), NAME, "127.0.0.1")


class TlsRelay(Relay):
    """A relay with a certificate; its own commands trust it, and reach it by its address."""

    def __init__(self, folder: Path, certificate: Issued) -> None:
        super().__init__(folder, *certificate.options)
        self.trust = certificate.trust

    def by_name(self) -> RelayAddress:
        """As a machine elsewhere knows it."""
        port = int(self.url.rpartition(":")[2])
        return RelayAddress("https", NAME, port, self.said["fingerprint"])

    def command(self, *words: str, **variables: str) -> Done:
        """Run a command as its administrator, from this machine."""
        use = {"ARROWSLIT_RELAY": str(self.address), "ARROWSLIT_API_KEY": self.admin_key, **self.trust}
        return arrowslit(*words, env=use | variables)


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory, certificate: Issued) -> Iterator[TlsRelay]:
    with TlsRelay(tmp_path_factory.mktemp("secure"), certificate) as relay:
        yield relay


def made(relay: TlsRelay, name: str) -> Tunnel:
    found = relay.command("tunnel", "create", name, "--json").ok().json
    return Tunnel(found["id"], found["name"], found["token"])


def test_a_relay_with_tls_names_itself_as_its_certificate_does(secure: TlsRelay) -> None:
    assert secure.url.startswith("https://127.0.0.1:")
    assert secure.said["relay"] == str(secure.by_name())


def test_a_connector_that_trusts_the_authority_connects_and_is_bound_to_the_certificate(
    secure: TlsRelay, canary: str, tmp_path: Path
) -> None:
    tunnel = made(secure, "bound")
    with Connector(secure, tunnel, canary, folder=tmp_path, env=secure.trust):
        status = secure.command("tunnel", "status", "bound", "--json").ok().json
        assert [each["certificate_binding"] for each in status["connectors"]] == ["on"]

        secure.command("agent", "create", "stock", "--tunnel", "bound", "--allow", "echo").ok()
        words = ["key", "create", "--agent", "stock", "--tenant", "acme", "--json"]
        key = secure.command(*words).ok().json["key"]
        done = secure.command("call", "stock", "bound", "echo", "canary=1", "--json", ARROWSLIT_API_KEY=key).ok()
    assert done.json["result"]["structuredContent"] == {"canary": "1", "tenant": "acme"}


def test_a_certificate_that_nobody_vouches_for_ends_it(secure: TlsRelay, canary: str, tmp_path: Path) -> None:
    connector = Connector(secure, Tunnel("tnl_any", "any", "asl_tun_secret"), canary, folder=tmp_path)
    connector.spawn()

    assert connector.wait() == 1
    assert "code: relay_not_trusted" in connector.err
    assert "SSL_CERT_FILE" in connector.err
    assert "asl_tun_secret" not in secure.log


def test_commands_do_not_trust_it_either(secure: TlsRelay) -> None:
    untrusted = {"SSL_CERT_FILE": "/dev/null", "SSL_CERT_DIR": "/dev/null"}

    listed = secure.command("tunnel", "list", **untrusted)
    called = secure.command("tools", "stock", "any", **untrusted)

    for done in (listed, called):
        assert done.status == 1
        assert "code: relay_not_trusted" in done.err
        assert "SSL_CERT_FILE" in done.err
        assert "Traceback" not in done.err


def test_a_trusted_certificate_does_not_help_a_relay_with_another_key(
    secure: TlsRelay, canary: str, tmp_path: Path
) -> None:
    tunnel = made(secure, "other-key")
    wrong = str(secure.address).replace(secure.said["fingerprint"], "0" * 64)
    connector = Connector(secure, tunnel, canary, "--relay", wrong, folder=tmp_path, env=secure.trust)
    connector.spawn()

    assert connector.wait() == 1
    assert "code: relay_not_trusted" in connector.err
    assert secure.said["fingerprint"] in connector.err


def test_the_proxy_of_a_company_is_on_the_way_of_everything(secure: TlsRelay, canary: str, tmp_path: Path) -> None:
    tunnel = made(secure, "proxied")
    target = f"{NAME}:{secure.by_name().port}"
    with Proxy(NAME, "clerk", "p@ss word") as proxy:
        way = {**secure.trust, "HTTPS_PROXY": proxy.url_with("clerk:p%40ss%20word")}
        use = {"ARROWSLIT_RELAY": str(secure.by_name()), "ARROWSLIT_API_KEY": secure.admin_key}
        with Connector(secure, tunnel, canary, "--relay", str(secure.by_name()), folder=tmp_path, env=way) as connector:
            assert connector.out == "tnl_proxied\n"
            assert proxy.asked == [(target, "clerk:p@ss word")]

            assert arrowslit("tunnel", "status", "proxied", env=use | way).ok().out.startswith("proxied (tnl_proxied)")
            arrowslit("agent", "create", "far", "--tunnel", "proxied", "--allow", "echo", env=use | way).ok()
            tools = arrowslit("tools", "far", "proxied", env=use | way)
            assert "code: tenant_required" in tools.err  # an administrator has no tenant; but it got there
    assert set(proxy.asked) == {(target, "clerk:p@ss word")}
    assert len(proxy.asked) >= 4


def test_a_proxy_that_refuses_is_named_and_its_password_is_not(secure: TlsRelay, canary: str, tmp_path: Path) -> None:
    with Proxy(NAME, "clerk", "right") as proxy:
        way = {**secure.trust, "HTTPS_PROXY": proxy.url_with("clerk:wrong-secret")}
        options = ["--relay", str(secure.by_name())]
        connector = Connector(secure, Tunnel("tnl_any", "any", "t"), canary, *options, folder=tmp_path, env=way)
        connector.spawn()
        try:
            line = connector.wait_for("not connected")
        finally:
            connector.kill()
        use = {"ARROWSLIT_RELAY": str(secure.by_name()), "ARROWSLIT_API_KEY": "k"}
        listed = arrowslit("tunnel", "list", env=use | way)

    assert "407" in line
    assert "code: relay_unreachable" in listed.err
    assert "407" in listed.err
    assert "wrong-secret" not in connector.log + listed.err
