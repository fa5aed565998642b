"""Callers that mean ill: some send a head one byte a second, as many connect and say nothing. A process of its own.

    python -m benchmarks.loads.slow PORT COUNT

It prints `open` once COUNT of each kind are connected, connects again whenever it is cut, and ends with its stdin.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

import uvloop

HEAD = b"POST /mcp/agent/server HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer " + b"x" * 4096
SECOND = 1.0  # between two bytes
AGAIN = 0.2  # seconds until one that was cut comes back


async def _caller(port: int, *, talks: bool, connected: asyncio.Semaphore) -> None:
    """Connect again and again. The first time counts."""
    counted = False
    while True:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            if not counted:
                counted = True
                connected.release()
            await (_trickle(reader, writer) if talks else reader.read())
            writer.close()
        await asyncio.sleep(AGAIN)


async def _trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send the head byte by byte, until the other side has had enough."""
    cut = asyncio.ensure_future(reader.read())
    for byte in HEAD:
        writer.write(bytes([byte]))
        done, _ = await asyncio.wait([cut], timeout=SECOND)
        if done:
            break
    cut.cancel()
    with suppress(OSError, asyncio.CancelledError):
        await cut


async def _main(port: int, count: int) -> None:
    over = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), over.set)  # nothing is written to it, so this is its end
    connected = asyncio.Semaphore(0)
    callers = [
        asyncio.create_task(_caller(port, talks=talks, connected=connected))
        for _ in range(count)
        for talks in (True, False)
    ]
    for _ in callers:
        await connected.acquire()
    print("open", flush=True)
    await over.wait()
    for each in callers:
        each.cancel()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main(int(sys.argv[1]), int(sys.argv[2])))
