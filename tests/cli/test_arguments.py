from __future__ import annotations

import json
from typing import Any

import pytest

from arrowslit.cli import arguments
from arrowslit.errors import Error

STOCK = {
    "type": "object",
    "required": ["sku"],
    "properties": {"sku": {"type": "string"}, "limit": {"anyOf": [{"type": "integer"}, {"type": "null"}]}},
}


def one(schema: object, **more: Any) -> dict[str, Any]:
    """A schema with the one parameter `x`."""
    return {"type": "object", "properties": {"x": schema}, **more}


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        ({"type": "string"}, "5", "5"),
        ({"type": "string"}, "", ""),
        ({"type": "string"}, "a=b", "a=b"),
        ({"type": "string"}, "@bob", "@bob"),
        ({"type": "string"}, '"quoted"', '"quoted"'),
        ({"type": ["string", "null"]}, "null", "null"),
        ({"type": "integer"}, "-12", -12),
        ({"type": "integer"}, str(2**63), 2**63),
        ({"type": "number"}, "5", 5),
        ({"type": "number"}, "1e-3", 0.001),
        ({"type": "boolean"}, "true", True),
        ({"type": "object"}, '{"a": [1]}', {"a": [1]}),
        ({"type": "array"}, "[]", []),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "null", None),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, "5", 5),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, '"5"', "5"),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, "five", "five"),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, "5.5", "5.5"),
        ({"$ref": "#/$defs/Size"}, "3", 3),
        ({"allOf": [{"$ref": "#/$defs/Size"}]}, "3", 3),
        ({"$ref": "#/$defs/Colour"}, "red", "red"),
        ({"const": 7}, "7", 7),
        ({"$ref": "#/$defs/Loop"}, "word", "word"),
        ({}, "5", 5),
        ({}, "word", "word"),
        (True, "word", "word"),
    ],
)
def test_a_value_is_read_as_its_schema_says(schema: object, text: str, value: object) -> None:
    defs = {"Size": {"type": "integer"}, "Colour": {"enum": ["red", "blue"]}, "Loop": {"$ref": "#/$defs/Loop"}}

    found = arguments.read("tool", [f"x={text}"], one(schema, **{"$defs": defs}))

    assert json.dumps(found["x"]) == json.dumps(value)  # true is not 1, and 5 is not 5.0


@pytest.mark.parametrize(
    ("schema", "text", "said"),
    [
        ({"type": "integer"}, "five", "x: 'five' is not an integer"),
        ({"type": "integer"}, "5.0", "x: '5.0' is not an integer"),
        ({"type": "integer"}, "true", "x: 'true' is not an integer"),
        ({"type": "number"}, "NaN", "x: 'NaN' is not a number"),
        ({"type": "number"}, "1e999", "x: '1e999' is not a number"),
        ({"type": "object"}, '{"a": -1e999}', "-1e999 is out of range"),
        ({"type": "boolean"}, "yes", "x: 'yes' is not true or false"),
        ({"type": "boolean"}, "1", "x: '1' is not true or false"),
        ({"type": "object"}, "[1]", "x: '[1]' is not an object in JSON"),
        ({"type": "object"}, '{"a": 1, "a": 2}', "an object names a key twice"),
        ({"type": "array"}, "[1", "is not a list in JSON"),
    ],
)
def test_a_value_of_another_type_is_refused_before_anything_is_sent(schema: object, text: str, said: str) -> None:
    with pytest.raises(Error) as refused:
        arguments.read("tool", [f"x={text}"], one(schema))

    assert refused.value.code == "usage"
    assert said in refused.value.message


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ([], "check_stock needs sku"),
        (["sku=A1", "colour=red"], "check_stock has no parameter 'colour'"),
        (["sku=A1", "sku=A2"], "sku is given twice"),
        (["sku"], "'sku' is not NAME=VALUE"),
        (["=A1"], "'=A1' is not NAME=VALUE"),
    ],
)
def test_wrong_parameters_are_refused_with_the_right_ones(pairs: list[str], said: str) -> None:
    with pytest.raises(Error) as refused:
        arguments.read("check_stock", pairs, STOCK)

    assert refused.value.code == "usage"
    assert refused.value.message == said
    assert refused.value.hint == "call it as: check_stock sku=STRING [limit=INTEGER]"


def test_a_tool_that_takes_anything_is_given_anything() -> None:
    found = arguments.read("tool", ["a=1", "b=word"], {"type": "object", "additionalProperties": True})

    assert found == {"a": 1, "b": "word"}


def test_a_signature_names_what_each_parameter_takes() -> None:
    schema = one({"type": "object"}, required=["x"])
    schema["properties"] |= {"on": {"type": "boolean"}, "any": {}, "id": {"type": ["string", "integer"]}}

    said = arguments.signature("tool", schema)

    assert said == "tool x=JSON [on=true|false] [any=JSON] [id=STRING|INTEGER]"
