from __future__ import annotations

from typing import Any

import pytest

from arrowslit.protocol.mirrors import Mirror, disagreement, read_mirrors, repeated, unwrapped, wrapped

TEXT: dict[str, Any] = {"type": "string", "x-mcp-header": "Text"}
WHOLE: dict[str, Any] = {"type": "integer", "x-mcp-header": "Whole"}
TRUTH: dict[str, Any] = {"type": "boolean", "x-mcp-header": "Truth"}


def holding(**properties: object) -> dict[str, object]:
    return {"type": "object", "properties": properties}


def test_mirrors_are_found_wherever_only_properties_lead() -> None:
    schema = holding(text=TEXT, inner=holding(whole=WHOLE), plain={"type": "string"})
    assert set(read_mirrors(schema)) == {
        Mirror(("text",), "mcp-param-text"),
        Mirror(("inner", "whole"), "mcp-param-whole", integer=True),
    }


@pytest.mark.parametrize(
    "schema",
    [
        TEXT,
        holding(a=TEXT, b={"type": "string", "x-mcp-header": "tEXT"}),
        holding(a={"type": "number", "x-mcp-header": "A"}),
        holding(a={"type": ["string"], "x-mcp-header": "A"}),
        holding(a={"x-mcp-header": "A"}),
        holding(a={"type": "string", "x-mcp-header": ""}),
        holding(a={"type": "string", "x-mcp-header": "a b"}),
        holding(a={"type": "string", "x-mcp-header": "a\r\nevil: 1"}),
        holding(a={"type": "string", "x-mcp-header": 5}),
        holding(ok=TEXT, a={"type": "array", "items": WHOLE}),
        holding(ok=TEXT) | {"allOf": [holding(a=WHOLE)]},
        holding(ok=TEXT) | {"$defs": {"a": WHOLE}},
        holding(ok=TEXT) | {"additionalProperties": {"not": WHOLE}},
    ],
)
def test_a_schema_with_one_bad_annotation_has_none(schema: dict[str, object]) -> None:
    assert read_mirrors(schema) == ()


@pytest.mark.parametrize(
    "schema", [None, True, [], {}, {"properties": []}, {"properties": {"a": True}}, {"default": TEXT, "enum": [TEXT]}]
)
def test_what_is_no_annotation_is_none(schema: object) -> None:
    assert read_mirrors(schema) == ()


def test_a_property_may_be_called_like_the_annotation() -> None:
    assert read_mirrors(holding(**{"x-mcp-header": TEXT})) == (Mirror(("x-mcp-header",), "mcp-param-text"),)


def test_a_schema_of_any_depth_is_read() -> None:
    schema: dict[str, object] = dict(TEXT)
    for _ in range(5000):
        schema = holding(a=schema)
    assert len(read_mirrors(schema)[0].path) == 5000


MIRRORS = read_mirrors(holding(text=TEXT, whole=WHOLE, truth=TRUTH))


@pytest.mark.parametrize(
    ("arguments", "headers"),
    [
        ({}, {}),
        ({"text": None}, {}),
        ({"text": {"no": "text"}}, {}),
        ({"text": "a"}, {"text": "a"}),
        ({"text": "é"}, {"text": "=?base64?w6k=?="}),
        ({"text": ""}, {"text": ""}),
        ({"text": "a"}, {"text": "a", "other": "what no argument is repeated in"}),
        ({"whole": 42}, {"whole": "42"}),
        ({"whole": 42}, {"whole": "42.0"}),
        ({"whole": 42.0}, {"whole": "42"}),
        ({"whole": 2**80}, {"whole": str(2**80)}),
        ({"whole": 1.5}, {"whole": "1.5"}),
        ({"truth": True, "whole": -1}, {"truth": "true", "whole": "-1"}),
    ],
)
def test_headers_that_repeat_their_arguments_agree(arguments: object, headers: dict[str, str]) -> None:
    assert disagreement(MIRRORS, arguments, {f"mcp-param-{name}": value for name, value in headers.items()}) is None


@pytest.mark.parametrize(
    ("arguments", "headers", "why"),
    [
        ({"text": "a"}, {}, "missing"),
        ({}, {"text": "a"}, "not there"),
        ([], {"text": "a"}, "not there"),
        ({"text": None}, {"text": "None"}, "not there"),
        ({"text": "a"}, {"text": "b"}, "does not say"),
        ({"text": "a"}, {"text": "=?base64?!?="}, "does not say"),
        ({"text": "a"}, {"text": "=?base64?YR==?="}, "does not say"),
        ({"text": "é"}, {"text": "=?base64?6Q==?="}, "does not say"),
        ({"whole": 42}, {"whole": "42.5"}, "does not say"),
        ({"whole": 42}, {"whole": "0x2a"}, "does not say"),
        ({"whole": 42}, {"whole": "4" * 5000}, "does not say"),
        ({"whole": 2**80}, {"whole": str(float(2**80))}, "does not say"),
        ({"whole": float("nan")}, {"whole": "5"}, "does not say"),
        ({"whole": float("inf")}, {"whole": "5"}, "does not say"),
        ({"whole": True}, {"whole": "1"}, "does not say"),
        ({"text": "42"}, {"text": "42.0"}, "does not say"),
        ({"truth": True}, {"truth": "True"}, "does not say"),
    ],
)
def test_headers_that_say_anything_else_do_not(arguments: object, headers: dict[str, str], why: str) -> None:
    said = disagreement(MIRRORS, arguments, {f"mcp-param-{name}": value for name, value in headers.items()})
    assert said is not None
    assert why in said


@pytest.mark.parametrize("text", ["", "a b", " a", "a ", "é", "a\nb", "=?base64?YQ==?=", "=?base64?", "\x7f"])
def test_any_text_survives_as_a_header(text: str) -> None:
    assert unwrapped(wrapped(text)) == text
    assert wrapped(text).isascii()
    assert "\n" not in wrapped(text)


def test_what_we_send_is_what_we_would_accept() -> None:
    arguments = {"text": "é", "whole": 42.0, "truth": False, "other": 1}
    assert repeated(MIRRORS, arguments | {"whole": 42}) == [
        ("mcp-param-truth", "false"),
        ("mcp-param-whole", "42"),
        ("mcp-param-text", "=?base64?w6k=?="),
    ]
    assert disagreement(MIRRORS, arguments, dict(repeated(MIRRORS, arguments))) is None
    assert dict(repeated(MIRRORS, {"text": {}, "whole": None})) == {}
