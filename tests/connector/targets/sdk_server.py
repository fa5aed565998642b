"""A server of the MCP SDK 2.x over stdio: one tool, which needs a while and says how far it is."""

from __future__ import annotations

from mcp.server.mcpserver import Context, MCPServer

server = MCPServer("sdk")


@server.tool()
async def greet(name: str, ctx: Context) -> str:
    """Greet, with progress."""
    await ctx.report_progress(1, 2)
    return f"hello {name}"


if __name__ == "__main__":
    server.run("stdio")
