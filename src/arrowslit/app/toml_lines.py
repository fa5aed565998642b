"""PURE: on which line of a TOML file each key stands, so that what is wrong with it can be pointed at.

`tomllib` reads values and forgets where they stood. This looks at the text of a file that it has read already, and so
takes for granted that it is TOML (1.0).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

Path = tuple[str | int, ...]
"""Where a value is: keys, and the places in arrays of tables, from 0."""

_TOKEN = re.compile(
    r'''
    (?P<string> """(?:\\.|[^\\])*?"{3,5} | \'\'\'.*?\'{3,5} | "(?:\\.|[^"\\\n])*" | '[^'\n]*' )
    | (?P<comment> \#[^\n]* )
    | (?P<newline> \n )
    | (?P<mark> [\[\]{},.=] )
    | (?P<space> [\ \t\r]+ )
    | (?P<word> [^\s\[\]{},.=\#"']+ )
    ''',
    re.VERBOSE | re.DOTALL,
)


class _Token(NamedTuple):
    kind: str
    text: str
    line: int


def lines(text: str) -> Mapping[Path, int]:
    """The line, from 1, of every table and of every key in one; what is inside of a value stands where its key does."""
    found: dict[Path, int] = {}
    counts: dict[Path, int] = {}  # how many tables an array of tables has so far
    table: Path = ()
    for statement in _statements(text):
        line = statement[0].line
        if statement[0].text == "[":
            array = statement[1].text == "["
            path = _within(_keys(statement), counts, whole=not array)
            if array:
                counts[path] = counts.get(path, 0) + 1
                found.setdefault(path, line)
                path = (*path, counts[path] - 1)
            table = path
            found.setdefault(table, line)
        else:
            equals = next(place for place, token in enumerate(statement) if token.text == "=")
            found[(*table, *_keys(statement[:equals]))] = line
    return found


def line_of(path: Path, found: Mapping[Path, int]) -> int | None:
    """The line of a value, or of the nearest thing around it that has one."""
    while path and path not in found:
        path = path[:-1]
    return found.get(path)


def _statements(text: str) -> Iterator[list[_Token]]:
    """The heads of tables and the keys with their values, each as its tokens."""
    statement: list[_Token] = []
    depth = 0
    for token in _tokens(text):
        match token.kind:
            case "newline" if depth == 0:
                if statement:
                    yield statement
                statement = []
            case "string" | "word" | "mark":
                depth += (token.text in ("[", "{")) - (token.text in ("]", "}"))
                statement.append(token)
            case _:
                pass
    if statement:
        yield statement


def _tokens(text: str) -> Iterator[_Token]:
    line = 1
    for match in _TOKEN.finditer(text):
        yield _Token(str(match.lastgroup), match[0], line)
        line += match[0].count("\n")


def _keys(tokens: Sequence[_Token]) -> Path:
    return tuple(_plain(token) for token in tokens if token.kind in ("string", "word"))


def _plain(token: _Token) -> str:
    return token.text if token.kind == "word" else str(tomllib.loads(f"key = {token.text}")["key"])


def _within(keys: Path, counts: Mapping[Path, int], *, whole: bool) -> Path:
    """The path that `keys` mean in the head of a table: an array of tables stands for the latest of them."""
    path: Path = ()
    for place, key in enumerate(keys):
        path = (*path, key)
        if path in counts and (whole or place < len(keys) - 1):
            path = (*path, counts[path] - 1)
    return path
