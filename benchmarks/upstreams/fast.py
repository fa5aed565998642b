"""The fast server: MCP over HTTP/1.1 on bare uvloop, so that what is measured is the way to it.

    python -m benchmarks.upstreams.fast

It prints the port it listens on, and ends with its stdin. It reads what well-behaved clients send, and no more.
"""

from __future__ import annotations

import asyncio
import re
import sys
from typing import cast

import uvloop

from benchmarks.upstreams.answers import answer

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
_NOTHING = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"
_NO_STREAM = b"HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\n\r\n"


class Connection(asyncio.Protocol):
    """One connection; requests are answered in turn."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one but in name

    def data_received(self, data: bytes) -> None:
        """Answer every request that is whole."""
        self._held += data
        while (end := self._held.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._held, 0, end)
            begin, stop = end + 4, end + 4 + (int(length[1]) if length else 0)
            if len(self._held) < stop:
                return
            post, body = self._held.startswith(b"POST"), self._held[begin:stop]
            self._held = self._held[stop:]
            self._answer(answer(body) if post else None)

    def _answer(self, pieces: tuple[bytes, ...] | None) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if not pieces:
            transport.write(_NO_STREAM if pieces is None else _NOTHING)
            return
        size = sum(map(len, pieces))
        if size < 64 * 1024:
            transport.write(_HEAD % (size, b"".join(pieces)))
            return
        transport.write(_HEAD % (size, pieces[0]))
        for piece in pieces[1:]:
            transport.write(piece)  # shared, and not copied


async def _main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    over = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), over.set)  # nothing is written to it, so this is its end
    await over.wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main())
