"""What begins as the last request did is read as that was; whatever is different in one byte is not."""

from __future__ import annotations

import pytest

from arrowslit.edge.again import HEADS, LONGEST, Again
from arrowslit.edge.head import Head

FIELDS = [(b"host", b"relay"), (b"authorization", b"Bearer key"), (b"content-length", b"5")]
SAID = b"POST /mcp/a/s HTTP/1.1\r\nHost: relay\r\nAuthorization: Bearer key\r\nContent-Length: 5\r\n\r\n"
HEAD = Head.read(b"POST", b"/mcp/a/s", "1.1", FIELDS, "127.0.0.1")


def told(said: bytes = SAID, head: Head = HEAD) -> Again:
    again = Again()
    again.remember(said + b"hello", head, 5)
    return again


def test_the_same_head_with_another_body_of_its_length_is_known() -> None:
    assert told().read(SAID + b"world") == (HEAD, b"world")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        SAID,
        SAID + b"worl",
        SAID + b"world!",
        SAID + b"hello" + SAID + b"hello",
        b"\r\n" + SAID + b"hello",
        SAID.replace(b"key", b"KEY") + b"hello",
        SAID.replace(b"Host", b"host") + b"hello",
        SAID.replace(b": 5", b": 6") + b"hello",
        SAID[:-4] + b"\r\nExpect: 100-continue\r\n\r\nhello",
    ],
)
def test_anything_else_is_for_the_parser(data: bytes) -> None:
    assert told().read(data) is None


def test_a_head_whose_end_is_not_where_it_seems_is_not_remembered() -> None:
    again = Again()
    again.remember(b"POST /mcp/a/s HTTP/1.1\nContent-Length: 9\n\nab\r\n\r\nhello", HEAD, 9)
    again.remember(b"\r\n\r\n" + SAID + b"hello", HEAD, 5)
    assert not again._heads


@pytest.mark.parametrize("name", [b"expect", b"x-long"])
def test_what_needs_more_than_its_bytes_and_what_is_long_is_not_remembered(name: bytes) -> None:
    value = b"100-continue" if name == b"expect" else b"x" * LONGEST
    head = Head.read(b"POST", b"/mcp/a/s", "1.1", [*FIELDS, (name, value)], "127.0.0.1")
    said = SAID[:-2] + name + b": " + value + b"\r\n\r\n"
    assert told(said, head).read(said + b"world") is None


def test_only_the_last_few_are_kept() -> None:
    again = Again()
    for length in range(2 * HEADS):
        again.remember(SAID.replace(b": 5", b": %d" % length) + bytes(length), HEAD, length)
    assert len(again._heads) == HEADS
    assert again.read(SAID.replace(b": 5", b": 0")) is None
