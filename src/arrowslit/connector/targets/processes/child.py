"""Child processes without a thread: the event loop watches a file descriptor of the process instead (pidfd).

asyncio's own subprocesses start a thread each on Python 3.11, and those of uvloop inherit whatever this process did.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Mapping, Sequence

POLL_EVERY = 0.05  # seconds; only where there are no pidfds (Linux has them since 5.3)


def spawn(argv: Sequence[str], environment: Mapping[str, str], *, output: int) -> subprocess.Popen[bytes]:
    """Start a child in a session of its own, with a pipe to its input. `output`: its stdout and stderr, `PIPE` or
    `DEVNULL`. Nothing else of ours is open in it.

    Returns when it runs the command, after a millisecond or so; raises OSError or ValueError if it cannot.
    """
    return subprocess.Popen(
        argv,
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        bufsize=0,
        start_new_session=True,
    )


async def ended(child: subprocess.Popen[bytes]) -> None:
    """Wait for its end. It is not collected yet (`wait` does that), and so its number is nobody else's."""
    try:
        fd = os.pidfd_open(child.pid)
    except (AttributeError, OSError):
        while child.poll() is None:  # noqa: ASYNC110 there is no event
            await asyncio.sleep(POLL_EVERY)
        return
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_reader(fd, over.set)
    try:
        await over.wait()
    finally:
        loop.remove_reader(fd)
        os.close(fd)
