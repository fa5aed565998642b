"""How an error is said at each door: the code of the registry becomes a status, headers and a body."""

from __future__ import annotations

import math
from typing import NamedTuple

import msgspec

from arrowslit.errors import Error
from arrowslit.tunnel import Headers


class Problem(NamedTuple):
    """A whole answer. `headers` have no content-length; whoever sends the body adds it."""

    status: int
    headers: Headers
    body: bytes


JsonRpcId = int | str | None

_V1_TYPES = {  # what the official SDK makes its exceptions of (reference of the Managed Agents API, 1.3)
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    429: "rate_limit_error",
    503: "overloaded_error",
}


def as_error(problem: BaseException) -> Error:
    """`problem` if it is one of ours; else `internal_error`, which repeats none of its text: that stays in the log."""
    if isinstance(problem, Error):
        return problem
    return Error(
        "internal_error",
        "the relay failed to answer this request",
        hint="the relay's log says why; nothing in the request is known to be wrong",
    )


def mcp_problem(error: Error, id: JsonRpcId = None, call_id: str | None = None) -> Problem:  # JSON-RPC's word
    """What an MCP client is told: a JSON-RPC error with the data of tunnel.md, "What ends a call".

    `id` is the request's id; without it, the error's detail `jsonrpc_id`, null where the id could not be read. When the
    connector was last seen is the error's detail `connector_last_seen` (RFC 3339).
    """
    row = error.row
    outcome = None if row.outcome is None else row.outcome.value
    body = {
        "jsonrpc": "2.0",
        "id": error.details.get("jsonrpc_id") if id is None else id,
        "error": {
            "code": row.jsonrpc,
            "message": error.message,
            "data": {
                "code": error.code,
                "outcome": outcome,
                "call_id": call_id,
                "retryable": row.retryable,
                "connector_last_seen": error.details.get("connector_last_seen"),
                "hint": error.hint,
            },
        },
    }
    headers = _headers(error, row.mcp)
    if outcome is not None:
        headers.append(("arrowslit-outcome", outcome))
    return Problem(row.mcp, headers, msgspec.json.encode(body))


def v1_problem(error: Error, request_id: str | None = None) -> Problem:
    """What a client of /v1 is told: the official envelope, our code as `error_code` and the hint in its details."""
    status = error.row.v1
    details: dict[str, object] = {"error_code": error.code, "hint": error.hint}
    if error.row.outcome is not None:
        details["outcome"] = error.row.outcome.value
    details |= {name: value for name, value in error.details.items() if name != "jsonrpc_id"}
    fallback = "api_error" if status >= 500 else "invalid_request_error"
    body = {
        "type": "error",
        "error": {"type": _V1_TYPES.get(status, fallback), "message": error.message, "details": details},
        "request_id": request_id,
    }
    headers = _headers(error, status)
    if request_id is not None:
        headers.append(("request-id", request_id))
    if status == 409:
        headers.append(("x-should-retry", "false"))  # the official SDK would send the same request three times
    return Problem(status, headers, msgspec.json.encode(body))


def _headers(error: Error, status: int) -> list[tuple[str, str]]:
    headers = [("content-type", "application/json"), ("cache-control", "no-store")]
    if status == 401:
        headers.append(("www-authenticate", "Bearer"))  # RFC 9110, 11.6.1: a 401 says how to authenticate
    retry_after = error.details.get("retry_after")
    if status in (408, 429, 503) and isinstance(retry_after, int | float):
        headers.append(("retry-after", str(max(1, math.ceil(retry_after)))))
    return headers
