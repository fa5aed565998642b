from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from arrowslit.app.config import (
    ConnectConfig,
    IsolationConfig,
    Listen,
    RelayConfig,
    SandboxConfig,
    default_state,
    parse_domain,
    parse_listen,
    parse_network,
    parse_relay,
    proxy_for,
)
from arrowslit.errors import Error

FINGERPRINT = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("127.0.0.1:8420", "127.0.0.1", 8420), ("[::1]:1", "::1", 1), ("localhost:0", "localhost", 0)],
)
def test_where_to_listen_is_host_and_port(text: str, host: str, port: int) -> None:
    assert parse_listen(text) == Listen(host, port)


@pytest.mark.parametrize("text", ["", "8420", ":8420", "host:", "host:99999", "host:x"])
def test_anything_else_is_wrong_usage(text: str) -> None:
    with pytest.raises(Error, match="usage"):
        parse_listen(text)


@pytest.mark.parametrize(
    ("text", "origin", "websocket"),
    [
        ("https://relay.example.com", "https://relay.example.com", "wss://relay.example.com/connect"),
        ("https://relay.example.com:8443/", "https://relay.example.com:8443", "wss://relay.example.com:8443/connect"),
        ("http://127.0.0.1:8420", "http://127.0.0.1:8420", "ws://127.0.0.1:8420/connect"),
        (f"https://[::1]:1#sha256={FINGERPRINT}", "https://[::1]:1", "wss://[::1]:1/connect"),
    ],
)
def test_a_relay_is_an_origin_and_perhaps_a_fingerprint(text: str, origin: str, websocket: str) -> None:
    relay = parse_relay(text)
    assert (relay.origin, relay.websocket) == (origin, websocket)
    assert relay.fingerprint == (FINGERPRINT if "#" in text else None)
    assert parse_relay(str(relay)) == relay


@pytest.mark.parametrize(
    "text",
    [
        "relay.example.com",
        "ftp://relay",
        "https://",
        "https://user@relay",
        "https://relay/path",
        "https://relay?x=1",
        "https://relay#sha256=short",
        "https://relay#md5=x",
        "https://relay:x",
    ],
)
def test_what_is_no_relay_is_wrong_usage(text: str) -> None:
    with pytest.raises(Error, match="usage"):
        parse_relay(text)


def relay_config(**changes: Any) -> RelayConfig:
    values: dict[str, Any] = {"listen": Listen("127.0.0.1", 8420), "state": Path("state")}
    return RelayConfig(**values | changes)


@pytest.mark.parametrize(
    "config",
    [
        relay_config(),
        relay_config(listen=Listen("localhost", 1)),
        relay_config(listen=Listen("::1", 1)),
        relay_config(listen=Listen("0.0.0.0", 1), tls_cert=Path("c"), tls_key=Path("k")),
        relay_config(listen=Listen("0.0.0.0", 1), proxies=(parse_network("10.0.0.0/8"),)),
    ],
)
def test_a_listener_on_loopback_or_with_tls_or_behind_a_proxy_is_fine(config: RelayConfig) -> None:
    config.check()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "relay.example.com", "localhost.example.com"])
def test_a_listener_beyond_loopback_without_tls_is_refused(host: str) -> None:
    with pytest.raises(Error, match="insecure_listen"):
        relay_config(listen=Listen(host, 1)).check()


def test_half_a_certificate_is_wrong_usage() -> None:
    with pytest.raises(Error, match="usage"):
        relay_config(tls_cert=Path("c")).check()


def connect_config(relay: str, **changes: Any) -> ConnectConfig:
    values: dict[str, Any] = {"target": "stdio:x", "name": "n", "token": "t", "state": Path("state")}
    return ConnectConfig(relay=parse_relay(relay), **values | changes)


@pytest.mark.parametrize(
    ("relay", "changes", "code"),
    [
        ("http://127.0.0.1:1", {}, None),
        (f"https://relay.example.com#sha256={FINGERPRINT}", {}, None),
        ("https://relay.example.com", {}, "insecure_relay"),
        ("http://relay.example.com", {}, "insecure_relay"),
        (f"http://relay.example.com#sha256={FINGERPRINT}", {}, "insecure_relay"),
        ("http://127.0.0.1:1", {"health": Listen("127.0.0.1", 9090)}, None),
        ("http://127.0.0.1:1", {"health": Listen("0.0.0.0", 9090)}, "insecure_listen"),
        ("http://127.0.0.1:1", {"allow": ("a",), "ceiling": Path("c")}, "usage"),
    ],
)
def test_a_connector_refuses_what_would_give_its_token_away(
    relay: str, changes: dict[str, Any], code: str | None
) -> None:
    config = connect_config(relay, **changes)
    if code is None:
        config.check()
        return
    with pytest.raises(Error, match=code):
        config.check()


@pytest.mark.parametrize(
    ("relay", "code"),
    [
        ("http://127.0.0.1:1", None),
        (f"https://relay.example.com#sha256={FINGERPRINT}", None),
        ("https://api.anthropic.com", None),
        ("https://relay.example.com", "insecure_relay"),
        ("https://api.anthropic.com.example.com", "insecure_relay"),
        ("http://relay.example.com", "insecure_relay"),
        (f"http://relay.example.com#sha256={FINGERPRINT}", "insecure_relay"),
    ],
)
def test_a_sandbox_worker_refuses_what_would_give_its_key_away(relay: str, code: str | None) -> None:
    config = SandboxConfig(
        environment="env_1",
        key="k",
        relay=parse_relay(relay),
        state=Path("state"),
        capacity=1,
        isolation=IsolationConfig(),
    )
    if code is None:
        config.check()
        return
    with pytest.raises(Error, match=code):
        config.check()


@pytest.mark.parametrize(
    ("relay", "no_proxy", "proxy"),
    [
        ("https://relay.example.com", "", "http://proxy:3128"),
        ("https://relay.example.com", "example.com", None),
        ("https://relay.example.com", "*", None),
        ("http://127.0.0.1:1", "", None),
        ("https://127.0.0.1:1", "", None),
    ],
)
def test_a_proxy_is_used_for_relays_that_are_not_excepted(
    monkeypatch: pytest.MonkeyPatch, relay: str, no_proxy: str, proxy: str | None
) -> None:
    for name in ("https_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    if no_proxy:
        monkeypatch.setenv("NO_PROXY", no_proxy)
    assert proxy_for(parse_relay(relay)) == proxy


def test_state_is_kept_where_the_system_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert default_state() == Path("/var/lib/arrowslit")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", "/somewhere")
    assert default_state() == Path("/somewhere/arrowslit")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home")
    assert default_state() == Path("/home/.local/state/arrowslit")


@pytest.mark.parametrize(
    ("text", "domain"),
    [("tunnel.example.com", "tunnel.example.com"), ("Tunnel.Example.COM.", "tunnel.example.com"), ("local", "local")],
)
def test_a_domain_is_written_in_any_case_and_kept_in_one(text: str, domain: str) -> None:
    assert parse_domain(text) == domain


@pytest.mark.parametrize(
    "text", ["", ".", "a..b", "-a.example", "a_b.example", "exämple.org", "a" * 64, "*.example", "a:1"]
)
def test_what_is_no_domain_is_wrong_usage(text: str) -> None:
    with pytest.raises(Error, match="usage"):
        parse_domain(text)
