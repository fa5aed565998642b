"""Pages of a list: what the query asks for, and cursors that are good for the same caller and the same query only.

A list in memory is one call of `page`. One that comes from elsewhere asks for what it needs in between:

    query = read_query(request, SessionsQuery)              # a PageQuery with the filters of this list
    part = window(request, query)
    found = await sessions.list(SessionFilter(position=part.position, backwards=part.backwards, limit=part.limit + 1))
    return page_of(request, part, found, lambda session: (session.created_at, session.id), show, both_ways=True)
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta
from starlette.requests import Request

from arrowslit.agents.api.resource import caller
from arrowslit.agents.api.schema import Strict
from arrowslit.errors import Error

T = TypeVar("T")

Position = tuple[float, str]
"""Where an entry stands in its list: a number, and a text for those that share it."""

_MAC = 16  # bytes; 128 bits are far beyond guessing


class PageQuery(Strict):
    """What every list takes. One that gives fewer at once says so in a `limit` of its own."""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 20
    page: str | None = None


class ArchivableQuery(PageQuery):
    """A list that leaves out what is archived, unless asked for it."""

    include_archived: bool = False


@dataclass(frozen=True, slots=True)
class Window:
    """The part of a list that a request asks for: `limit` entries after `position`, or before it with `backwards`."""

    limit: int
    position: Position | None = None
    backwards: bool = False


def window(request: Request, query: PageQuery) -> Window:
    """What `limit` and `page` ask for.

    Raises Error `validation_error` for a cursor that is none, `cursor_invalid` for one that was changed, or that was
    given to somebody else, or for another list, order or filter.
    """
    if not query.page:
        return Window(query.limit)
    try:
        raw = base64.b64decode(query.page + "=" * (-len(query.page) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    mac, content = raw[:_MAC], raw[_MAC:]
    if not content:
        raise Error("validation_error", "the query parameter page is not the next_page of an earlier answer")
    if not hmac.compare_digest(mac, _mac(request, content)):
        raise Error("cursor_invalid", "this cursor does not belong to this list", hint=_AGAIN)
    number, text, backwards = msgspec.json.decode(content, type=tuple[float, str, bool])
    return Window(query.limit, (number, text), backwards)


def page_of(
    request: Request,
    part: Window,
    found: Sequence[T],
    position: Callable[[T], Position],
    show: Callable[[T], object],
    *,
    both_ways: bool = False,
) -> Mapping[str, object]:
    """One page: `{"data": […], "next_page": …}`, and `both_ways` with `prev_page` before it.

    `found` is, in the order of the list, at most one entry more than `part.limit`: those that follow `part.position`,
    or with `part.backwards` those that come just before it.
    """
    more = len(found) > part.limit
    shown = found[-part.limit :] if part.backwards else found[: part.limit]
    follows, precedes = (True, more) if part.backwards else (more, part.position is not None)
    after = _cursor(request, position(shown[-1]), False) if shown and follows else None
    answer: dict[str, object] = {"data": [show(entry) for entry in shown], "next_page": after}
    if both_ways:
        answer["prev_page"] = _cursor(request, position(shown[0]), True) if shown and precedes else None
    return answer


def page(
    request: Request,
    query: PageQuery,
    entries: Sequence[T],
    position: Callable[[T], Position],
    show: Callable[[T], object],
) -> Mapping[str, object]:
    """One page of a list in memory, whose entries come by falling positions (newest first).

    An entry that is added or removed between two pages neither repeats nor hides another one.
    """
    part = window(request, query)
    rest = [entry for entry in entries if part.position is None or position(entry) < part.position]
    return page_of(request, part, rest[: part.limit + 1], position, show)


_AGAIN = "begin again without page; a cursor is good for the caller, the list and the filters that it was made for"


def _cursor(request: Request, position: Position, backwards: bool) -> str:
    content = msgspec.json.encode((*position, backwards))
    return base64.urlsafe_b64encode(_mac(request, content) + content).decode().rstrip("=")


def _mac(request: Request, content: bytes) -> bytes:
    """Of a cursor's content, in the hand of this caller and for this list with its order and filters."""
    query = sorted(pair for pair in request.query_params.multi_items() if pair[0] not in ("page", "limit"))
    meant_for = msgspec.json.encode((caller(request).id, request.url.path, query))
    return hmac.digest(request.state.cursor_key, meant_for + b"\0" + content, "sha256")[:_MAC]
