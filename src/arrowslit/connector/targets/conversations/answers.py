"""What the façade says over HTTP: one JSON body, or events as they come, or why not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from arrowslit.connector.targets.conversations import message
from arrowslit.connector.targets.conversations.message import RequestId
from arrowslit.connector.targets.conversations.outbox import Reader
from arrowslit.connector.targets.conversations.streams import COMMENT, Resumed
from arrowslit.connector.targets.target import Lost, Reply
from arrowslit.errors import HEADER_MISMATCH, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND
from arrowslit.tunnel import Headers

_JSON = (("content-type", "application/json"),)
_EVENTS = (
    ("content-type", "text/event-stream"),
    ("cache-control", "no-cache, no-transform"),
    ("x-accel-buffering", "no"),
)

_MISSING_CAPABILITY, _UNSUPPORTED_VERSION = -32021, -32022  # MCP 2026-07-28
_BAD_REQUEST = frozenset({INVALID_REQUEST, HEADER_MISMATCH, _MISSING_CAPABILITY, _UNSUPPORTED_VERSION})


class Events(Protocol):
    """How messages are written as events."""

    def opening(self) -> bytes:
        """What goes ahead of the first."""
        ...

    def event(self, message: bytes) -> bytes:
        """One event."""
        ...


def modern_status(code: int | None, *, complete: bool) -> int:
    """The HTTP status of a modern answer: `code` of its error or None, `complete` if the request had its `_meta`.

    Source: MCP 2026-07-28, Streamable HTTP, and reference/mcp.md 1.7.
    """
    if code == METHOD_NOT_FOUND:
        return 404
    return 400 if code in _BAD_REQUEST or (code == INVALID_PARAMS and not complete) else 200


def refuse(
    reply: Reply,
    status: int,
    text: str,
    *,
    code: int = INVALID_REQUEST,
    request_id: RequestId | None = None,
    headers: Headers = (),
) -> None:
    """An error of the façade's own."""
    reply.head(status, (*_JSON, *headers))
    reply.piece(message.error_body(request_id, code, text))


def accept(reply: Reply) -> None:
    """Taken, and there is no answer."""
    reply.head(202, ())


async def pass_on(
    reader: Reader,
    reply: Reply,
    *,
    events: Events,
    events_wanted: bool = False,
    status: Callable[[int | None], int] = lambda _code: 200,
    headers: Headers = (),
) -> bool:
    """The answer to one request: JSON if it comes first and no events are wanted, else events of which it is the last.

    False if somebody else reads on: the answer goes there.
    """
    first = await reader.peek()
    if first is None:
        raise Lost("the server ended the request without an answer")
    if first.last and not events_wanted:
        reply.head(status(first.code), (*_JSON, *headers))
        reply.piece(first.message)
        return True
    reply.head(200, (*_EVENTS, *headers))
    reply.piece(events.opening())
    return await pass_events(reader, reply, events)


def repeat(resumed: Resumed, reply: Reply) -> None:
    """What a client missed."""
    reply.head(200, _EVENTS)
    stream = resumed.stream
    opening = b"" if stream is None or stream.begun else stream.opening()
    reply.piece(opening + resumed.again() or COMMENT)


async def pass_events(reader: Reader, reply: Reply, events: Events) -> bool:
    """Whatever comes, up to the answer. False if somebody else reads on."""
    while (item := await reader.next()) is not None:
        reply.piece(events.event(item.message) if item.message else COMMENT)
        if item.last:
            return True
        await reply.drain()
    return False
