from __future__ import annotations

import base64
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.datastructures import State
from starlette.requests import Request

from arrowslit.agents.api.pages import PageQuery, Position, page_of, window
from arrowslit.agents.api.reading import read_query
from arrowslit.principal import Principal, Scope
from arrowslit.store.open import Store
from tests.agents.kit import Caller


async def first_page(admin: Caller, store: Store) -> str:
    """The cursor after the first of three tunnels, in a list with those that are archived."""
    for name in ("a", "b", "c"):
        await store.tunnels.create(name)
    cursor = (await admin.ok("GET", "/v1/tunnels?limit=1&include_archived=true"))["next_page"]
    assert isinstance(cursor, str)
    return cursor


def changed(cursor: str, index: int) -> str:
    raw = bytearray(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    raw[index] ^= 1
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


async def test_a_cursor_is_good_for_the_same_query_with_another_limit(admin: Caller, store: Store) -> None:
    cursor = await first_page(admin, store)

    rest = await admin.ok("GET", f"/v1/tunnels?limit=9&include_archived=true&page={cursor}")

    assert [each["name"] for each in rest["data"]] == ["b", "a"]
    assert rest["next_page"] is None


async def test_a_cursor_that_was_changed_is_refused(admin: Caller, store: Store) -> None:
    """TEN-14."""
    cursor = await first_page(admin, store)

    for index in (0, 15, 17, -2):
        path = f"/v1/tunnels?include_archived=true&page={changed(cursor, index)}"
        assert await admin.refused("GET", path) == (400, "cursor_invalid")


async def test_a_cursor_of_somebody_else_is_refused(app: Starlette, admin: Caller, store: Store) -> None:
    """TEN-14."""
    cursor = await first_page(admin, store)
    _, key = await store.keys.create(scopes={Scope.ADMIN})

    async with Caller(app, key) as other:
        refused = await other.refused("GET", f"/v1/tunnels?include_archived=true&page={cursor}")

    assert refused == (400, "cursor_invalid")


@pytest.mark.parametrize("path", ["/v1/tunnels?", "/v1/tunnels?include_archived=false&", "/v1/agents?"])
async def test_a_cursor_of_another_list_or_filter_is_refused(admin: Caller, store: Store, path: str) -> None:
    cursor = await first_page(admin, store)

    assert await admin.refused("GET", f"{path}page={cursor}") == (400, "cursor_invalid")


@pytest.mark.parametrize("text", ["x", "null", "%22", "AAAA", "~~~~", "%F0%9F%99%82"])
async def test_what_never_was_a_cursor_makes_no_sense(admin: Caller, text: str) -> None:
    assert await admin.refused("GET", f"/v1/tunnels?page={text}") == (400, "validation_error")


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("limti=1", "unknown_field"),
        ("limit=1&limit=2", "validation_error"),
        ("limit=", "validation_error"),
        ("limit=1.5", "validation_error"),
        ("page=a%00", "encoding_invalid"),
    ],
)
async def test_a_parameter_that_is_unknown_or_ambiguous_is_refused(admin: Caller, query: str, code: str) -> None:
    assert await admin.refused("GET", f"/v1/tunnels?{query}") == (400, code)


def asked(query: str) -> Request:
    """A request for a list, from somebody who was let in."""
    state = State({"caller": Principal("key_1", None, frozenset()), "cursor_key": b"c" * 32})
    scope = {"type": "http", "method": "GET", "path": "/v1/numbers", "query_string": query.encode(), "headers": []}
    return Request({**scope, "state": state._state, "server": ("relay", 80), "scheme": "http"})


def numbers_page(query: str) -> Any:
    """A page of the numbers from 9 down to 1, as a source that knows windows gives it."""
    request = asked(query)
    part = window(request, read_query(request, PageQuery))
    numbers = list(range(9, 0, -1))
    if part.position is None:
        found = numbers[: part.limit + 1]
    elif part.backwards:
        found = [number for number in numbers if number > part.position[0]][-part.limit - 1 :]
    else:
        found = [number for number in numbers if number < part.position[0]][: part.limit + 1]
    return page_of(request, part, found, position, lambda number: number, both_ways=True)


def position(number: int) -> Position:
    return float(number), ""


def test_pages_lead_forth_to_the_end_and_back_to_the_beginning() -> None:
    page = numbers_page("limit=4")
    forth = [page]
    while page["next_page"]:
        page = numbers_page(f"limit=4&page={page['next_page']}")
        forth.append(page)
    back = [page]
    while page["prev_page"]:
        page = numbers_page(f"limit=4&page={page['prev_page']}")
        back.append(page)

    assert [page["data"] for page in forth] == [[9, 8, 7, 6], [5, 4, 3, 2], [1]]
    assert [page["data"] for page in back] == [[1], [5, 4, 3, 2], [9, 8, 7, 6]]
    assert forth[0]["prev_page"] is None
    assert back[-1]["next_page"] is not None
