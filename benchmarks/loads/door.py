"""Door: an MCP endpoint as a load sees it, and the first words that some endpoints want to hear."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.machine.process import Failed

TOOL = "work"
LEGACY = "2025-06-18"
MODERN = "2026-07-28"
PATIENCE = 30.0  # seconds for one answer by hand


@dataclass(frozen=True, slots=True)
class Door:
    """Where to call. `processes` are those that stand between the caller and the server, by what they are called:
    their time and memory are the price of the way.
    """

    port: int
    path: str = "/mcp"
    headers: Mapping[str, str] = field(default_factory=dict)
    processes: Mapping[str, int] = field(default_factory=dict)
    era: str = LEGACY

    @property
    def url(self) -> str:
        """The whole of it."""
        return f"http://127.0.0.1:{self.port}{self.path}"

    def fields(self) -> dict[str, str]:
        """All headers of a call."""
        said = {
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": self.era,
        }
        if self.era == MODERN:
            said |= {"mcp-method": "tools/call", "mcp-name": TOOL}
        return said | dict(self.headers)


def call(era: str, number: int, size: int) -> str:
    """PURE. The body of a call whose result is `size` bytes long; 0 for a short one."""
    params: dict[str, Any] = {"name": TOOL, "arguments": {"size": size}}
    if era == MODERN:
        prefix = "io.modelcontextprotocol/"
        client = {"name": "benchmarks", "version": "1"}
        params["_meta"] = {
            f"{prefix}protocolVersion": era,
            f"{prefix}clientInfo": client,
            f"{prefix}clientCapabilities": {},
        }
    asked = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}
    return json.dumps(asked, separators=(",", ":"))


def enter(door: Door) -> Door:
    """Say what a client of the door's era says first, and make sure that a call is answered with a result.

    Returns the door with the session that it gave, if any. Raises Failed.
    """
    if door.era == LEGACY:
        client = {"name": "benchmarks", "version": "1"}
        params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": client}
        hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
        session = _post(door, json.dumps(hello), "serverInfo")
        if session is not None:
            door = replace(door, headers={**door.headers, "mcp-session-id": session})
        _post(door, json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"}), "")
    _post(door, call(door.era, 2, 0), '"result"')
    return door


def _post(door: Door, body: str, expected: str) -> str | None:
    """Post a message, and see that `expected` stands in the answer; returns the session id of its head."""
    connection = http.client.HTTPConnection("127.0.0.1", door.port, timeout=PATIENCE)
    try:
        connection.request("POST", door.path, body, door.fields())
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        raise Failed(f"no answer: {error!r}") from error
    finally:
        connection.close()
    if answer.status not in (200, 202) or expected not in text:
        raise Failed(f"{body[:60]}… was answered {answer.status} {text[:300]}")
    return answer.getheader("mcp-session-id")
