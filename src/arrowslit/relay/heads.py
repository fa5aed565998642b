"""PURE: what the relay needs to know of the heads of requests and answers, found out once for all that are the same."""

from __future__ import annotations

from functools import lru_cache

import msgspec

from arrowslit.protocol import exchange, jsonrpc, media
from arrowslit.protocol.fields import forward, returnable
from arrowslit.relay.sessions import HEADER as SESSION_HEADER
from arrowslit.tunnel import Headers

RESUMES = "last-event-id"
AS_RESULT = ("arrowslit-outcome", "result")


class Said(msgspec.Struct, frozen=True):
    """`json` says whether the body is what a message is, `acceptable` whether the caller takes a form that answers
    have. `session` is the id of a session as the caller knows it. `resumes` is that of the last event it
    has seen.
    `forwarded` is what goes on, without those two.
    """

    json: bool
    acceptable: bool
    session: str | None
    resumes: str | None
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
        acceptable=accept is None or media.acceptable(accept),
        session=first.get(SESSION_HEADER),
        resumes=first.get(RESUMES),
        forwarded=tuple([field for field in forward(headers) if field[0] not in (SESSION_HEADER, RESUMES)]),
    )


class Answered(msgspec.Struct, frozen=True):
    """The head of an answer. `headers` are those that may go to the caller, `as_result` the same with the word that the
    answer is the server's own; where one `names_session`, its value is still the server's. `refused` says why nobody
    may read the body.
    """

    status: int
    streams_events: bool
    headers: tuple[tuple[str, str], ...]
    as_result: tuple[tuple[str, str], ...]
    names_session: bool
    refused: str | None


def answered(payload: bytes) -> Answered:
    """Read the head of an answer as it travels. Raises exchange.Malformed. A short one is remembered."""
    return _read_short_answer(payload) if len(payload) <= exchange.SHORT else _read_answer(payload)


def _read_answer(payload: bytes) -> Answered:
    head = exchange.response(payload)
    try:
        streams_events, refused = media.streams_events(head.status, head.headers), None
    except jsonrpc.Refused as refusal:
        streams_events, refused = False, refusal.message
    fields = tuple([field for field in returnable(head.headers) if field[0] != "content-encoding"])
    return Answered(
        status=head.status,
        streams_events=streams_events,
        headers=fields,
        as_result=(*fields, AS_RESULT),
        names_session=any(name == SESSION_HEADER for name, _ in fields),
        refused=refused,
    )


_read_short_answer = lru_cache(maxsize=256)(_read_answer)
