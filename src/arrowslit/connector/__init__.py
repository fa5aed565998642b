"""The private side: dials out, asks the ceiling, runs or reaches MCP servers."""
