from __future__ import annotations

import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrowslit.ledger.chain import GENESIS, RESERVED, Fault, Link, check, hash_of, seal

names = st.text(string.ascii_lowercase + "_", min_size=1, max_size=8).filter(lambda name: name not in RESERVED)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
fields = st.dictionaries(names.filter(lambda name: name != "call"), values, max_size=5)


@given(fields)
def test_what_was_sealed_is_found_in_one_line(given_fields: dict[str, object]) -> None:
    line, digest = seal("asked", given_fields, seq=7, prev="a" * 64, signed=3, ts="2026-11-22T10:00:00.000Z")

    assert b"\n" not in line
    found = check(line, 7, "a" * 64)
    assert isinstance(found, Link)
    assert found.hash == digest == hash_of(line)
    own = {"kind": "asked", "prev": "a" * 64, "seq": 7, "signed": 3, "ts": "2026-11-22T10:00:00.000Z"}
    assert json.loads(line) == given_fields | own


def test_a_line_is_canonical_json_that_anyone_can_make() -> None:
    line, _ = seal(
        "asked", {"tool": "größe☃", "call": "call_1", "b": {"z": 1, "\U0001f512": [True]}}, seq=1, prev=GENESIS
    )

    again = json.dumps(json.loads(line), sort_keys=True, separators=(",", ":"))
    assert line == again.encode()


@pytest.mark.parametrize(
    "text",
    [
        *("two\nlines", "carriage\rreturn", "line\u2028separator", "next\u0085line", "\0", 'quo"te\\'),
        *("\x1b[2J\x1b[31mred", "\x9b2Jcleared", "\x7f\x08rubbed out", "right\u202eleft", "un\u200bseen\U000e0041"),
    ],
)
def test_what_steers_a_terminal_is_escaped_in_a_line(text: str) -> None:
    line, _ = seal("asked", {"tool": text}, seq=1, prev=GENESIS)

    assert set(line) <= set(range(0x20, 0x7F))
    assert json.loads(line)["tool"] == text


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_a_field_cannot_take_a_name_of_the_chain(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        seal("asked", {name: 1}, seq=1, prev=GENESIS)


@pytest.mark.parametrize("value", ["\ud800", object(), {1: object()}])
def test_what_is_no_json_cannot_be_sealed(value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        seal("asked", {"tool": value}, seq=1, prev=GENESIS)


def _line(**change: object) -> bytes:
    record = {"call": "call_1", "kind": "asked", "prev": "a" * 64, "seq": 7, "signed": 3, "ts": "now"}
    return json.dumps(record | change, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    ("line", "claims", "reason"),
    [
        (_line(seq=8), 8, "is missing: record 8 stands in its place"),
        (_line(seq=6), 6, "is not in its place: record 6 stands there again"),
        (_line(prev="b" * 64), 7, "does not follow from the record before it"),
        (_line(seq="7"), None, "cannot be read"),
        (b"", None, "cannot be read"),
        (b"[]", None, "cannot be read"),
        (b'{"kind":"asked"}', None, "cannot be read"),
        (b"\xff\xfe", None, "cannot be read"),
        (_line()[:-1], None, "cannot be read"),
        (_line(ts="x").replace(b'"x"', b'"\xff"'), None, "cannot be read"),
    ],
)
def test_a_line_out_of_place_says_why(line: bytes, claims: int | None, reason: str) -> None:
    assert check(line, 7, "a" * 64) == Fault(claims, reason)
