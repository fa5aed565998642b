"""An MCP server (SDK 2.x) that keeps its own log of what it executed, in the file that APPEND_LOG names.

A line is on its way to the disk before the tool waits, so a test that kills this process, or the way to it, can still
read what was executed, and how often.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TypedDict

import serving
from mcp.server.mcpserver import MCPServer
from mcp_types import ToolAnnotations

LOG = Path(os.environ["APPEND_LOG"])
server = MCPServer("append", log_level="WARNING")


class Appended(TypedDict):
    """The text that was written."""

    text: str


class Lines(TypedDict):
    """The log as it was when the tool began, the line of this call included."""

    lines: list[str]


@server.tool()
async def append(text: str, delay_ms: int = 0) -> Appended:
    """Write `text` as a line, then wait `delay_ms`, then answer. Every call writes: it is not idempotent."""
    write(text)
    await asyncio.sleep(delay_ms / 1000)
    return {"text": text}


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
async def read(text: str = "", delay_ms: int = 0) -> Lines:
    """Read the log, then wait `delay_ms`, then answer. Leaves the line `read TEXT`, so that reads can be counted."""
    write(f"read {text}")
    lines = LOG.read_text().splitlines()
    await asyncio.sleep(delay_ms / 1000)
    return {"lines": lines}


def write(line: str) -> None:
    """Add one line in one write, so that processes that share the file do not mix theirs."""
    with LOG.open("a") as log:
        log.write(line + "\n")


if __name__ == "__main__":
    serving.main(server)
