from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrowslit.protocol import exchange
from arrowslit.protocol.exchange import Malformed, RequestHead, ResponseHead


def test_heads_arrive_as_they_were_sent() -> None:
    asked = RequestHead("POST", (("content-type", "application/json"), ("x", "é")), "call_1")
    said = ResponseHead(202, [])
    assert exchange.request(exchange.encode(asked)) == asked
    again = RequestHead("DELETE", asked.headers, "call_2", "inventory")
    assert exchange.request(exchange.encode(again)) == again, "only the headers are remembered"
    assert exchange.response(exchange.encode(said)) == said


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "a\0", "a\x7f", "x" * 8193, "☃"])
def test_a_header_value_that_could_be_more_than_one_is_refused(value: str) -> None:
    with pytest.raises(Malformed):
        exchange.response(exchange.encode(ResponseHead(200, [("x", value)])))
    with pytest.raises(Malformed):
        exchange.request(exchange.encode(RequestHead("GET", [("x", value)], "call_1")))


@pytest.mark.parametrize("name", ["", "a b", "a:b", "A", "ä", "a\r\n", "x" * 129])
def test_a_header_name_is_a_token_in_lower_case(name: str) -> None:
    with pytest.raises(Malformed):
        exchange.response(exchange.encode(ResponseHead(200, [(name, "v")])))


@pytest.mark.parametrize("status", [-1, 0, 100, 101, 199, 600, 1 << 70])
def test_a_status_is_final(status: int) -> None:
    with pytest.raises(Malformed):
        exchange.response(b'{"status":%d,"headers":[]}' % status)


@pytest.mark.parametrize("method", ["PUT", "post", "CONNECT", "", "GET / HTTP/1.1\r\n"])
def test_an_exchange_has_one_of_three_methods(method: str) -> None:
    with pytest.raises(Malformed):
        exchange.request(exchange.encode(RequestHead(method, [], "call_1")))


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode) | st.just(b"[" * 100_000))
def test_whatever_comes_is_a_head_or_malformed(payload: bytes) -> None:
    for read in (exchange.request, exchange.response):
        try:
            read(payload)
        except Malformed:
            continue
