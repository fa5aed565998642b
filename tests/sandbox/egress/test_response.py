"""A response says that its connection ends, whatever the server said about that."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrowslit.sandbox.egress.response import MAX_HELD, Heads

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
SENT = b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\nX-A: b\r\n\r\nHTTP/1.1 200 body\r\n\r\n"
PASSED = b"HTTP/1.1 200 OK\r\nX-A: b\r\nconnection: close\r\n\r\nHTTP/1.1 200 body\r\n\r\n"


def through(*pieces: bytes) -> bytes:
    heads = Heads()
    return b"".join([heads.feed(piece) for piece in pieces]) + heads.rest()


@given(st.lists(st.integers(1, 40), max_size=12), st.integers(0, 2))
def test_the_final_head_alone_is_rewritten_however_it_is_cut(cuts: list[int], interim: int) -> None:
    rest, pieces = CONTINUE * interim + SENT, []
    for cut in cuts:
        pieces.append(rest[:cut])
        rest = rest[cut:]

    assert through(*pieces, rest) == CONTINUE * interim + PASSED


def test_what_comes_after_the_head_is_not_held() -> None:
    heads = Heads()
    heads.feed(SENT)

    assert heads.feed(b"x") == b"x"


@pytest.mark.parametrize(
    "sent", [b"", b"hello\r\n\r\nworld", b"HTTP/2 200\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"y" * MAX_HELD]
)
def test_what_is_no_http_goes_on_as_it_is(sent: bytes) -> None:
    assert through(sent, b"more") == sent + b"more"


def test_a_head_without_carriage_returns_is_understood() -> None:
    assert through(b"HTTP/1.0 200 OK\nX-A: b\n\nbody") == b"HTTP/1.0 200 OK\r\nX-A: b\r\nconnection: close\r\n\r\nbody"
