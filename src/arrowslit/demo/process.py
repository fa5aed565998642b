"""A process that is bound to our life. One of PostgreSQL: started as its account, stopped, and found again."""

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
CLEAN = ("/usr/bin/env", "-i", "LC_ALL=C", "TZ=UTC")  # runs what follows in an environment of its own


def bound(uid: int, gid: int, program: str, *arguments: str) -> tuple[str, ...]:
    """The command line that runs `program`, given with its whole path, as that user and for as long as we live.

    When we die, it gets SIGINT (on Linux; to be exact, when the thread ends that started it).
    """
    as_whom = (str(uid), str(gid), str(os.getpid()))
    return (sys.executable, "-I", "-S", become.__file__, *as_whom, program, *arguments)


async def spawn(account: Account, log: BinaryIO, program: Path, *arguments: str) -> Process:
    """Start `program` as `account`, bound to us, and in an environment of its own; what it says goes into `log`."""
    return await asyncio.create_subprocess_exec(
        *bound(account.uid, account.gid, *CLEAN, str(program), *arguments),
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
