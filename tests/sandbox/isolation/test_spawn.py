from __future__ import annotations

import os
from collections.abc import AsyncIterator

import psutil
import pytest

from arrowslit.sandbox.isolation.spawn import WITH_THE_WARDEN, Spawner, memory_file
from tests.support import processes
from tests.support.wire import until


@pytest.fixture
async def spawner() -> AsyncIterator[Spawner]:
    async with Spawner() as found:
        yield found


def below() -> list[psutil.Process]:
    """What runs below the warden."""
    wardens = processes.below(program="warden.py", deep=False)
    return [each for warden in wardens for each in processes.below(warden.pid)]


def names() -> list[str]:
    """Their programs."""
    return processes.of_each(below(), psutil.Process.name)


async def test_what_a_killed_bubblewrap_leaves_is_killed_too(spawner: Spawner) -> None:
    """As when it dies before its inner process has asked to die with it."""
    words, stderr = os.pipe()
    gone = spawner.start("1", ["/bin/sh", "-c", "sleep 607 & setsid sleep 607 & exec sleep 607"], {}, stderr)
    await until(lambda: names() == ["sleep"] * 3)

    spawner.end("1")

    assert await gone == -9
    assert below() == []
    os.close(words)
    os.close(stderr)


async def test_it_starts_with_the_files_it_was_given_and_no_others(spawner: Spawner) -> None:
    words, stderr = os.pipe()
    files = {7: memory_file(b"seven\n"), 3: memory_file(b"three\n")}

    gone = spawner.start(
        "1", ["/bin/sh", "-c", "cat <&3; cat <&7; ls /proc/self/fd | xargs; env; exit 5"], files, stderr
    )
    status = await gone

    assert status == 5
    said = os.read(words, 4096).decode().splitlines()
    assert said[:2] == ["three", "seven"]
    assert said[2] == "0 1 2 3 4 5 7"  # 4 is for what bubblewrap says, 5 is the listing's own
    assert not any("=" in line and not line.startswith("PWD=") for line in said[3:])
    for fd in (words, stderr, *files.values()):
        os.close(fd)


async def test_what_cannot_be_started_says_why(spawner: Spawner) -> None:
    words, stderr = os.pipe()

    status = await spawner.start("1", ["/no/such/program"], {}, stderr)

    assert (status, os.read(words, 4096)) == (
        125,
        b"starting bubblewrap: [Errno 2] No such file or directory: '/no/such/program'\n",
    )
    os.close(words)
    os.close(stderr)


async def test_without_its_warden_everything_has_ended(spawner: Spawner) -> None:
    words, stderr = os.pipe()
    gone = spawner.start("1", ["/bin/sleep", "608"], {}, stderr)
    await until(lambda: names() == ["sleep"])
    (sleeper,) = below()
    parent = processes.parent(sleeper)
    assert parent is not None

    parent.kill()

    assert await gone == WITH_THE_WARDEN
    assert not spawner.alive
    processes.kill(sleeper)  # bubblewrap would have died with it
    os.close(words)
    os.close(stderr)
