"""Caller: an application that asks through the relay, with the official MCP client and an API key."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import httpx2
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp_types import RequestParamsMeta

SECONDS = 20.0  # for one answer
NEWEST = "2026-07-28"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for a call: its outcome (None where it never became a call), and after how many seconds.

    With `result` there is the structured `content` of the answer, else the relay's code and sentence.
    """

    outcome: str | None
    seconds: float
    content: Mapping[str, Any] | None = None
    code: str | None = None
    said: str = ""
    call_id: str | None = None

    def __str__(self) -> str:
        if self.code is None:
            return f"{self.outcome}: {self.content if self.content is not None else self.said}"
        return f"{self.outcome} ({self.code}): {self.said}"


class Caller:
    """Asks one server as one agent, for the tenant of its key."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def tools(self) -> list[str]:
        """The names of the tools that it is shown."""
        return [tool.name for tool in (await self._client.list_tools()).tools]

    async def call(self, tool: str, claims: Mapping[str, str] | None = None, **arguments: object) -> Answer:
        """Call a tool. `claims` go into `_meta`, where a client may write what it likes."""
        began = time.monotonic()
        try:
            result = await self._client.call_tool(tool, arguments, meta=cast("RequestParamsMeta | None", claims))
        except MCPError as error:
            seconds = time.monotonic() - began
            data = error.data if isinstance(error.data, dict) else {}
            return Answer(data.get("outcome"), seconds, None, data.get("code"), error.message, data.get("call_id"))
        seconds = time.monotonic() - began
        text = " ".join(block.text for block in result.content if block.type == "text")
        return Answer("result", seconds, content=None if result.is_error else result.structured_content, said=text)


@asynccontextmanager
async def caller(url: str, key: str, *, greet: bool = True) -> AsyncIterator[Caller]:
    """A client of the MCP endpoint `url`. Without `greet` it sends nothing before the first call.

    Raises what the client raises, in groups, if it is not let in.
    """
    headers = {"authorization": f"Bearer {key}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=SECONDS, trust_env=False) as http,
        Client(streamable_http_client(url, http_client=http), mode="auto" if greet else NEWEST) as client,
    ):
        yield Caller(client)
