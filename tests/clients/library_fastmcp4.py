"""How `speak.py` uses FastMCP 4: its `Client`."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport

TRUST = ssl.create_default_context()  # one for all clients: making it costs more than a call


class Connection:
    """One client, of the era that was negotiated."""

    def __init__(self, client: Client[Any]) -> None:
        self.client = client
        self.protocol = str(client.protocol_version)

    async def tools(self) -> list[dict[str, Any]]:
        listed = await self.client.list_tools(cache_mode="refresh")
        return [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in listed]

    async def call(
        self, name: str, arguments: dict[str, Any], meta: dict[str, Any] | None, timeout: float
    ) -> dict[str, Any]:
        result = await self.client.call_tool_mcp(name, arguments, timeout=timeout, meta=meta)
        return dict(result.model_dump(mode="json", by_alias=True, exclude_none=True))


@asynccontextmanager
async def connect(url: str, headers: dict[str, str], mode: str) -> AsyncIterator[Connection]:
    """A client at `url`; `mode` is "auto", "legacy" or a version of the modern era."""
    async with Client(StreamableHttpTransport(url, headers=headers, verify=TRUST), mode=mode) as client:
        yield Connection(client)
