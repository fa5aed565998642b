"""Answers and progress are told from everything else that a stream brings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrowslit.protocol.answers import answer_id, page, progress_token


@pytest.mark.promise("P5")
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"jsonrpc":"2.0","id":4,"result":{"content":[]}}', 4),
        (b'{"jsonrpc":"2.0","id":"4","error":{"code":1,"message":""}}', "4"),
        (rb'{"jsonrpc":"2.0","\u0069d":4,"result":null}', 4),
        (b'{"jsonrpc":"2.0","id":4,"method":"sampling/createMessage","params":{}}', None),
        (b'{"jsonrpc":"2.0","id":4,"method":"elicitation/create","result":{}}', None),
        (b'{"jsonrpc":"2.0","id":4}', None),
        (b'{"jsonrpc":"2.0","id":true,"result":{}}', None),
        (b'{"jsonrpc":"2.0","id":4.0,"result":{}}', None),
        (b'{"jsonrpc":"2.0","id":null,"error":{}}', None),
        (b'{"jsonrpc":"2.0","id":4,"result":{', None),
        (b"[" * 100_000, None),
        (b'{"id":4,"result":' + b"[" * 100_000, None),
        (b'{"id":"\xff","result":{}}', None),
        (b"", None),
        (b"4", None),
    ],
)
def test_the_answer_of_a_stream_is_known_by_its_id(data: bytes, expected: int | str | None) -> None:
    found = answer_id(data)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":4,"progress":1}}', 4),
        (b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"4","progress":1}}', "4"),
        (b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":true}}', None),
        (b'{"jsonrpc":"2.0","method":"notifications/message","params":{"progressToken":4}}', None),
        (b'{"jsonrpc":"2.0","id":1,"result":{"progressToken":4}}', None),
        (b'{"progressToken":', None),
        (b'{"method":"\xff","params":{"progressToken":1}}', None),
        (b'{"progressToken":' + b"[" * 100_000, None),
        (b"", None),
    ],
)
def test_progress_is_known_by_its_token(data: bytes, expected: int | str | None) -> None:
    assert progress_token(data) == expected


@given(st.binary(max_size=80).map(lambda noise: b'{"id":1,"progressToken":' + noise) | st.binary())
def test_following_a_stream_survives_any_bytes(data: bytes) -> None:
    for found in (answer_id(data), progress_token(data)):
        assert found is None or isinstance(found, int | str)


@pytest.mark.promise("P6")
@pytest.mark.parametrize(
    ("cursor", "expected"),
    [
        ("null", None),
        ('""', None),
        ('"2"', b'"2"'),
        (r'"\u0032"', b'"2"'),
        ("0", b"0"),
        ("{}", b"{}"),
        ("[1]", b"[1]"),
        ("1e999", b"1e999"),
    ],
)
def test_a_cursor_of_any_kind_says_that_a_list_goes_on(cursor: str, expected: bytes | None) -> None:
    found = page(b'{"jsonrpc":"2.0","id":1,"result":{"tools":[],"nextCursor":%b}}' % cursor.encode())
    assert found is not None
    assert found.next == expected
