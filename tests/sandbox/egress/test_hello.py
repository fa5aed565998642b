"""The watch over TLS: the name in a ClientHello, however it is cut, in the second one too."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrowslit.policy.egress import Refusal
from arrowslit.sandbox.egress.attempt import Refused
from arrowslit.sandbox.egress.hello import MAX_HELLO, Watch, read_hello
from tests.sandbox.egress.kit import HOST, authority, hello

HELLO = hello(HOST)
FINISHED = b"\x14\x03\x03\x00\x01\x01" + b"\x17\x03\x03\x00\x20" + bytes(32)  # change cipher spec, then encrypted


def records(message: bytes, size: int) -> bytes:
    """A handshake message in records of `size` bytes each."""
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece for piece in pieces)


def extended(*extensions: tuple[int, bytes]) -> bytes:
    """The body of a ClientHello with these extensions."""
    listed = b"".join(kind.to_bytes(2, "big") + len(data).to_bytes(2, "big") + data for kind, data in extensions)
    return b"\x03\x03" + bytes(32) + b"\0" + b"\0\x02\x13\x01" + b"\x01\0" + len(listed).to_bytes(2, "big") + listed


def named(*names: bytes, kind: int = 0) -> tuple[int, bytes]:
    listed = b"".join(bytes([kind]) + len(name).to_bytes(2, "big") + name for name in names)
    return 0, len(listed).to_bytes(2, "big") + listed


def message(body: bytes) -> bytes:
    return b"\x01" + len(body).to_bytes(3, "big") + body


def code_of(*pieces: bytes, literal: bool = False) -> Refusal:
    watch = Watch(HOST, literal=literal)
    with pytest.raises(Refused) as refused:
        for piece in pieces:
            watch.feed(piece)
    return refused.value.deny.code


@given(st.integers(1, 600), st.lists(st.integers(1, 900), max_size=20))
def test_a_hello_passes_whole_and_unchanged_however_it_is_cut(size: int, cuts: list[int]) -> None:
    sent = records(HELLO[5:], size) + FINISHED + b"\x17\x03\x03\x00\x02hi"
    watch, passed, rest = Watch(HOST, literal=False), b"", sent
    for cut in cuts:
        passed += watch.feed(rest[:cut])
        rest = rest[cut:]
    passed += watch.feed(rest)

    assert passed == sent
    assert watch.hello is not None
    assert (watch.hello.name, watch.hello.ech) == (HOST, False)


def test_nothing_passes_before_the_name_was_seen() -> None:
    watch = Watch(HOST, literal=False)

    assert all(watch.feed(HELLO[at : at + 1]) == b"" for at in range(len(HELLO) - 1))
    assert watch.feed(HELLO[-1:]) == HELLO


def test_the_name_is_compared_without_regard_to_case() -> None:
    assert Watch(HOST, literal=False).feed(hello("Allowed.TEST"))


@pytest.mark.promise("P13")
@pytest.mark.parametrize("between", [b"", b"\x14\x03\x03\x00\x01\x01", b"\x17\x03\x03\x00\x04data"])
@pytest.mark.parametrize("size", [1, 3, 100, 4000])
def test_a_second_hello_may_not_ask_for_another_name(between: bytes, size: int) -> None:
    assert code_of(HELLO, between, records(hello("evil.test")[5:], size)) is Refusal.SNI_MISMATCH
    assert code_of(HELLO, between, records(hello(None)[5:], size)) is Refusal.SNI_MISSING
    assert code_of(HELLO, between + records(message(bytes(MAX_HELLO)), 4000)) is Refusal.NOT_TLS


def test_a_server_may_ask_for_a_second_hello(tmp_path: Path) -> None:
    """One that knows none of the client's key shares does, in earnest (HelloRetryRequest)."""
    ca = authority(tmp_path)
    ca.server.set_ecdh_curve("secp521r1")
    to_server, to_client, let_through = ssl.MemoryBIO(), ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ca.client.wrap_bio(to_client, to_server, server_hostname=HOST)
    server = ca.server.wrap_bio(let_through, to_client, server_side=True)
    watch = Watch(HOST, literal=False)
    sent = []
    for _ in range(2):
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        sent.append(to_server.read())
        let_through.write(watch.feed(sent[-1]))
        with pytest.raises(ssl.SSLWantReadError):
            server.do_handshake()
    client.do_handshake()
    let_through.write(watch.feed(to_server.read()))
    server.do_handshake()

    assert all(HOST.encode() in each for each in sent)
    assert client.version() == server.version() == "TLSv1.3"


def test_what_follows_the_hello_of_tls_1_2_passes_as_it_is() -> None:
    watch = Watch(HOST, literal=False)
    watch.feed(HELLO)
    key_exchange = records(b"\x10\x00\x00\x21" + bytes(33), 4000)

    assert watch.feed(key_exchange + b"whatever it is") == key_exchange + b"whatever it is"


def test_encrypted_hello_is_noted() -> None:
    assert read_hello(extended(named(HOST.encode()), (0xFE0D, b"\0"))).ech is True


@pytest.mark.parametrize(
    "body",
    [
        b"",
        extended(named(HOST.encode()))[:-1],
        extended(named(HOST.encode())) + b"\0",
        extended(named(HOST.encode()), named(b"evil.test")),
        extended(named(HOST.encode(), b"evil.test")),
        extended(named()),
        extended(named(HOST.encode(), kind=1)),
        extended(named("ällowed.test".encode())),
        extended((0, named(HOST.encode())[1] + b"\0")),
    ],
)
def test_a_hello_that_could_be_read_in_two_ways_is_none(body: bytes) -> None:
    with pytest.raises(Refused) as refused:
        read_hello(body)

    assert refused.value.deny.code is Refusal.NOT_TLS


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x02\x01\x00\x05",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\xff\xff",
        b"\x18\x03\x01\x00\x05",
        records(message(extended(named(HOST.encode()))) + b"\x01", 4000),
        records(HELLO[5:], 100)[:105] + b"\x17\x03\x03\x00\x01x",
        records(HELLO[5:], 100)[:105] + b"\x14\x03\x03\x00\x01\x01",
    ],
)
def test_records_that_no_client_sends_are_refused(sent: bytes) -> None:
    assert code_of(sent) is Refusal.NOT_TLS


@given(st.binary(max_size=400))
def test_whatever_is_sent_passes_or_is_refused(data: bytes) -> None:
    watch = Watch(HOST, literal=False)
    try:
        assert watch.feed(HELLO[: len(data)] + data) in (b"", HELLO[: len(data)] + data)
    except Refused:
        assert watch.hello is None or watch.hello.name == HOST


def test_an_address_needs_no_name_and_allows_no_other() -> None:
    assert Watch("127.0.0.1", literal=True).feed(hello(None))
    assert code_of(hello("evil.test"), literal=True) is Refusal.SNI_MISMATCH
