from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from arrowslit.app.address import for_connectors, for_this_machine
from arrowslit.app.config import Listen, RelayConfig
from tests.cli.certificates import issue

F = "ab" * 32
PROXY = (ipaddress.ip_network("10.0.0.0/8"),)


@pytest.mark.parametrize(
    ("host", "near"),
    [
        ("127.0.0.1", "http://127.0.0.1:8420"),
        ("::1", "http://[::1]:8420"),
        ("localhost", "http://localhost:8420"),
    ],
)
def test_on_loopback_both_dial_where_it_listens(host: str, near: str) -> None:
    told = RelayConfig(listen=Listen(host, 0), state=Path("unused"))

    assert str(for_this_machine(told, Listen(host, 8420), F)) == f"{near}#sha256={F}"
    assert str(for_connectors(told, Listen(host, 8420), F)) == f"{near}#sha256={F}"


@pytest.mark.parametrize(("host", "near"), [("0.0.0.0", "http://127.0.0.1:8420"), ("::", "http://[::1]:8420")])
def test_behind_a_proxy_only_the_proxy_knows_the_public_name(host: str, near: str) -> None:
    told = RelayConfig(listen=Listen(host, 8420), state=Path("unused"), proxies=PROXY)

    assert str(for_this_machine(told, told.listen, F)) == f"{near}#sha256={F}"
    assert for_connectors(told, told.listen, F) is None


def test_with_tls_it_is_dialled_by_a_name_of_its_certificate(tmp_path: Path) -> None:
    own = issue(tmp_path, "*.example.com", "relay.example.com", "192.0.2.1")
    told = RelayConfig(listen=Listen("0.0.0.0", 443), state=Path("unused"), tls_cert=own.cert, tls_key=own.key)

    assert str(for_this_machine(told, told.listen, F)) == f"https://relay.example.com#sha256={F}"
    assert for_connectors(told, told.listen, F) == for_this_machine(told, told.listen, F)


def test_what_ends_tls_in_front_is_dialled_by_its_own_name(tmp_path: Path) -> None:
    front, own = issue(tmp_path / "front", "arrows.example.com"), issue(tmp_path / "own", "192.0.2.1")
    told = RelayConfig(
        listen=Listen("192.0.2.1", 8443),
        state=Path("unused"),
        tls_cert=own.cert,
        tls_key=own.key,
        public_cert=front.cert,
    )

    assert str(for_connectors(told, told.listen, F)) == f"https://arrows.example.com#sha256={F}"
    assert str(for_this_machine(told, told.listen, F)) == f"https://192.0.2.1:8443#sha256={F}"
