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
    assert covers(granted, "log://{day}/{name}.txt")
    assert covers(granted, "log://monday/a.b.txt")
    for outside in ("log://monday/a/b.txt", "log:///a.txt", "log://../a.txt", "log://x/a.txt/", "log://x/aXtxt"):
        assert not covers(granted, outside)


@pytest.mark.promise("P6")
@given(st.text(max_size=30))
def test_no_value_of_a_template_leads_out_of_its_place(value: str) -> None:
    if covers({"a://in/{x}"}, f"a://in/{value}"):
        assert value
        assert not set(value) & set("/\\?#") or value == "{x}"
        assert value not in (".", "..")
