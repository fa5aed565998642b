"""What is refused about a head, as a pure function: the tables that tests/bad_input shows through real sockets, and
more.
"""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrowslit.edge import guard
from arrowslit.errors import Error

LOOPBACK = guard.Rules(suffixes=(b".tunnel.localhost",))
PUBLIC = guard.Rules(hosts=None, suffixes=(b".tunnel.example",))
PROXIED = guard.Rules(
    hosts=None, proxies=tuple(ipaddress.ip_network(each) for each in ("10.0.0.0/8", "fd00::/8", "127.0.0.1"))
)


def refusal(
    target: bytes = b"/mcp/a/b",
    *fields: tuple[bytes, bytes],
    method: bytes = b"POST",
    version: str = "1.1",
    rules: guard.Rules = LOOPBACK,
    host: bytes | None = b"localhost",
) -> str | None:
    """The code with which this head is refused, None if it passes."""
    named = [(b"host", host)] if host is not None else []
    try:
        guard.check(method, target, version, [*named, *fields], rules)
    except Error as error:
        assert error.hint
        return error.code
    return None


PLAIN = b"/ /mcp/a/b /v1/x?y=/../z /a.b/.c/..d/e.. /%41 /a;b=c /a//b /~%7e".split()
ODD = b"mcp/a/b * http://localhost/mcp/a/b localhost:80 //localhost/mcp /.. /../mcp /a/.. /a/../b /. /a/./b".split()
ESCAPED = rb"/%2e%2e/b /%2E./b /.%2e /a%2fb /a%2Fb /a%5Cb /a\b /a%00".split()
UNPRINTABLE = [b"", b"/a b", b"/a\tb", b"/a\x7fb", b"/a\x00b", b"/a#b"]


@pytest.mark.parametrize("target", PLAIN)
def test_a_plain_path_passes(target: bytes) -> None:
    assert refusal(target) is None


@pytest.mark.parametrize("target", [*ODD, *ESCAPED, *UNPRINTABLE])
def test_a_path_that_could_be_read_as_another_is_refused(target: bytes) -> None:
    assert refusal(target) == "bad_http"


@pytest.mark.parametrize(
    ("method", "version"), [(b"CONNECT", "1.1"), (b"GET", "0.9"), (b"GET", "2.0"), (b"GET", "1.2")]
)
def test_another_protocol_is_refused(method: bytes, version: str) -> None:
    assert refusal(method=method, version=version) == "bad_http"


SINGLE = (
    b"host authorization x-api-key content-type content-encoding content-length origin last-event-id upgrade "
    b"sec-websocket-key sec-websocket-version idempotency-key mcp-session-id mcp-method mcp-anything "
    b"arrowslit-deadline-ms arrowslit-anything"
).split()


@pytest.mark.parametrize("name", SINGLE)
def test_a_header_that_decides_something_may_stand_once(name: bytes) -> None:
    field = (name, b"localhost" if name in (b"host", b"origin") else b"1")
    assert refusal(b"/", field, (b"x-between", b""), field) == "header_ambiguous"


def test_a_header_that_decides_nothing_may_stand_twice() -> None:
    twice = [(b"accept", b"a"), (b"cookie", b"a"), (b"x-mcp-a", b"a"), (b"tenant", b"a"), (b"via", b"a")]
    assert refusal(b"/", *twice, *twice) is None


@pytest.mark.parametrize("name", [each.replace(b"-", odd) for each in SINGLE if b"-" in each for odd in (b"_", b".")])
def test_a_name_that_a_server_could_take_for_one_of_those_is_refused(name: bytes) -> None:
    assert refusal(b"/", (name, b"1")) == "header_ambiguous"


@pytest.mark.parametrize("name", [b"transfer_encoding", b"x_forwarded.for", b"content_length", b"mcp-session_id"])
def test_a_name_that_a_hop_could_take_for_another_is_refused(name: bytes) -> None:
    assert refusal(b"/", (name, b"1")) == "header_ambiguous"


@pytest.mark.parametrize("name", [b"x_tenant_id", b"x.y", b"sec-ch-ua", b"x*", b"mcp", b"authorization_"])
def test_a_name_that_means_nothing_may_be_written_in_any_way(name: bytes) -> None:
    assert refusal(b"/", (name, b"1")) is None


@pytest.mark.parametrize("value", [b"chunked", b"Chunked"])
def test_a_body_may_come_in_chunks(value: bytes) -> None:
    assert refusal(b"/", (b"transfer-encoding", value)) is None
    assert refusal(b"/", (b"transfer-encoding", value), version="1.0") == "bad_http"


@pytest.mark.parametrize(
    "value", [b"", b"gzip, chunked", b"identity", b"chunked, chunked", b"xchunked", b"chunked;q=1"]
)
def test_a_body_comes_in_no_other_coding(value: bytes) -> None:
    assert refusal(b"/", (b"transfer-encoding", value)) == "bad_http"


def test_a_compressed_body_is_refused() -> None:
    assert refusal(b"/", (b"content-encoding", b"gzip")) == "encoding_not_supported"


# ---------------------------------------------------------------- names


def test_http_1_1_needs_a_host_and_1_0_does_not() -> None:
    assert refusal(host=None) == "bad_http"
    assert refusal(host=None, version="1.0") is None
    assert refusal(host=b"evil.example", version="1.0") == "host_not_allowed"


LOCAL = (
    b"localhost LocalHost localhost:1 127.0.0.1:65535 [::1] [::1]:80 a.tunnel.localhost A.B.tunnel.localhost:80"
).split()
ELSEWHERE = (
    b"evil.example localhost.evil.example tunnel.localhost xtunnel.localhost 127.0.0.2 0.0.0.0 [::] "
    b"relay.tunnel.example 1"
).split()
NO_NAME = [
    *b":80 localhost: localhost:65536 localhost:123456 localhost:+80 localhost:8O".split(),
    *b"localhost/ localhost? localhost# user@localhost localhost,evil".split(),
    *b"-a.tunnel.localhost a.tunnel.localhost. a..tunnel.localhost .localhost [::1 ::1 [localhost]".split(),
    *[b"x" * 64 + b".tunnel.localhost", b"x." * 140 + b"tunnel.localhost"],
    *[b"", b" ", b"local host", b"l\xc3\xb6calhost", b"localhost\x00"],
]


@pytest.mark.parametrize("host", LOCAL)
def test_a_listener_on_loopback_answers_to_loopback_names_and_to_its_tunnels(host: bytes) -> None:
    assert refusal(host=host) is None


@pytest.mark.parametrize("host", [*ELSEWHERE, *NO_NAME])
def test_a_listener_on_loopback_answers_to_no_other_name(host: bytes) -> None:
    """A page that has its own name rebound to 127.0.0.1 sends that name."""
    assert refusal(host=host) == "host_not_allowed"


@pytest.mark.parametrize("host", [*LOCAL, *ELSEWHERE])
def test_a_public_listener_answers_to_any_name(host: bytes) -> None:
    assert refusal(host=host, rules=PUBLIC) is None


@pytest.mark.parametrize("host", NO_NAME)
def test_a_public_listener_answers_to_no_host_that_is_not_a_name(host: bytes) -> None:
    assert refusal(host=host, rules=PUBLIC) == "host_not_allowed"


ORIGINS = [
    (b"localhost:80", b"http://localhost:80", None),
    (b"LOCALHOST", b"https://localhost", None),
    (b"localhost", b"http://Localhost", None),
    (b"localhost", b"http://evil.example", "origin_not_allowed"),
    (b"localhost:80", b"http://localhost", "origin_not_allowed"),
    (b"localhost", b"http://localhost:80", "origin_not_allowed"),
    (b"localhost", b"localhost", "origin_not_allowed"),
    (b"localhost", b"://localhost", "origin_not_allowed"),
    (b"localhost", b"javascript://localhost", "origin_not_allowed"),
    (b"localhost", b"file://localhost", "origin_not_allowed"),
    (b"localhost", b"null", "origin_not_allowed"),
    (b"localhost", b"", "origin_not_allowed"),
    (b"localhost", b"http://localhost/", "origin_not_allowed"),
    (b"localhost", b"http://localhost http://evil.example", "origin_not_allowed"),
    (None, b"https://evil.example", "origin_not_allowed"),  # HTTP/1.0 needs no Host
    (None, b"null", "origin_not_allowed"),
]


@pytest.mark.parametrize(("host", "origin", "code"), ORIGINS)
def test_a_page_may_call_its_own_origin_only(host: bytes | None, origin: bytes, code: str | None) -> None:
    version = "1.0" if host is None else "1.1"
    assert refusal(b"/", (b"origin", origin), host=host, version=version) == code


@pytest.mark.parametrize(("scheme", "code"), [(b"https", None), (b"http", "origin_not_allowed")])
def test_a_listener_with_tls_has_no_pages_without(scheme: bytes, code: str | None) -> None:
    rules = guard.Rules(hosts=None, schemes=frozenset({b"https"}))
    assert refusal(b"/", (b"origin", scheme + b"://relay"), host=b"relay", rules=rules) == code


# ---------------------------------------------------------------- whose request it is


FORWARDED = [
    ("192.0.2.7", [b"1.2.3.4"], "192.0.2.7"),  # no proxy of ours: it may say what it likes
    ("10.0.0.1", [], "10.0.0.1"),
    ("10.0.0.1", [b"192.0.2.7"], "192.0.2.7"),
    ("10.0.0.1", [b"1.2.3.4, 192.0.2.7"], "192.0.2.7"),  # the left part is the client's own invention
    ("10.0.0.1", [b"1.2.3.4", b"192.0.2.7 , 10.9.9.9"], "192.0.2.7"),
    ("10.0.0.1", [b"192.0.2.7, not an address"], "10.0.0.1"),
    ("10.0.0.1", [b"192.0.2.7, "], "10.0.0.1"),
    ("10.0.0.1", [b"10.0.0.2, 10.0.0.3"], "10.0.0.1"),
    ("10.0.0.1", [b"2001:db8::1"], "2001:db8::1"),
    ("fd00::1", [b"2001:db8::1, fd00::2"], "2001:db8::1"),
    ("127.0.0.1", [b"192.0.2.7:1234"], "127.0.0.1"),
    ("", [b"192.0.2.7"], ""),
]


@pytest.mark.parametrize(("peer", "said", "expected"), FORWARDED)
def test_an_address_is_believed_from_a_declared_proxy_and_from_nobody_else(
    peer: str, said: list[bytes], expected: str
) -> None:
    fields = [(b"x-forwarded-for", value) for value in said]
    assert guard.client_address(peer, fields, PROXIED) == expected
    assert guard.client_address(peer, fields, PUBLIC) == peer


NAMES = st.sampled_from([b"host", b"origin", b"x-forwarded-for", b"x"])


@given(st.binary(max_size=40), st.lists(st.tuples(NAMES, st.binary(max_size=20))))
def test_whatever_a_head_says_it_is_refused_with_an_error_or_passes(
    target: bytes, fields: list[tuple[bytes, bytes]]
) -> None:
    for rules in (LOOPBACK, PUBLIC, PROXIED):
        refusal(b"/" + target, *fields, rules=rules, host=None)
        assert guard.client_address("10.0.0.1", fields, rules)


def test_a_field_is_its_first_value_without_blanks() -> None:
    assert guard.field([(b"a", b" 1 "), (b"b", b"2"), (b"a", b"3")], b"a") == b"1"
    assert guard.field([(b"a", b"1")], b"b") is None
