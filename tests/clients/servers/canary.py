"""An MCP server (SDK 2.x) whose answers show whose question they answer: they repeat its canary and its tenant."""

from __future__ import annotations

import asyncio
from typing import Any, TypedDict

import serving
from mcp.server.mcpserver import Context, MCPServer

server = MCPServer("canary", log_level="WARNING")


class Echo(TypedDict):
    """`tenant` is None where nobody wrote one into `_meta`."""

    canary: str
    tenant: str | None


@server.tool()
async def echo(canary: str, ctx: Context[Any, Any], delay_ms: int = 0) -> Echo:
    """Answer with the canary after `delay_ms`, and with the tenant of `_meta`."""
    await asyncio.sleep(delay_ms / 1000)
    meta: dict[str, Any] = dict(ctx.request_context.meta or {})
    return {"canary": canary, "tenant": meta.get("dev.arrowslit/tenant")}


if __name__ == "__main__":
    serving.main(server)
