"""What a connector offers: MCP servers, each behind the one port `target.Target`."""
