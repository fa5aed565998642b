"""Whose answer a long message is, whatever pieces it comes in, and however it is written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrowslit.protocol.answers import addressed
from arrowslit.protocol.outline import MOST, Outline


def read(body: bytes, size: int) -> int | str | None:
    outline = Outline()
    for at in range(0, len(body), size):
        outline.feed(body[at : at + size])
    return outline.answers


@pytest.mark.promise("P5")
@pytest.mark.parametrize("size", [1, 2, 3, 7, 4096])
@pytest.mark.parametrize(
    ("body", "answers"),
    [
        (b'{"jsonrpc":"2.0","id":4,"result":{"a":"x","id":9}}', 4),
        (rb'{"id":"4\"}","error":{"code":1}}', '4"}'),
        (b' {"result":[1,{"id":3},"]}"], "id" : 7 }\n', 7),
        (rb'{"\u0069d":4,"result":"\\"}', 4),
        (b'{"id":4,"result":[[[],[{}]],"[{"],"_meta":{}}', 4),
        (rb'{"id":4,"\u0069d":5,"result":1}', None),
        (b'{"id":4,"id":4,"result":1}', None),
        (b'{"id":4,"ID":5,"result":1}', None),
        (b'{"id":4,"result":1,"Result":2}', None),
        (b'{"id":4,"result":1,"error":{}}', None),
        (b'{"id":4,"method":"x","result":1}', None),
        (b'{"id":4}', None),
        (b'{"result":1}', None),
        (b'{"id":4,"result":1}{"id":5,"result":1}', None),
        (b'{"id":4,"result":[1}}', 4),  # no reader takes what is no JSON
        (b'[{"id":4,"result":1}]', None),
        (b'{"id":4,"result":1', None),
        (b'{"id":4,"result":"x', None),
        (b'{"id":null,"result":1}', None),
        (b'{"id":4.0,"result":1}', None),
        (b'{"id":' + b"4" * 2000 + b',"result":1}', None),
        (b"{" + b'"a":1,' * MOST + b'"id":4,"result":1}', None),
        (b"", None),
    ],
)
def test_a_message_answers_what_every_reader_would_say(body: bytes, answers: object, size: int) -> None:
    assert read(body, size) == answers


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6) | st.just("id"), inner, max_size=4),
)


@given(
    value=VALUES,
    more=VALUES,
    ident=st.integers(0, 2**53) | st.text(max_size=20),
    size=st.integers(1, 60),
    last=st.booleans(),
)
def test_any_proper_answer_is_recognised(value: object, more: object, ident: int | str, size: int, last: bool) -> None:
    members: dict[str, Any] = {"jsonrpc": "2.0", "_meta": more, "result": value}
    whole = {**members, "id": ident} if last else {"id": ident, **members}
    for ascii_only in (True, False):
        assert read(json.dumps(whole, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass"), size) == ident


@given(st.binary(max_size=300), st.integers(1, 20))
def test_any_bytes_are_survived(body: bytes, size: int) -> None:
    read(body, size)


@pytest.mark.promise("P5")
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", False),
        (b" \n", False),
        (b'{"detail":"Unauthorized"}', False),
        (b'{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"no"}}', False),
        (b'{"error":"invalid_token"}', False),
        (b'{"jsonrpc":"2.0","id":4,"error":{}}', True),
        (b'{"id":4,"result":{}}', True),
        (b'{"Id":4,"result":{}}', True),
        (b'{"id":null,"ID":4,"result":{}}', True),
        (b'[{"id":4,"result":{}}]', True),
        (b"<html>", True),
        (b"\xff\xfe{", True),
    ],
)
def test_what_could_be_an_answer_to_somebody_is_told_from_what_could_not(body: bytes, expected: bool) -> None:
    assert addressed(body) is expected
