"""What the façade says over HTTP: one JSON body, or events as they come, or why not."""

from __future__ import annotations

from collections.abc import Callable

from arrowslit.connector.targets.conversations import message
from arrowslit.connector.targets.conversations.message import RequestId
from arrowslit.connector.targets.conversations.outbox import Outbox
from arrowslit.connector.targets.target import Lost, Reply
from arrowslit.errors import HEADER_MISMATCH, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND
from arrowslit.protocol import sse
from arrowslit.tunnel import Headers

_JSON = (("content-type", "application/json"),)
_EVENTS = (
    ("content-type", "text/event-stream"),
    ("cache-control", "no-cache, no-transform"),
    ("x-accel-buffering", "no"),
)
_COMMENT = b":\n\n"  # goes ahead so that no proxy keeps the head back (reference/mcp.md 6.7)

_MISSING_CAPABILITY, _UNSUPPORTED_VERSION = -32021, -32022  # MCP 2026-07-28
_BAD_REQUEST = frozenset({INVALID_REQUEST, HEADER_MISMATCH, _MISSING_CAPABILITY, _UNSUPPORTED_VERSION})


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
    outbox: Outbox, reply: Reply, *, status: Callable[[int | None], int] = lambda _code: 200, headers: Headers = ()
) -> None:
    """The answer to one request: JSON if it comes first, else events of which it is the last."""
    first = await outbox.peek()
    if first is None:
        raise Lost("the server ended the request without an answer")
    if first.last:
        reply.head(status(first.code), (*_JSON, *headers))
        reply.piece(first.message)
        return
    reply.head(200, (*_EVENTS, *headers))
    await _pass_events(outbox, reply)


async def pass_stream(outbox: Outbox, reply: Reply) -> None:
    """Events until the outbox ends."""
    reply.head(200, _EVENTS)
    reply.piece(_COMMENT)
    await _pass_events(outbox, reply)


async def _pass_events(outbox: Outbox, reply: Reply) -> None:
    while (item := await outbox.next()) is not None:
        reply.piece(sse.encode(item.message, event="message"))
        if item.last:
            return
        await reply.drain()
