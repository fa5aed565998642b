#!/usr/bin/env python3
"""The smallest private server: one tool, which says for whom it was called."""

from __future__ import annotations

from typing import Any

from mcp.server.mcpserver import Context, MCPServer

server = MCPServer("hello")


@server.tool()
def hello(name: str, ctx: Context[Any]) -> str:
    """Greet somebody from the private side."""
    meta = ctx.request_context.meta or {}
    tenant = meta.get("dev.arrowslit/tenant", "nobody")  # written by the relay, from the caller's key
    return f"Hello {name}. I run where nobody can reach me, and this call is for {tenant}."


if __name__ == "__main__":
    server.run()
