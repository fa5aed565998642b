"""The public side: ends tunnels, offers MCP endpoints, decides and records."""
