"""How the servers beside this file run: over stdio, or over HTTP on a free port, whose URL is then their first line."""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any, Literal, Protocol

import uvicorn


class Servable(Protocol):
    """What the high-level servers of mcp 1.x and 2.x have in common."""

    async def run_stdio_async(self) -> None: ...

    def streamable_http_app(self) -> Any: ...


def main(server: Servable, *, http: Literal["auto", "h11"] = "auto") -> None:
    """Run `server` as the command line asks: `stdio` (also without arguments) or `http`, read by the parser `http`."""
    match sys.argv[1:]:
        case [] | ["stdio"]:
            asyncio.run(server.run_stdio_async())
        case ["http"]:
            asyncio.run(listen(server, http))
        case _:
            sys.exit(f"usage: {sys.argv[0]} [stdio|http]")


async def listen(server: Servable, http: Literal["auto", "h11"]) -> None:
    """Serve on 127.0.0.1; who connects once the URL was printed is answered."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
    settings = uvicorn.Config(server.streamable_http_app(), http=http, log_level="warning", timeout_graceful_shutdown=1)
    await uvicorn.Server(settings).serve(sockets=[listener])
