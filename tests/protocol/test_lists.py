"""Lists are cut down to what may be seen, and refused where readers could disagree about them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrowslit.protocol.jsonrpc import Refused
from arrowslit.protocol.lists import MOST_MEMBERS, filter_lists, filtering


def listing(*tools: object, **result: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 2, "result": {"tools": list(tools)} | result}).encode()


def safe(_: str, name: str, __: object = None) -> bool:
    return name == "safe"


@pytest.mark.promise("P6")
def test_a_list_shows_what_is_allowed_and_nothing_else_changes() -> None:
    body = (
        b'{"jsonrpc":"2.0","id":2,"result":{"ttlMs":5,"cacheScope":"public","tools":[{"name":"danger"},'
        b'{"name":"safe", "inputSchema":{"a": 1.0, "a":2}},{"name":"Safe"}],"nextCursor":"x","_meta":{ }}}'
    )
    assert filter_lists(body, safe) == (
        b'{"jsonrpc":"2.0","id":2,"result":{"ttlMs":5,"cacheScope":"private","tools":['
        b'{"name":"safe", "inputSchema":{"a": 1.0, "a":2}}],"nextCursor":"x","_meta":{ }}}'
    )


def test_a_list_keeps_its_order_and_its_cursor_even_when_it_is_empty() -> None:
    names = [f"t{number}" for number in range(20)]
    body = listing(*({"name": name} for name in names), nextCursor="more")
    kept = json.loads(filter_lists(body, lambda _, name, __: name in {"t3", "t11", "t17"}))["result"]
    assert [tool["name"] for tool in kept["tools"]] == ["t3", "t11", "t17"]
    assert json.loads(filter_lists(body, lambda *_: False))["result"] == {"tools": [], "nextCursor": "more"}


@pytest.mark.promise("P6")
@pytest.mark.parametrize(
    "tool",
    [{}, {"name": None}, {"name": ["safe"]}, {"name": 1}, {"title": "safe"}, "safe", None, 1, ["safe"], {"name": ""}],
)
def test_a_tool_without_a_name_is_shown_to_nobody(tool: object) -> None:
    shown = json.loads(filter_lists(listing(tool, {"name": "safe"}), lambda *_: True))["result"]["tools"]
    assert shown == [{"name": "safe"}]


@pytest.mark.promise("P6")
def test_resources_templates_and_prompts_are_cut_down_by_what_names_them() -> None:
    result = {
        "cacheScope": "public",
        "resources": [{"uri": "a://1", "name": "a://2"}, {"uri": "a://2", "name": "a://1"}, {"name": "a://1"}],
        "resourceTemplates": [{"uriTemplate": "a://1"}, {"uri": "a://1"}],
        "prompts": [{"name": "a://1"}, {"name": "b"}],
    }
    body = json.dumps({"jsonrpc": "2.0", "id": 2, "result": result}).encode()
    asked: set[str] = set()

    def shows(kind: str, name: str, _: object) -> bool:
        asked.add(kind)
        return name == "a://1"

    assert json.loads(filter_lists(body, shows))["result"] == {
        "cacheScope": "private",
        "resources": [{"uri": "a://1", "name": "a://2"}],
        "resourceTemplates": [{"uriTemplate": "a://1"}],
        "prompts": [{"name": "a://1"}],
    }
    assert asked == {"resources", "resourceTemplates", "prompts"}


@pytest.mark.promise("P6")
def test_a_list_is_recognised_by_any_spelling() -> None:
    for body in (
        rb'{"id":1,"result":{"\u0074ools":[{"\u006eame":"danger"},{"name":"\u0073afe"}]}}',
        rb'{"id":1,"\u0072esult":{"tools":[{"name":"danger"},{"name":"\u0073afe"}]}}',
        b' \n{"id":1,"result":{"tools":[{"name":"danger"},{"name":"safe"}]}}',
    ):
        shown = json.loads(filter_lists(body, safe))["result"]["tools"]
        assert [tool["name"] for tool in shown] == ["safe"]


@pytest.mark.promise("P6")
@pytest.mark.parametrize(
    "body",
    [
        b'{"id":1,"result":{"tools":[{"name":"danger"}],"tools":[]}}',
        b'{"id":1,"result":{"tools":[{"name":"danger"}]},"result":{}}',
        rb'{"id":1,"result":{"\u0074ools":[{"name":"danger"}],"tools":[]}}',
        b'{"id":1,"result":{"tools":[],"Tools":[{"name":"danger"}]}}',
        b'{"id":1,"result":{"TOOLS":[{"name":"danger"}]}}',
        '{"id":1,"result":{"toolſ":[{"name":"danger"}]}}'.encode(),
        rb'{"id":1,"result":{"tool\u017f":[{"name":"danger"}]}}',
        b'{"id":1,"Result":{"tools":[{"name":"danger"}]}}',
        b'{"id":1,"result":{"tools":[{"name":"safe","name":"danger"}]}}',
        b'{"id":1,"result":{"tools":[{"name":"safe","Name":"danger"}]}}',
        rb'{"id":1,"result":{"tools":[{"name":"safe","n\u0061me":"danger"}]}}',
        b'{"id":1,"result":{"tools":{"danger":{}}}}',
        b'{"id":1,"result":{"tools":null}}',
        b'{"id":1,"result":{"tools":[{"name":"danger"}]}',
        b'{"id":1,"result":{"tools":[{"name":"danger","x":NaN}]}}',
        b'{"id":1,"result":{"tools":[{"name":"danger","x":"\xff"}]}}',
        rb'{"id":1,"result":{"tools":[{"name":"danger","x":"\ud800"}]}}',
        b'[{"id":1,"result":{"tools":[{"name":"danger"}]}}]',
        b'\xef\xbb\xbf{"id":1,"result":{"tools":[{"name":"danger"}]}}',
        '{"id":1,"result":{"tools":[{"name":"danger"}]}}'.encode("utf-16"),
        '{"id":1,"result":{"tools":[{"name":"danger"}]}}'.encode("utf-16-le"),
        '{"id":1,"result":{"tools":[{"name":"danger"}]}}'.encode("utf-32-be"),
        b'{"id":1,"result":{"tools":' + b"[" * 100_000,
        b'{"id":1,"result":{"Resources":[{"uri":"danger"}]}}',
        b'{"id":1,"result":{"resourcetemplates":[]}}',
        b'{"id":1,"result":{"prompts":[{"name":"safe","name":"danger"}]}}',
        b'{"id":1,"result":{"resources":[{"uri":"safe","URI":"danger"}]}}',
        b'{"id":1,"result":{"resources":null}}',
    ],
    ids=range(28),
)
def test_a_list_that_could_be_read_in_two_ways_fails(body: bytes) -> None:
    with pytest.raises(Refused) as refused:
        filter_lists(body, lambda *_: True)
    assert refused.value.code == "list_unreadable"


@pytest.mark.promise("P15")
@pytest.mark.parametrize("place", ["result", "entry", "envelope"])
def test_an_object_with_more_names_than_are_compared_fails(place: str) -> None:
    many = {f"n{number}": 1 for number in range(MOST_MEMBERS + 1)}
    whole: dict[str, Any] = {"result": {"tools": [{"name": "safe"}]}}
    {"result": whole["result"], "entry": whole["result"]["tools"][0], "envelope": whole}[place].update(many)

    with pytest.raises(Refused, match="members"):
        filter_lists(json.dumps(whole).encode(), lambda *_: True)


@pytest.mark.promise("P15")
def test_a_list_is_filtered_in_steps_of_one_entry() -> None:
    entry = {"name": "safe", "description": "x" * 1000}
    body = listing(*[entry] * 100)
    steps = list(filtering(body, lambda *_: True))
    assert len(steps) > 100
    assert sorted(steps)[-20] < 2000


@pytest.mark.parametrize(
    "body",
    [
        b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"no such tools"}]}}',
        b'{"jsonrpc":"2.0","id":1,"result":{"capabilities":{"tools":{}}}}',
        rb'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"\u00e9"}]}}',
        b'{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"tools/list"}}',
        b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}',
        b'{"jsonrpc":"2.0","id":1,"result":{"structuredContent":{"tools":["a"],"tools":["b"]}}}',
        b'[{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}]',
        b"Not Found: no tools here",
        b"<html>tools</html>",
        b"",
    ],
)
def test_what_is_no_list_passes_untouched(body: bytes) -> None:
    assert filter_lists(body, lambda *_: False) is body


@pytest.mark.promise("P6")
@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1), max_size=8), st.data())
def test_a_list_shows_exactly_the_tools_that_are_allowed(names: list[str], data: st.DataObject) -> None:
    allowed = set(data.draw(st.lists(st.sampled_from(names)))) if names else set()
    body = listing(*({"name": name, "title": name} for name in names))
    shown = json.loads(filter_lists(body, lambda _, name, __: name in allowed))["result"]["tools"]
    assert [tool["name"] for tool in shown] == [name for name in names if name in allowed]


@given(st.binary(max_size=60).map(lambda noise: b'{"result":{"tools":[' + noise + b"]}}"))
def test_a_list_of_any_bytes_is_read_or_refused(body: bytes) -> None:
    try:
        assert json.loads(filter_lists(body, lambda *_: False))["result"]["tools"] == []
    except Refused as refused:
        assert refused.code == "list_unreadable"
