"""A server as people write them, on the official SDK: what a call usually costs where the way ends.

python -m benchmarks.upstreams.sdk PORT
"""

from __future__ import annotations

import sys

import uvicorn
from mcp.server.mcpserver import MCPServer

server = MCPServer("benchmarks", log_level="ERROR")


@server.tool()
async def work(size: int = 0) -> str:
    """Nothing."""
    return "x" * size or "done"


if __name__ == "__main__":
    app = server.streamable_http_app(json_response=True, stateless_http=True)
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False)
