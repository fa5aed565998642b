"""The MCP servers of an agent, as its loop sees them: tools to list and to call, through the port Calls alone."""

from __future__ import annotations
