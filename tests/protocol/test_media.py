"""Heads of answers: which say how everybody reads the body, and which do not."""

from __future__ import annotations

import pytest

from arrowslit.errors import Error
from arrowslit.protocol.jsonrpc import Refused
from arrowslit.protocol.media import acceptable, is_events, streams_events

JSON, EVENTS = ("content-type", "application/json"), ("content-type", "text/event-stream")

READ = [
    ([], False),
    ([JSON], False),
    ([EVENTS], True),
    ([("content-type", "Text/Event-Stream ;Charset=UTF-8")], True),
    ([("content-type", 'application/json; charset="utf-8"')], False),
    ([("content-type", "application/json;charset=utf8; profile=x")], False),
    ([("content-type", "application/problem+json")], False),
    ([("content-type", "text/html; charset=iso-8859-1")], False),  # no client looks for an answer there
    ([EVENTS, ("content-encoding", "identity")], True),
    ([JSON, ("content-encoding", " IDENTITY , identity")], False),
    ([JSON, ("content-encoding", "")], False),
]


@pytest.mark.parametrize(("headers", "events"), READ)
def test_a_plain_head_says_what_the_body_is(headers: list[tuple[str, str]], events: bool) -> None:
    assert streams_events(200, headers) is events


REFUSED = [
    *(
        [kind, *(("content-encoding", line) for line in lines)]
        for kind in (JSON, EVENTS)
        for lines in (
            ["gzip"],
            ["GZip"],
            ["x-gzip"],
            ["deflate"],
            ["br"],
            ["zstd"],
            ["compress"],
            ["aes128gcm"],
            ["identity, gzip"],
            ["gzip,identity"],
            [",deflate"],
            ["\tbr\t"],
            ["identity", "gzip"],
            ["gzip", "identity"],
            ["identity gzip"],
            ["identity;q=1"],
        )
    ),
    [("content-encoding", "gzip")],
    *(
        [("content-type", value)]
        for value in (
            "application/json; charset=utf-16",
            "application/json; charset=UTF-7",
            "text/event-stream;charset=utf-16le",
            "text/event-stream; charset='utf-7'",
            "text/event-stream; charset=utf-8; charset=utf-7",
            "text/event-stream; charset*=utf-7''x",
            "text/event-stream; x; charset =latin-1",
            "application/json; charset=us-ascii",
            "application/json; charset=utf-8-sig",
            "application/json charset=utf-16",
            "application/json, text/event-stream",
            "application/json; x=text/event-stream",
            "text/event-stream; x=application/json",
            "text/plain; text/event-stream",
            "text/event-streams",
            "x-text/event-stream",
            "text/event-stream\xa0",
            "text/event-stream, text/event-stream",
        )
    ),
    [JSON, EVENTS],
    [EVENTS, JSON],
    [JSON, JSON],
]


@pytest.mark.parametrize("headers", REFUSED, ids=str)
def test_a_head_that_leaves_open_how_the_body_is_read_is_refused(headers: list[tuple[str, str]]) -> None:
    with pytest.raises(Refused) as refused:
        streams_events(200, headers)

    assert "compression off" in (Error(refused.value.code, refused.value.message).hint or "")


def test_a_part_of_a_body_is_refused() -> None:
    with pytest.raises(Refused, match="part of a body"):
        streams_events(206, [JSON])


def test_a_type_is_compared_without_case_and_parameters() -> None:
    assert is_events("TEXT/event-stream; charset=utf-8")
    assert not is_events("text/event-stream2")
    assert not is_events(None)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("application/json, text/event-stream", True),
        ("Application/JSON", True),
        ("text/event-stream;q=0.5", True),
        ("*/*", True),
        ("text/html, application/*;q=0.1", True),
        ("text/html", False),
        ("", False),
        ("application/json;q=0", False),
        ("application/json; charset=utf-8; q=0.000, image/*", False),
        ("application/jsonx", False),
    ],
)
def test_a_client_says_which_forms_of_an_answer_it_takes(accept: str, expected: bool) -> None:
    assert acceptable(accept) is expected
