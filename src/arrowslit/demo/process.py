"""A process of PostgreSQL: started as its account and bound to our life, stopped, and found again."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from arrowslit.demo import become
from arrowslit.demo.installation import Account

STOP_SECONDS = 5.0  # for each way of asking


async def spawn(account: Account, log: BinaryIO, program: Path, *arguments: str) -> Process:
    """Start `program` as `account`; what it says goes into `log`.

    When we die, it ends too (on Linux; to be exact, when the thread ends that called this).
    """
    as_whom = (str(account.uid), str(account.gid), str(os.getpid()))
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", become.__file__, *as_whom, str(program), *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,  # a Ctrl-C in the terminal is for us; we stop the server when we are done
    )


async def stop(process: Process) -> None:
    """Stop a server, or initdb: fast, then at once, then by force. Nothing happens to one that has ended."""
    for way in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        with suppress(ProcessLookupError):
            process.send_signal(way)
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
                return


def runs_on(data: Path, pid: int) -> bool:
    """Is process `pid` a PostgreSQL that was started on the folder `data`? Asks /proc; False where there is none."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return os.fsencode(data) in words
