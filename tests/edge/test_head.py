"""A head that comes again need not be read again; one that says anything else has to be."""

from __future__ import annotations

import pytest

from arrowslit.edge.head import Head

FIELDS = [
    (b"host", b"relay"),
    (b"authorization", b"Bearer key"),
    (b"content-length", b"120"),
    (b"accept", b" application/json"),
]
ASKED = (b"POST", b"/mcp/agent/server", "1.1", FIELDS)


def read() -> Head:
    return Head.read(*ASKED, "127.0.0.1")


def test_what_it_says() -> None:
    head = read()
    assert (head.method, head.path, head.query, head.client) == ("POST", "/mcp/agent/server", "", "127.0.0.1")
    assert head.credential == "key"
    assert list(head.headers) == [("host", "relay"), ("accept", "application/json")], "the credential ends at the door"


@pytest.mark.parametrize("length", [b"120", b"7"])
def test_the_same_with_a_body_of_any_length_is_known(length: bytes) -> None:
    method, target, version, fields = ASKED
    assert read().says(method, target, version, [(n, length if n == b"content-length" else v) for n, v in fields])


@pytest.mark.parametrize(
    "said",
    [
        (b"GET", *ASKED[1:]),
        (b"POST", b"/mcp/other/server", *ASKED[2:]),
        (*ASKED[:2], "1.0", FIELDS),
        (*ASKED[:3], [*FIELDS, (b"expect", b"100-continue")]),
        (*ASKED[:3], FIELDS[:3]),
        (*ASKED[:3], [FIELDS[0], (b"authorization", b"Bearer other"), *FIELDS[2:]]),
        (*ASKED[:3], [*FIELDS[:2], (b"transfer-encoding", b"chunked"), FIELDS[3]]),
        (*ASKED[:3], [*FIELDS[:2], FIELDS[3], FIELDS[2]]),
    ],
)
def test_what_differs_in_anything_else_is_not(said: tuple[bytes, bytes, str, list[tuple[bytes, bytes]]]) -> None:
    assert not read().says(*said)


@pytest.mark.parametrize("name", [b"authorization", b"mcp-session-id", b"x-api-key"])
def test_what_stands_behind_the_length_is_not_taken_from_the_last_request(name: bytes) -> None:
    said = (*ASKED[:3], [FIELDS[0], FIELDS[2], (name, b"Bearer one")])
    other = (*ASKED[:3], [FIELDS[0], FIELDS[2], (name, b"Bearer two")])
    assert Head.read(*said, "").says(*said)
    assert not Head.read(*said, "").says(*other)


def test_a_head_without_a_length_is_known_too() -> None:
    said = (b"GET", b"/mcp/agent/server", "1.1", FIELDS[:2])
    assert Head.read(*said, "").says(*said)


def test_two_credentials_are_a_refusal_for_later() -> None:
    head = Head.read(*ASKED[:3], [*FIELDS, (b"x-api-key", b"other")], "")
    assert head.credential is None
    assert head.refusal is not None
    assert head.refusal.code == "header_ambiguous"
