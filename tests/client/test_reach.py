"""Which relay, and whose key: a wrong answer sends an administrator's key to a stranger."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from arrowslit.app import config
from arrowslit.client.reach import Reach, reach
from arrowslit.errors import Error
from tests.harness import environment

ELSEWHERE = "https://relay.example.com"


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ.keys() - environment().keys():
        monkeypatch.delenv(name)


@pytest.fixture
def local(home: Path) -> Path:
    """A relay has kept its state here, and listened on another port than usual."""
    home.mkdir()
    (home / "admin.key").write_text("the-admin-key\n")
    (home / config.ADDRESS_FILE).write_text("http://127.0.0.1:9999\n")
    return home


def test_without_anything_it_is_the_relay_of_this_machine(local: Path) -> None:
    assert reach() == Reach(config.parse_relay("http://127.0.0.1:9999"), "the-admin-key", None)


def test_a_relay_that_never_said_where_it_is_is_at_the_usual_place(local: Path) -> None:
    (local / config.ADDRESS_FILE).unlink()

    assert str(reach().relay) == "http://127.0.0.1:8420"


def test_the_environment_names_another(local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARROWSLIT_RELAY", ELSEWHERE)
    monkeypatch.setenv("ARROWSLIT_API_KEY", "a-key")

    assert reach() == Reach(config.parse_relay(ELSEWHERE), "a-key", None)


def test_a_key_may_be_in_a_file(local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text("from-a-file\n")
    monkeypatch.setenv("ARROWSLIT_RELAY", ELSEWHERE)
    monkeypatch.setenv("ARROWSLIT_API_KEY_FILE", str(tmp_path / "key"))

    assert reach().key == "from-a-file"


def test_the_admin_key_of_this_machine_is_not_sent_to_another(local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARROWSLIT_RELAY", ELSEWHERE)

    with pytest.raises(Error, match="unauthenticated"):
        reach()


def test_the_admin_key_is_used_where_this_machines_relay_has_a_public_name(
    local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (local / config.ADDRESS_FILE).write_text(f"{ELSEWHERE}:8420\n")

    assert reach().key == "the-admin-key"
    monkeypatch.setenv("ARROWSLIT_RELAY", f"{ELSEWHERE}:8420#sha256={'0' * 64}")
    assert reach().key == "the-admin-key"


@pytest.mark.parametrize("key", [None, "a-key"])
def test_no_key_goes_anywhere_without_tls(key: str | None, local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARROWSLIT_RELAY", "http://relay.example.com")
    if key:
        monkeypatch.setenv("ARROWSLIT_API_KEY", key)

    with pytest.raises(Error, match="insecure_relay"):
        reach()


def test_where_no_relay_ever_ran_it_says_how_to_start_one(home: Path) -> None:
    with pytest.raises(Error) as refused:
        reach()

    assert refused.value.code == "relay_unreachable"
    assert "arrowslit serve" in str(refused.value.hint)


def test_a_key_file_that_is_named_has_to_be_there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARROWSLIT_API_KEY_FILE", str(home / "nothing"))

    with pytest.raises(Error, match="usage"):
        reach()


def test_a_proxy_is_not_asked_for_this_machine(local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.com:3128")
    assert reach().proxy is None
    assert config.proxy_for(config.parse_relay("https://127.0.0.1:8420")) is None

    monkeypatch.setenv("ARROWSLIT_RELAY", ELSEWHERE)
    monkeypatch.setenv("ARROWSLIT_API_KEY", "a-key")
    assert reach().proxy == "http://proxy.example.com:3128"
    monkeypatch.setenv("NO_PROXY", "example.com")
    assert reach().proxy is None


@pytest.mark.parametrize("named", ["socks5://proxy.example.com:1080", "http://", "http://clerk:secret@proxy:port"])
def test_what_is_no_http_proxy_is_said_without_repeating_it(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", named)

    with pytest.raises(Error) as refused:
        config.proxy_for(config.parse_relay(ELSEWHERE))

    assert refused.value.code == "usage"
    assert "secret" not in str(refused.value)


def test_a_proxy_without_a_scheme_is_an_http_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "proxy.example.com:3128")

    assert config.proxy_for(config.parse_relay(ELSEWHERE)) == "http://proxy.example.com:3128"
