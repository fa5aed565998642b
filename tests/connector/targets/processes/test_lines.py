from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrowslit.connector.targets.processes.lines import Lines, LineTooLong, Tail


@given(st.lists(st.binary(max_size=5).map(lambda line: line.replace(b"\n", b"")), max_size=8), st.data())
def test_any_slicing_gives_the_same_lines(lines: list[bytes], data: st.DataObject) -> None:
    stream, cutter, cut = b"".join(line + b"\n" for line in lines) + b"rest", Lines(100), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        cut += cutter.receive(stream[:size])
        stream = stream[size:]

    assert cut == [line.rstrip(b"\r") for line in lines if line.strip()]
    assert cutter.rest() == b"rest"


def test_a_line_may_be_as_long_as_the_limit_in_any_slicing() -> None:
    assert Lines(4).receive(b"1234\n12") == [b"1234"]
    for slices in ([b"12345"], [b"12", b"345\n"], [b"\n1234", b"5"]):
        lines = Lines(4)
        with pytest.raises(LineTooLong):
            for data in slices:
                lines.receive(data)


@given(st.lists(st.binary(max_size=12), max_size=20))
def test_a_tail_is_the_end_of_all(pieces: list[bytes]) -> None:
    tail, whole = Tail(10), b"".join(piece.hex().encode() for piece in pieces)
    for piece in pieces:
        tail.receive(piece.hex().encode())
    assert tail.text() == whole[-10:].decode()


def test_a_tail_cannot_steer_a_terminal() -> None:
    tail = Tail()
    tail.receive(b"a\x1b]0;title\x07\r\n\tb\xff")
    assert tail.text() == "a�]0;title��\n\tb�"
