"""What a name leads to, by this machine's own resolver, in threads that nothing else waits for."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

LOOKUPS = 4  # at once: code in a sandbox may ask for many names below a wildcard, and a look-up cannot be given up


class SystemResolver:
    """Fulfils Resolve with `getaddrinfo`. One serves all sandboxes of a worker."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(LOOKUPS, thread_name_prefix="egress-resolve")

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """See Resolve."""
        found = await asyncio.get_running_loop().run_in_executor(self._threads, _look_up, host, port)
        return list(dict.fromkeys(found))

    def close(self) -> None:
        """Start no further look-up; those that run end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _look_up(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a label that is too long for the codec of names
        raise OSError(f"no such name: {error}") from None
    return [str(sockaddr[0]) for *_, sockaddr in found]
