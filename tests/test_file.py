from __future__ import annotations

import pytest

from arrowslit.errors import Error
from arrowslit.file import UNKNOWN_TYPE, check_media_type, check_path, in_the_way

GOOD = ["a", "data/stock.csv", "ä/ö.txt", "a b", ".hidden", "...", "~", "-rf", "a" * 255, "x/" * 31 + "y", "日本"]
BAD = [
    "",
    "/",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "./a",
    "a/..",
    "a/./b",
    "../a",
    "a\\b",
    "a\0b",
    "a\nb",
    "a\x7fb",
    "a\x9bb",
    "a\u202eb",
    "a\u2028b",
    "a\u00a0b",
    "a\ud800b",
    "a\ufffdb",
    "a\ufeffb",
    "e\u0301",
    "a" * 256,
    "ä" * 128,
    "x/" * 32 + "y",
    "/".join(["a" * 200] * 6),
]


@pytest.mark.parametrize("name", GOOD)
def test_a_plain_relative_path_is_a_name(name: str) -> None:
    assert check_path(name) == name


@pytest.mark.parametrize("name", BAD)
def test_nothing_else_is_a_name(name: str) -> None:
    with pytest.raises(Error) as refused:
        check_path(name)

    assert refused.value.code == "validation_error"
    assert refused.value.message.isprintable()


@pytest.mark.parametrize(
    "text", ["text/csv", "text/csv; charset=utf-8", 'text/plain;charset="utf-8"', "application/vnd.a+json"]
)
def test_a_media_type_is_kept_as_it_was_sent(text: str) -> None:
    assert check_media_type(text) == text


@pytest.mark.parametrize(
    "text", ["csv", "text/", "a/b/c", "text/csv\r\nx: y", "text/ä", "text/csv; charset", "a/" + "b" * 255]
)
def test_what_is_no_media_type_is_refused(text: str) -> None:
    with pytest.raises(Error):
        check_media_type(text)


def test_a_file_without_a_media_type_is_just_bytes() -> None:
    assert check_media_type("") == UNKNOWN_TYPE


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [("a", "a/b", True), ("a/b", "a", True), ("a", "ab", False), ("a/b", "a/c", False), ("a", "a", False)],
)
def test_no_folder_holds_a_file_and_a_folder_of_one_name(one: str, other: str, expected: bool) -> None:
    assert in_the_way(one, other) is expected
