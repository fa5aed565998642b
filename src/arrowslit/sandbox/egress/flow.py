"""Flow: one connected socket, read and written piece by piece; nothing waits in memory but the piece in hand."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress

CHUNK = 64 * 1024
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of no time: close at once, and say so by a reset


class Flow:
    """A non-blocking stream socket, which it closes. One coroutine reads, one writes. OSError: it is lost."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._loop = asyncio.get_running_loop()
        self._again = b""
        sock.setblocking(False)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            with suppress(OSError):  # it may be lost already, which the first read will tell
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def read(self, limit: int = CHUNK) -> bytes:
        """What there is, at most `limit` bytes of it, waiting for some; empty at the end."""
        if self._again:
            data, self._again = self._again[:limit], self._again[limit:]
            return data
        return await self._loop.sock_recv(self._socket, limit)

    def unread(self, data: bytes) -> None:
        """Let `data` be read again, before anything else."""
        self._again = data + self._again

    async def write(self, data: bytes) -> None:
        """Return when the system has taken all of it."""
        await self._loop.sock_sendall(self._socket, data)

    def end(self) -> None:
        """Say that nothing more will be written."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    async def settle(self, seconds: float) -> None:
        """Say so, then read and drop what still comes, for so long: a close before that could destroy what was said."""
        self.end()
        with suppress(OSError):
            async with asyncio.timeout(seconds):
                while await self._loop.sock_recv(self._socket, CHUNK):
                    pass

    def close(self, *, reset: bool = False) -> None:
        """Close it; with `reset` so that the other side cannot take what it has for the whole."""
        if reset:
            with suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._socket.close()


async def connect(address: str, port: int) -> Flow:
    """A connection to exactly this address; no resolver is asked. Raises OSError."""
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (address, port))
        return Flow(sock)
    except BaseException:
        sock.close()
        raise
