"""A private MCP server for the smoke sequence: one tool that lists issues, and one that nobody grants."""

from __future__ import annotations

from mcp.server.mcpserver import MCPServer

server = MCPServer("issues")


@server.tool()
def list_issues(q: int = 0) -> str:
    """List issues."""
    return f"two issues for {q}: the door sticks, the lamp is out"


@server.tool()
def create_issue(title: str) -> str:
    """Create an issue."""
    return f"created {title}"


if __name__ == "__main__":
    server.run()
