"""How `speak.py` uses the MCP SDK 1.x: a `ClientSession` over Streamable HTTP."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

TRUST = ssl.create_default_context()  # one for all clients: making it costs more than a call


class Connection:
    """One session; it speaks the handshake era, whatever the caller would like."""

    def __init__(self, session: ClientSession, protocol: str) -> None:
        self.session = session
        self.protocol = protocol

    async def tools(self) -> list[dict[str, Any]]:
        listed = await self.session.list_tools()
        return [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in listed.tools]

    async def call(
        self, name: str, arguments: dict[str, Any], meta: dict[str, Any] | None, timeout: float
    ) -> dict[str, Any]:
        result = await self.session.call_tool(name, arguments, timedelta(seconds=timeout), meta=meta)
        return result.model_dump(mode="json", by_alias=True, exclude_none=True)


@asynccontextmanager
async def connect(url: str, headers: dict[str, str], mode: str) -> AsyncIterator[Connection]:
    """An initialized session at `url`; `mode` has no meaning for this library."""
    async with (
        httpx.AsyncClient(headers=headers, timeout=httpx.Timeout(30, read=300), verify=TRUST) as http,
        streamable_http_client(url, http_client=http) as (read, write, _),
        ClientSession(read, write) as session,
    ):
        greeting = await session.initialize()
        yield Connection(session, str(greeting.protocolVersion))
