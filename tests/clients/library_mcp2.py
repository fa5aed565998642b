"""How `speak.py` uses the MCP SDK 2.x: its `Client`."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import RequestParamsMeta

TRUST = ssl.create_default_context()  # one for all clients: making it costs more than a call


class Connection:
    """One client, of the era that was negotiated."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.protocol = client.protocol_version

    async def tools(self) -> list[dict[str, Any]]:
        listed = await self.client.list_tools(cache_mode="refresh")
        return [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in listed.tools]

    async def call(
        self, name: str, arguments: dict[str, Any], meta: dict[str, Any] | None, timeout: float
    ) -> dict[str, Any]:
        theirs = cast(RequestParamsMeta | None, meta)
        result = await self.client.call_tool(name, arguments, timeout, meta=theirs)
        return result.model_dump(mode="json", by_alias=True, exclude_none=True)


@asynccontextmanager
async def connect(url: str, headers: dict[str, str], mode: str) -> AsyncIterator[Connection]:
    """A client at `url`; `mode` is "auto", "legacy" or a version of the modern era."""
    async with (
        httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(30, read=300), verify=TRUST) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode) as client,
    ):
        yield Connection(client)
