from __future__ import annotations

import tomllib
from textwrap import dedent
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from arrowslit.app.toml_lines import line_of, lines

FILE = dedent("""\
    # a comment with [brackets] = "and quotes"
    name = "internal"
    'quoted key' = 1

    [[targets]]
    name = '''
    [[targets]]
    name = "not a key"
    '''
    command = [
      "a # b", # c ]
      "=",
    ]
    limits = { calls = 3, deep = [ { x = 1 } ] }
    [targets.ceiling]
    tools = ["*"]
    hosts.more = []

    [[targets]]
    "name" = "wiki"
    [targets.ceiling]
    tenants = ["a"]
    [other.table]
    key = 1979-05-27T07:32:00Z
    """)


def test_every_key_is_found_on_its_line() -> None:
    assert lines(FILE) == {
        ("name",): 2,
        ("quoted key",): 3,
        ("targets",): 5,
        ("targets", 0): 5,
        ("targets", 0, "name"): 6,
        ("targets", 0, "command"): 10,
        ("targets", 0, "limits"): 14,
        ("targets", 0, "ceiling"): 15,
        ("targets", 0, "ceiling", "tools"): 16,
        ("targets", 0, "ceiling", "hosts", "more"): 17,
        ("targets", 1): 19,
        ("targets", 1, "name"): 20,
        ("targets", 1, "ceiling"): 21,
        ("targets", 1, "ceiling", "tenants"): 22,
        ("other", "table"): 23,
        ("other", "table", "key"): 24,
    }


def test_what_has_no_line_stands_where_what_holds_it_does() -> None:
    found = lines(FILE)

    assert line_of(("targets", 0, "limits", "calls"), found) == 14
    assert line_of(("targets", 1, "command"), found) == 19
    assert line_of(("nowhere",), found) is None


_values = st.one_of(
    st.integers(0, 99).map(str),
    st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters='"\\'), max_size=9).map(
        '"{}"'.format
    ),
    st.text(st.sampled_from("a\n#=[]{}\"'"), max_size=9)
    .filter(lambda text: "'''" not in text and not text.endswith("'"))
    .map("'''{}'''".format),
    st.sampled_from(["[\n 1, # ]\n 2 ]", "{ a = 1, b = [2] }", "true", "[]"]),
)


@given(st.lists(st.tuples(st.booleans(), _values), max_size=12))
def test_whatever_the_values_are_no_key_is_lost_and_none_is_made_up(entries: list[tuple[bool, str]]) -> None:
    text, expected, tables = "", {}, 0
    for number, (opens, value) in enumerate(entries):
        if opens:
            text += "[[t]]\n"
            tables += 1
        path: tuple[Any, ...] = ("t", tables - 1, f"k{number}") if tables else (f"k{number}",)
        expected[path] = text.count("\n") + 1
        text += f"k{number} = {value}\n"
    tomllib.loads(text)

    found = lines(text)

    assert {path: line for path, line in found.items() if str(path[-1]).startswith("k")} == expected
