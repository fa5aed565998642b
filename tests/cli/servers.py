"""An MCP server (stdio) with a tool for each way in which a tool can answer; its log is the file ODD_LOG."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from mcp import MCPError
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ImageContent, TextContent

LOG = Path(os.environ["ODD_LOG"])
server = MCPServer("odd", log_level="WARNING")


@server.tool()
async def fails() -> str:
    """Report an error of its own."""
    raise ToolError("out of\x1b[31m paper")


@server.tool()
async def refuses() -> str:
    """Answer with a JSON-RPC error."""
    raise MCPError(-32042, "not on a Sunday")


@server.tool()
async def many(count: int, flag: bool = False, names: list[str] | None = None) -> list[TextContent | ImageContent]:
    """Answer with several pieces.

    And describe itself in more than one line.
    """
    texts = [TextContent(text=f"{count} {flag} {names}\nsecond\x1b[2J line")]
    return [*texts, ImageContent(data="aGk=", mime_type="image/png")]


@server.tool()
async def slow(seconds: float) -> str:
    """Write a line into the log, wait, answer."""
    with LOG.open("a") as log:
        log.write("began\n")
    await asyncio.sleep(seconds)
    with LOG.open("a") as log:
        log.write("ended\n")
    return "done"


@server.tool()
async def dies() -> str:
    """Take the whole process along."""
    os._exit(1)


if __name__ == "__main__":
    asyncio.run(server.run_stdio_async())
