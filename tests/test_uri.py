"""What a granted resource covers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrowslit.errors import Error
from arrowslit.uri import check_resource, covers


@pytest.mark.parametrize("text", ["stock://catalogue", "file:///a/b.txt", "test://t/{id}/data", "urn:isbn:{number}"])
def test_a_uri_or_a_template_can_be_granted(text: str) -> None:
    assert check_resource(text) == text


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("file:///*", "wildcard_not_allowed"),
        ("file:///{path*}", "wildcard_not_allowed"),
        ("file:///{+path}", "validation_error"),
        ("file:///{?q}", "validation_error"),
        ("file:///{", "validation_error"),
        ("{anything}", "validation_error"),
        ("catalogue", "validation_error"),
        ("a://b c", "validation_error"),
        ("a://é", "validation_error"),
        ("a://" + "x" * 2048, "validation_error"),
        ("", "validation_error"),
    ],
)
def test_what_is_no_uri_and_no_simple_template_cannot(text: str, code: str) -> None:
    with pytest.raises(Error) as refused:
        check_resource(text)
    assert refused.value.code == code


def test_a_template_covers_what_fills_it_in_and_nothing_beside_it() -> None:
    granted = {"log://{day}/{name}.txt"}
    assert covers(granted, "log://monday/a.b.txt")
    assert covers({"log://{app}-{day}"}, "log://api-2026-11-23")
    for outside in ("log://monday/a/b.txt", "log:///a.txt", "log://../a.txt", "log://x/a.txt/", "log://x/aXtxt"):
        assert not covers(granted, outside)


@pytest.mark.parametrize(
    "value", ["a", "New%20York", "%C3%A9", "me%40x.org", "10%3A30", "a.b", ".hidden", "~me", "%41"]
)
def test_a_value_may_be_any_text_that_was_written_as_uris_are(value: str) -> None:
    assert covers({"file:///a/{name}"}, f"file:///a/{value}")


@pytest.mark.promise("P6")
@pytest.mark.parametrize(
    "uri",
    [
        f"file:///a/{value}"
        for value in [
            # the template, and what is left of one
            "{name}", "{other}", "{+name}", "%7Bname}", "{", "}", "x{name}",
            # ways elsewhere: plain, encoded once and twice, and in what is not UTF-8
            "", "/", "x/y", "x/", "//x", ".", "..", "../b", "./x", "x/..", "x%2Fy", "%2f", "%2e", "%2E%2E", "%2e.",
            ".%2e",
            "..%2Fb", "%252e%252e", "%252F", "%c0%af", "%c0%ae%c0%ae", "%e0%80%af", "%f0%80%80%af", "%C1%9C",
            "%ed%a0%80",
            "%ff", "%af", "x%c3", "%u002f", "%2", "%", "%zz", "x%%32f",
            # what some systems take for a way: backslashes, drives, dots with blanks, parameters of a segment
            "\\", "x\\y", "%5C", "%5c..", "C%3A", "c%3A%5Cx", "..%20", "%20", "%20..", "...", "..%3B", "..%3Bx%3D1",
            ".%3b",
            # another part of the URI
            "x?y", "x%3Fy", "x#y", "x%23y", "x&y", "x%26admin%3D1", "x;y", "x:y", "x@y", "x=y", "x y", "x+y", "x,y",
            # characters that nobody sees, or that some take for others
            "\0", "%00", "x%00", "x%00.txt", "%0a", "x%0D%0Ay", "x\n", "%7f", "%C2%85", "%E2%80%A8", "%E2%80%8B",
            "%EF%BB%BF",
            "%E2%80%AE", "%C2%AD", "é", "ｘ", "%EF%BC%8F", "%EF%BC%BC", "%EF%BC%8E%EF%BC%8E", "%E2%80%A5", "%E2%80%A4",
            "%EF%BC%85", "%EF%BC%9F", "%EF%BC%83", "%EE%80%80", "x" * 2048,
        ]
    ]
    + [
        "file:///a", "file:///b/x", "FILE:///a/x", "file:///A/x", "file:////a/x", "file://a/x", "file:/a/x", "file:a/x",
        "file://host/a/x", "file:///a//x", "file:///./a/x", "file:///a/../a/x", "file:///%61/x", "xfile:///a/x",
            " file:///a/x",
        "file:///a/x ", "",
    ],
)  # fmt: skip
def test_nothing_but_one_value_fills_in_a_template(uri: str) -> None:
    assert not covers({"file:///a/{name}", "file:///a/{name}/data"}, uri)


@pytest.mark.promise("P6")
@pytest.mark.parametrize(
    ("template", "uri"),
    [
        ("a://{x}{y}", "a://.."),
        ("a://{x}-{y}", "a://x-.."),
        ("a://{x}-{y}", "a://x-y-.."),
        ("a://{x}-{y}", "a://..-x"),
        ("a://{x}-{y}", "a://x-"),
        ("a://{x}.{y}", "a://..."),
        ("a://{x}.{y}", "a://x...."),
        ("a://.{x}", "a://.."),
        ("a://{x}.", "a://.."),
        ("a://{x}2F{y}", "a://a%2Fb"),
        ("a://{x}/b/b", "a://b/b"),
        ("a://x{x}", "a://x"),
        ("a://one?q={x}", "a://one?q=a&b=c"),
        ("a://one?q={x}", "a://one?q=a%26b%3Dc"),
    ],
)
def test_values_that_meet_are_no_way_around_either(template: str, uri: str) -> None:
    assert not covers({template}, uri)


def test_a_long_uri_is_compared_at_once() -> None:
    """A caller may ask a thousand times; a comparison that tried all ways to cut this in six would take years."""
    assert not covers({"a://{a}-{b}-{c}-{d}-{e}-{f}!"}, "a://" + "x-" * 1000)


@pytest.mark.promise("P6")
@given(st.text(max_size=30))
def test_no_value_of_a_template_leads_out_of_its_place(value: str) -> None:
    if covers({"a://in/{x}"}, f"a://in/{value}"):
        assert value
        assert not set(value) & set("/\\?#{}")
        assert value not in (".", "..")
