"""PURE: what the relay needs to know of a request's headers, found out once for all requests that carry the same."""

from __future__ import annotations

from functools import lru_cache

import msgspec

from arrowslit.protocol import mcp
from arrowslit.relay.sessions import HEADER as SESSION_HEADER
from arrowslit.tunnel import Headers


class Said(msgspec.Struct, frozen=True):
    """`json` says whether the body is what a message is, `acceptable` whether the caller takes a form that answers
    have. `session` is the id of a session as the caller knows it. `forwarded` is what goes on, without that.
    """

    json: bool
    acceptable: bool
    session: str | None
    forwarded: tuple[tuple[str, str], ...]


def said(headers: Headers) -> Said:
    """What these say. They hold no credential any more."""
    return _read(tuple(headers))


@lru_cache(maxsize=512)
def _read(headers: tuple[tuple[str, str], ...]) -> Said:
    first = dict(reversed(headers))
    kind, _, parameters = first.get("content-type", "").partition(";")
    accept = first.get("accept")
    return Said(
        json=kind.strip().lower() == "application/json" and "utf-16" not in parameters.lower(),
        acceptable=accept is None or mcp.acceptable(accept),
        session=first.get(SESSION_HEADER),
        forwarded=tuple([field for field in mcp.forward(headers) if field[0] != SESSION_HEADER]),
    )
