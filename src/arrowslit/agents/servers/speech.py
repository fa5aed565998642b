"""How a server is spoken to, without I/O: the requests of both eras of MCP, as exchanges for the port Calls.

Source: MCP 2025-11-25 and 2026-07-28, Streamable HTTP and basic lifecycle.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from arrowslit import __version__
from arrowslit.protocol.mcp import MAX_DEADLINE_MS
from arrowslit.protocol.mirrors import wrapped
from arrowslit.tunnel import Exchange

MODERN, LEGACY = "2026-07-28", "2025-11-25"
CLIENT = {"name": "arrowslit", "version": __version__}
SESSION_HEADER = "mcp-session-id"

_PREFIX = "io.modelcontextprotocol/"
_COMMON = (("content-type", "application/json"), ("accept", "application/json, text/event-stream"))

Fields = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Speech:
    """The version that was agreed on and, in the legacy era, the session (None for a server that keeps none)."""

    version: str
    session: str | None = None

    @property
    def modern(self) -> bool:
        """Whether each request stands for itself."""
        return self.version == MODERN


def request(
    speech: Speech,
    ident: int,
    method: str,
    params: Mapping[str, object],
    *,
    headers: Fields = (),
    deadline: float | None = None,
    call_id: str | None = None,
) -> Exchange:
    """A request. Its progress token is its id: a server that says how far it is gets more time. `deadline` in s."""
    meta: dict[str, object] = {"progressToken": ident}
    if speech.modern:
        meta[_PREFIX + "protocolVersion"] = speech.version
        meta[_PREFIX + "clientInfo"] = CLIENT
        meta[_PREFIX + "clientCapabilities"] = {}
        headers = [("mcp-method", method), *_named(params), *headers]
    if deadline is not None:
        headers = [*headers, ("arrowslit-deadline-ms", str(_milliseconds(deadline)))]
    message = {"jsonrpc": "2.0", "id": ident, "method": method, "params": {**params, "_meta": meta}}
    return _post(_agreed(speech), message, headers, call_id)


def initialize(ident: int) -> Exchange:
    """The first word of the legacy era, which no version or session has been agreed on for."""
    params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": CLIENT}
    return _post([], {"jsonrpc": "2.0", "id": ident, "method": "initialize", "params": params})


def initialized(speech: Speech) -> Exchange:
    """The end of the handshake."""
    return _post(_agreed(speech), {"jsonrpc": "2.0", "method": "notifications/initialized"})


def response(speech: Speech, ident: int | str, said: Mapping[str, object]) -> Exchange:
    """What is answered to a question of the server: `said` is a `result` or an `error`."""
    return _post(_agreed(speech), {"jsonrpc": "2.0", "id": ident, **said})


def resume(speech: Speech, last_event: str) -> Exchange:
    """Go on with a stream that the server ended early, after that event."""
    headers = [("accept", "text/event-stream"), *_agreed(speech), ("last-event-id", last_event)]
    return Exchange("GET", headers, b"")


def end(speech: Speech) -> Exchange:
    """The end of a session."""
    return Exchange("DELETE", _agreed(speech), b"")


def _post(agreed: Fields, message: Mapping[str, object], headers: Fields = (), call_id: str | None = None) -> Exchange:
    return Exchange("POST", [*_COMMON, *agreed, *headers], msgspec.json.encode(message), call_id)


def _agreed(speech: Speech) -> list[tuple[str, str]]:
    session = [(SESSION_HEADER, speech.session)] if speech.session is not None else []
    return [("mcp-protocol-version", speech.version), *session]


def _named(params: Mapping[str, object]) -> list[tuple[str, str]]:
    name = params.get("name")
    return [("mcp-name", wrapped(name))] if isinstance(name, str) else []


def _milliseconds(deadline: float) -> int:
    return max(1, min(MAX_DEADLINE_MS, math.ceil(deadline * 1000)))
