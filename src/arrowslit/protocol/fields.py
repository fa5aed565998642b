"""PURE: which HTTP fields travel: of a request to the server, and of an answer to the caller."""

from __future__ import annotations

from collections.abc import Sequence

Headers = Sequence[tuple[str, str]]
"""HTTP fields in order: lower-case name, value without surrounding whitespace (RFC 9110, 5.5)."""

_FORWARDED = frozenset({"accept", "content-type", "last-event-id", "traceparent", "tracestate", "baggage"})

# A connection's own business (RFC 9110, 7.6.1), what the relay says itself, and what speaks for a whole origin and so
# for every other server behind the same relay.
_NOT_RETURNED = frozenset(
    [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "content-length",
        "date",
        "server",
        "set-cookie",
        "set-cookie2",
        "alt-svc",
        "clear-site-data",
        "strict-transport-security",
    ]
)


def forward(headers: Headers) -> list[tuple[str, str]]:
    """What of a request's headers goes to the target. Never a credential, a cookie, or anything that is ours."""
    return [pair for pair in headers if pair[0] in _FORWARDED or pair[0].startswith("mcp-")]


def returnable(headers: Headers) -> list[tuple[str, str]]:
    """What of a response's headers goes to the caller."""
    dropped = _NOT_RETURNED
    named = [value for name, value in headers if name == "connection"]
    if named:
        dropped |= {token.strip().lower() for value in named for token in value.split(",")}
    return [
        pair for pair in headers if pair[0] not in dropped and not pair[0].startswith(("arrowslit-", "access-control-"))
    ]
