"""What a gathered answer means, without I/O: a result, an error of the server's own, or one of ours.

Whoever may say what: the header `arrowslit-outcome` is written by the relay alone, so what it says is certain. Where a
stream had begun before a call failed, the relay's word is an event, which a server could imitate; it is believed where
it claims no more than "nobody knows". So no server can make a call that it executed look as if it had not been.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from arrowslit.agents.servers.gathering import LIMIT, UNREADABLE, Gathering
from arrowslit.errors import CODES, Error
from arrowslit.outcome import Outcome

_CERTAIN_ONLY = (Outcome.DENIED, Outcome.NOT_DELIVERED)


@dataclass(frozen=True, slots=True)
class Result:
    """The `result` of a response, JSON values."""

    value: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ServerError:
    """The server said no: `code` is that of JSON-RPC, None where it gave none.

    `readable` is whether it was an answer of JSON-RPC at all. Where it was not, something in between may have spoken
    (a gateway's 503, a login page), and whether the server did what it was asked for is not known.
    """

    status: int
    message: str
    code: int | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    readable: bool = True


def read(gathered: Gathering, call_id: str | None = None) -> Result | ServerError:
    """What the server said. Raises Error where it is the relay that speaks, or nobody did."""
    if gathered.too_large and not gathered.broken:
        raise Error("result_too_large", f"the server's answer is larger than {LIMIT >> 20} MiB")
    if gathered.said is None or gathered.status is None:
        raise Error(
            "outcome_unknown",
            "the server's answer broke off; nobody knows whether the call was executed",
            hint="look at the data before asking for the same again",
        )
    try:
        message = msgspec.json.decode(gathered.said)
    except UNREADABLE:
        return _unreadable(gathered.status, "no answer that can be read")
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        return _unreadable(gathered.status, "an answer that is none")
    result, error = message.get("result"), message.get("error")
    if isinstance(error, dict):
        return _error(gathered, error, call_id)
    if isinstance(result, dict):
        return Result(result)
    return _unreadable(gathered.status, "neither a result nor an error")


def _unreadable(status: int, what: str) -> ServerError:
    return ServerError(status, f"status {status} and {what}", readable=False)


def _error(gathered: Gathering, error: Mapping[str, Any], call_id: str | None) -> ServerError:
    said, code, data = error.get("message"), error.get("code"), error.get("data")
    message = said if isinstance(said, str) and said else "an error without a message"
    data = data if isinstance(data, dict) else {}
    if _is_ours(gathered, data, call_id):
        hint = data.get("hint")
        raise Error(data["code"], message, hint=hint if isinstance(hint, str) else None)
    return ServerError(gathered.status or 200, message, code if isinstance(code, int) else None, data)


def _is_ours(gathered: Gathering, data: Mapping[str, Any], call_id: str | None) -> bool:
    code = data.get("code")
    row = CODES.get(code) if isinstance(code, str) else None
    if row is None or row.outcome is None:
        return False
    if gathered.outcome is not None:
        return row.outcome.value == gathered.outcome
    return row.outcome not in _CERTAIN_ONLY and call_id in (None, data.get("call_id"))
