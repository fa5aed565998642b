"""Server-sent events: the same events from any slicing, and every byte of the stream kept."""

from __future__ import annotations

import json
import re
import time
from itertools import pairwise

import httpx2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from arrowslit.protocol.sse import MAX_EVENT, Event, Events, TooLong, clear, encode

Fields = tuple[str | None, bytes, str | None, int | None]


def read_all(*chunks: bytes) -> list[Event]:
    events = Events()
    return [event for chunk in chunks for event in events.feed(chunk)]


def fields(events: list[Event]) -> list[Fields]:
    return [(event.event, event.data, event.id, event.retry) for event in events]


def test_an_event_is_what_stands_before_a_blank_line() -> None:
    (event,) = read_all(b": hello\nevent: message\nid: 7\nretry: 1500\ndata: {\ndata:  }\nother: x\n\n")
    assert (event.event, event.id, event.retry, event.data) == ("message", "7", 1500, b"{\n }")


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_lines_may_end_in_three_ways(end: bytes) -> None:
    stream = end.join([b"data: a", b"data: b", b"", b"id", b"data", b"", b": ping", b"", b""])
    events = read_all(stream)
    assert fields(events) == [(None, b"a\nb", None, None), (None, b"", "", None), (None, b"", None, None)]
    assert b"".join(event.raw for event in events) == stream


def test_an_event_is_there_as_soon_as_its_blank_line_is() -> None:
    events = Events()
    assert events.feed(b"data: 1\r\n\r") == [Event(b"data: 1\r\n\r", b"1")]
    assert events.feed(b"\ndata: 2\r\n\r\n") == [Event(b"\ndata: 2\r\n\r\n", b"2")]


def test_a_comment_alone_is_passed_on_too() -> None:
    assert read_all(b": ping\r\n\r\n") == [Event(b": ping\r\n\r\n")]


def test_a_leading_byte_order_mark_is_no_part_of_a_field() -> None:
    assert read_all(b"\xef", b"\xbb", b"\xbfdata: 1\n\n") == [Event(b"\xef\xbb\xbfdata: 1\n\n", b"1")]
    assert fields(read_all(b"data: 1\n\n\xef\xbb\xbfdata: 2\n\n"))[1] == (None, b"", None, None)


def test_an_id_with_nul_and_a_retry_that_is_no_number_are_ignored() -> None:
    assert read_all(b"id: a\0b\nretry: 1s\ndata: x\n\n")[0].id is None
    assert read_all(b"id: a\0b\nretry: 1s\ndata: x\n\n")[0].retry is None


def test_what_is_unfinished_is_no_event() -> None:
    events = Events()
    assert events.feed(b"data: 1\n\ndata: 2\n") == [Event(b"data: 1\n\n", b"1")]
    assert events.rest() == b"data: 2\n"


def test_an_event_may_be_as_long_as_the_limit_and_no_longer() -> None:
    events = Events(limit=20)
    assert len(events.feed(b"data: " + b"x" * 12 + b"\n\n")) == 1
    with pytest.raises(TooLong) as too_long:
        events.feed(b"data: 1\n\ndata: " + b"x" * 13 + b"\n\n")
    assert [event.data for event in too_long.value.events] == [b"1"]


def test_an_event_that_does_not_end_is_given_up_at_the_limit() -> None:
    events = Events(limit=100)
    assert events.feed(b"data: " + b"x" * 94) == []
    with pytest.raises(TooLong):
        events.feed(b"x")


@pytest.mark.promise("P15")
@pytest.mark.parametrize("line", [b"\r", b"\n"])
def test_many_short_lines_take_time_that_grows_with_their_number_only(line: bytes) -> None:
    began = time.process_time()
    Events().feed(line * (1 << 20))
    assert time.process_time() - began < 4.0  # one second here; with a search to the end for each line, eight


# ---------------------------------------------------------------- for all streams

lines = st.sampled_from(
    [
        b"data: a",
        b"data",
        b"data:  b",
        b"id: 1",
        b"id",
        b"event: x",
        b": c",
        b":",
        b"retry: 5",
        b"",
        b"",
        b"\xc3\xa9",
        b"d:",
    ]
)
ends = st.sampled_from([b"\n", b"\r\n", b"\r"])
streams = st.lists(st.tuples(lines, ends).map(b"".join), max_size=12).map(b"".join) | st.binary(max_size=40)


@st.composite
def sliced(draw: st.DrawFn) -> list[bytes]:
    """A stream, cut at any places."""
    stream = draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + draw(streams)
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    return [stream[start:end] for start, end in pairwise([0, *cuts, len(stream)])]


@given(sliced())
@example([b"data: a\r", b"\n\r", b"\ndata: b\n\n"])
@example([b"\r", b"", b"\n", b"data: 1\r\r", b"\n\n"])
def test_no_byte_is_lost_and_no_slicing_matters(chunks: list[bytes]) -> None:
    events = Events()
    found = [event for chunk in chunks for event in events.feed(chunk)]
    assert b"".join(event.raw for event in found) + events.rest() == b"".join(chunks)
    assert fields(found) == fields(read_all(b"".join(chunks)))


@given(streams)
def test_events_are_those_of_a_plain_reading(stream: bytes) -> None:
    assert fields(read_all(stream)) == plainly(stream)


def plainly(stream: bytes) -> list[Fields]:
    """WHATWG HTML 9.2.6, word by word, for a whole stream; blocks of comments count as events here."""
    *whole, _unfinished = re.split(rb"\r\n|\n|\r", stream.removeprefix(b"\xef\xbb\xbf"))
    found: list[Fields] = []
    event, data, ident, retry = None, list[bytes](), None, None
    blank = True
    for line in whole:
        name, _, value = line.partition(b":")
        value = value[1:] if value[:1] == b" " else value
        blank_before, blank = blank, not line
        if blank and not blank_before:
            found.append((event, b"\n".join(data), ident, retry))
            event, data, ident, retry = None, [], None, None
        elif name == b"data":
            data.append(value)
        elif name == b"event":
            event = value.decode(errors="replace")
        elif name == b"id" and b"\0" not in value:
            ident = value.decode(errors="replace")
        elif name == b"retry" and value.isdigit():
            retry = int(value)
    return found


# ---------------------------------------------------------------- writing

plain = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=20)


@given(st.binary(max_size=60), st.none() | plain, st.none() | plain, st.none() | st.integers(0, 10**8))
@example(b"a\n\ndata: b", None, None, None)
@example(b"\ra\r\n", "message", " 1", 0)
def test_what_is_written_is_read_as_one_event(
    data: bytes, event: str | None, ident: str | None, retry: int | None
) -> None:
    written = encode(data, event=event, id=ident, retry=retry)
    expected = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    assert read_all(written) == [Event(written, expected, event, ident, retry)]


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=40))
@example("{}\n\ndata: injected")
@example("a\rdata: injected\r\r")
@example("line\u2028separator\u0085")
def test_another_parser_finds_exactly_one_event_too(text: str) -> None:  # PROTO-16
    response = httpx2.Response(
        200,
        headers={"content-type": "text/event-stream"},
        content=encode(text.encode(), event="message", id="1"),
        request=httpx2.Request("GET", "http://test"),
    )
    (event,) = httpx2.EventSource(response)
    assert (event.event, event.id) == ("message", "1")
    assert event.data == text.replace("\r\n", "\n").replace("\r", "\n")


@pytest.mark.parametrize("value", ["a\nb", "a\r", "\0", "1\r\ndata: injected"])
def test_an_id_or_a_name_cannot_write_a_field_of_its_own(value: str) -> None:
    with pytest.raises(ValueError, match="id holds a line end"):
        encode(b"x", id=value)
    with pytest.raises(ValueError, match="event holds a line end"):
        encode(b"x", event=value)


CONTROLS = ["\x0b", "\x0c", "\x1c", "\x1d", "\x1e"]
BREAKS = [*CONTROLS, "\x85", "\u2028", "\u2029"]


@pytest.mark.promise("P6")
@pytest.mark.parametrize("end", BREAKS, ids=ascii)
def test_nobody_finds_a_field_in_a_comment_or_in_data(end: str) -> None:
    for hiding in (f": x{end}data: hidden{end}{end}\n\n", f'data: {{"a":"{end}data: hidden{end}{end}"}}\n\n'):
        (event,) = read_all(hiding.encode())
        if end in CONTROLS and event.data:
            with pytest.raises(ValueError, match="control characters"):  # in JSON they are none
                clear(event)
            continue

        shown = clear(event)

        assert not any(line.startswith("data: hidden") for line in shown.raw.decode().splitlines())
        assert fields(read_all(shown.raw)) == fields([shown])


def test_what_an_event_says_stays_the_same() -> None:
    (event,) = read_all('event: message\nid: 7\nretry: 5\ndata: {"a":"1\u2028\x852"}\n\n'.encode())

    shown = clear(event)

    assert json.loads(shown.data) == {"a": "1\u2028\x852"}
    assert (shown.event, shown.id, shown.retry) == ("message", "7", 5)
    plain = Event(b"data: \xe2\x80\xa6\n\n", b"\xe2\x80\xa6")
    assert clear(plain) is plain


@pytest.mark.promise("P15")
@pytest.mark.parametrize(
    "data",
    [
        "data: " + "\u2028" * (MAX_EVENT // 4) + "\n",
        "data: " + "\x85" * (MAX_EVENT // 4) + "\n",
        ":\u2028\n" + "data\n" * (MAX_EVENT // 6),
    ],
    ids=["separators", "next lines", "lines"],
)
def test_an_event_does_not_grow_past_the_limit(data: str) -> None:
    (event,) = read_all((data + "\n").encode())
    with pytest.raises(ValueError, match="longer than"):
        clear(event)


@pytest.mark.parametrize("field", ["id", "event"])
def test_a_name_that_ends_a_line_for_some_is_refused(field: str) -> None:
    (event,) = read_all(f"{field}: a\u2028data: hidden\ndata: x\n\n".encode())
    with pytest.raises(ValueError, match="end a line"):
        clear(event)
