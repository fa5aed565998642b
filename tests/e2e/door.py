"""The relay's MCP door as a client writes to it by hand: every header and every byte is the test's own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import httpx2

from arrowslit.client.api import trusted
from tests.harness import PATIENCE

LEGACY = ("2025-03-26", "2025-06-18", "2025-11-25")
MODERN = "2026-07-28"
VERSIONS = (*LEGACY, MODERN)

JSON = dict[str, Any]
_PREFIX = "io.modelcontextprotocol/"
_MIRRORED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}


@dataclass(frozen=True, slots=True)
class Said:
    """What came back. `message` is the JSON-RPC answer, from a JSON body or from the events; None if there is none."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    message: JSON | None

    @property
    def error(self) -> JSON:
        """The JSON-RPC error; fails if there is none."""
        assert self.message is not None, self
        assert "error" in self.message, self
        return dict(self.message["error"])

    @property
    def code(self) -> str | None:
        """The code of the registry, None for a result."""
        return None if self.message and "result" in self.message else str(self.error["data"]["code"])

    @property
    def outcome(self) -> str:
        """How the call ended; `no call` for a request that was none."""
        if self.message and "result" in self.message:
            return "result"
        return self.error["data"]["outcome"] or "no call"

    @property
    def result(self) -> JSON:
        """The result; fails if there is none."""
        assert self.message is not None, self
        assert "result" in self.message, self
        return dict(self.message["result"])

    @property
    def content(self) -> JSON:
        """The structured content of a tool's result."""
        return dict(self.result["structuredContent"])


class Door:
    """One MCP endpoint with one key, in one version of the protocol."""

    def __init__(self, http: httpx2.AsyncClient, url: str, key: str, version: str) -> None:
        self.http = http
        self.url = url
        self.key = key
        self.version = version
        self.session: str | None = None
        self._idents = count(1)

    @property
    def is_modern(self) -> bool:
        """Whether each request names its version itself."""
        return self.version == MODERN

    def headers(self, message: JSON | None = None) -> dict[str, str]:
        """The headers of a client that does it right."""
        headers = {
            "authorization": f"Bearer {self.key}",
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": self.version,
        }
        if message is not None:
            headers["content-type"] = "application/json"
        if self.session is not None:
            headers["mcp-session-id"] = self.session
        if self.is_modern and message is not None and "method" in message:
            headers["mcp-method"] = message["method"]
            member = _MIRRORED.get(message["method"])
            if member and isinstance(message.get("params", {}).get(member), str):
                headers["mcp-name"] = message["params"][member]
        return headers

    def request(self, method: str, params: Mapping[str, Any] | None = None) -> JSON:
        """A request of this version, with an id that it alone has."""
        meta: JSON = {}
        if self.is_modern:
            client = {"name": "by hand", "version": "1"}
            meta = {f"{_PREFIX}protocolVersion": MODERN, f"{_PREFIX}clientInfo": client}
            meta[f"{_PREFIX}clientCapabilities"] = {}
        asked = dict(params or {})
        meta |= asked.pop("_meta", {})
        return {
            "jsonrpc": "2.0",
            "id": next(self._idents),
            "method": method,
            "params": asked | ({"_meta": meta} if meta else {}),
        }

    async def initialize(self) -> Said:
        """Begin a session, where this version has sessions."""
        client = {"name": "by hand", "version": "1"}
        said = await self.ask("initialize", {"protocolVersion": self.version, "capabilities": {}, "clientInfo": client})
        self.session = said.headers.get("mcp-session-id")
        await self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return said

    async def ask(self, method: str, params: JSON | None = None, headers: Mapping[str, str] | None = None) -> Said:
        """A request as it should be, but for `headers`."""
        return await self.send(self.request(method, params), headers)

    async def call(
        self,
        tool: str,
        arguments: JSON | None = None,
        *,
        meta: JSON | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Said:
        """Call a tool."""
        params: JSON = {"name": tool, "arguments": arguments or {}}
        return await self.ask("tools/call", params | ({"_meta": meta} if meta else {}), headers)

    async def send(self, message: JSON, headers: Mapping[str, str] | None = None) -> Said:
        """Post a message."""
        return await self.post(json.dumps(message).encode(), self.headers(message) | dict(headers or {}))

    async def post(self, body: bytes, headers: Mapping[str, str]) -> Said:
        """Post these bytes with these headers."""
        response = await self.http.post(self.url, content=body, headers=dict(headers))
        return Said(response.status_code, response.headers, response.content, _answer(response))

    @asynccontextmanager
    async def stream(self, headers: Mapping[str, str] | None = None) -> AsyncIterator[httpx2.Response]:
        """Open the GET stream."""
        async with self.http.stream("GET", self.url, headers=self.headers() | dict(headers or {})) as response:
            yield response


def _answer(response: httpx2.Response) -> JSON | None:
    """The one JSON-RPC answer in a response."""
    kind = response.headers.get("content-type", "")
    if kind.startswith("application/json") and response.content:  # a 202 may name a type, and has no body
        said = response.json()
        return said if isinstance(said, dict) else None
    if kind.startswith("text/event-stream"):
        found = [event for event in events(response.content) if "id" in event and "method" not in event]
        assert len(found) <= 1, found
        return found[0] if found else None
    return None


def events(body: bytes) -> list[JSON]:
    """The messages in server-sent events."""
    data = [
        "\n".join(line[5:].strip() for line in block.split("\n") if line.startswith("data:"))
        for block in body.decode().split("\n\n")
    ]
    return [json.loads(each) for each in data if each]


@asynccontextmanager
async def door(url: str, key: str, version: str = LEGACY[-1]) -> AsyncIterator[Door]:
    """A client at `url` (`relay.url/mcp/AGENT/SERVER`)."""
    limits = httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(trust_env=False, verify=trusted(url), timeout=30, limits=limits) as http:
        yield Door(http, url, key, version)


async def until(condition: object, described: str, *, seconds: float = PATIENCE) -> Any:
    """What `condition()` (or awaiting it) returns as soon as it is true; fails if it does not become so in time."""
    assert callable(condition)
    found: Any = None
    try:
        async with asyncio.timeout(seconds):
            while not found:
                found = condition()
                if asyncio.iscoroutine(found):
                    found = await found
                if not found:
                    await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"after {seconds} s still not: {described}") from None
    return found
