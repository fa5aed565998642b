"""What changes on the way through a reverse proxy: the head of a request, the fields of an answer, and the two messages
that the proxy has to write itself. No I/O.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from arrowslit.connector.targets.target import NotStarted, Request
from arrowslit.connector.targets.upstream.address import Endpoint
from arrowslit.edge.problem import mcp_problem
from arrowslit.errors import Error
from arrowslit.protocol import media
from arrowslit.tunnel import Headers

_METHODS = ("POST", "GET", "DELETE")
_PASSED = frozenset(("baggage", "content-type", "last-event-id", "traceparent", "tracestate"))  # and mcp-*
_FORMS = ("application/json", "text/event-stream")
_HOP_BY_HOP = frozenset(("connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"))


class _Asked(msgspec.Struct):
    """What a proxy needs to know of a JSON-RPC message."""

    id: int | str | None = None
    method: str = ""


class RequestHeads:
    """Writes the heads of requests to one endpoint.

    Method and headers of MCP are the caller's; target, Host and credential are the connector's own. `authorization` is
    the value of the Authorization header. Raises Error `target_invalid` if that is none.
    """

    def __init__(self, endpoint: Endpoint, authorization: str | None = None) -> None:
        # identity: lists have to be read to be filtered
        fields = [f"host: {endpoint.authority}", "connection: keep-alive", "accept-encoding: identity"]
        if authorization is not None:
            fields.append(f"authorization: {authorization}")
        if not _one_line_each(fields):
            raise Error("target_invalid", "the target's credential is no header value", hint="check it for line ends")
        self._starts = {method: "\r\n".join((f"{method} {endpoint.path} HTTP/1.1", *fields)) for method in _METHODS}
        self._start = lru_cache(maxsize=64)(self._write_start)  # callers send the same with each request

    def write(self, request: Request) -> bytes:
        """The head of `request`. Raises NotStarted for one that could be read as anything else than itself."""
        if request.method not in self._starts:
            raise NotStarted(f"{request.method[:20]!r} is no method of MCP")
        start = self._start(request.method, tuple(request.headers))
        if request.body or request.method == "POST":
            return b"%bcontent-length: %d\r\n\r\n" % (start, len(request.body))
        return start + b"\r\n"

    def _write_start(self, method: str, headers: tuple[tuple[str, str], ...]) -> bytes:
        fields = [f"{name}: {value}" for name, value in headers if name in _PASSED or name.startswith("mcp-")]
        if method != "DELETE":
            fields.append(f"accept: {_accept(dict(reversed(headers)).get('accept'))}")
        if not _one_line_each(fields):
            raise NotStarted("a header holds characters that cannot be sent")
        return "\r\n".join((self._starts[method], *fields, "")).encode()


def _accept(wished: str | None) -> str:
    """What servers want to see: both forms of an answer, or they refuse (406). Who names both may choose their order.

    The relay has seen to it that the caller takes one of them.
    """
    named = [] if wished is None else [kind.strip().lower() for kind in wished.split(",")]
    return wished if wished is not None and sorted(named) == sorted(_FORMS) else ", ".join(_FORMS)


@lru_cache(maxsize=64)
def passed_on(status: int, headers: tuple[tuple[str, str], ...]) -> Headers:
    """The fields of an answer's head that go on with it. A server mostly sends the same with each of its answers.

    Raises jsonrpc.Refused `answer_unreadable` where not everybody would read the same in its body.
    """
    media.streams_events(status, headers)
    return tuple(end_to_end(headers))


def end_to_end(headers: Headers) -> list[tuple[str, str]]:
    """The fields of a response that are for whoever asked, and not for the next hop (RFC 9110, 7.6.1)."""
    named = {name.strip().lower() for key, value in headers if key == "connection" for name in value.split(",")}
    return [
        (name, value)
        for name, value in headers
        if name not in _HOP_BY_HOP and name not in named and not name.startswith("proxy-")
    ]


def redirect_refused(request: Request) -> tuple[int, Headers, bytes]:
    """The answer in place of a redirect: it was an answer, and says nothing about where else one could ask."""
    message = "the server answered with a redirect, which is not followed"
    hint = "its operator can give the final address as the target"
    return refused(request, Error("redirect_refused", message, hint=hint))


def refused(request: Request, why: Error) -> tuple[int, Headers, bytes]:
    """The answer in place of one that may not be passed on.

    A call gets a JSON-RPC error at status 200, the one form that all clients hand on, with the outcome and the other
    data of the relay's own errors; anything else gets 502.
    """
    if (asked := _read_call(request)) is None:
        return 502, [("content-length", "0")], b""
    return 200, [("content-type", "application/json")], mcp_problem(why, asked.id, call_id=request.call_id).body


def cancel_notice(request: Request) -> Request | None:
    """The request that tells a server of the legacy era to stop working on `request`.

    None where there is nothing to say: to a modern server, closing the response stream has said it.
    """
    if request.header("mcp-session-id") is None or (asked := _read_call(request)) is None:
        return None
    params = {"requestId": asked.id, "reason": "deadline passed"}
    notice = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}
    return msgspec.structs.replace(request, body=msgspec.json.encode(notice))


def _one_line_each(fields: list[str]) -> bool:
    """Whether these header lines are visible ASCII, so that none can be read as two or as the end of the head."""
    text = "".join(fields)
    return text.isascii() and text.isprintable()


def _read_call(request: Request) -> _Asked | None:
    """Id and method of a JSON-RPC request; None for a notification, a response, or no JSON-RPC at all."""
    try:
        asked = msgspec.json.decode(request.body, type=_Asked)
    except (msgspec.DecodeError, RecursionError):
        return None
    return asked if asked.method and asked.id is not None else None
