"""Processes, as the machine sees them while they come and go: one that has ended is left out, wherever one looks.

Between two lines of a test any process may end, and psutil then raises. So tests ask here, and never a process itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TypeVar

import psutil

T = TypeVar("T")


def runs(process: psutil.Process) -> bool:
    """Whether it runs. One that has ended does not, though nobody has collected it yet."""
    with suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def is_there(pid: int) -> bool:
    """Whether a process of this number runs."""
    try:
        return runs(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return False


def alive(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those that run."""
    return [each for each in processes if runs(each)]


def of_each(processes: Iterable[psutil.Process], ask: Callable[[psutil.Process], T]) -> list[T]:
    """What `ask` says of each of them that has not ended by then."""
    found = []
    for each in processes:
        with suppress(psutil.NoSuchProcess):
            found.append(ask(each))
    return found


def words(process: psutil.Process) -> list[str]:
    """Its command line; empty if it has ended."""
    with suppress(psutil.NoSuchProcess):
        return list(process.cmdline())
    return []


def below(pid: int | None = None, program: str | None = None, *, deep: bool = True) -> list[psutil.Process]:
    """What runs below a process (below us, without one), at any depth if `deep`. Nothing if it has ended itself.

    With `program`, only those whose command line has this word, or a path that ends in it.
    """
    with suppress(psutil.NoSuchProcess):
        found = alive(psutil.Process(pid).children(recursive=deep))
        return found if program is None else [each for each in found if _has(each, program)]
    return []


def parent(process: psutil.Process) -> psutil.Process | None:
    """Who started it, or has adopted it; None if either has ended."""
    with suppress(psutil.NoSuchProcess):
        return process.parent()
    return None


def variable(process: psutil.Process, name: str) -> str:
    """A variable of its environment; empty if it has none, has ended, or does not let us see it."""
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return str(process.environ().get(name, ""))
    return ""


def kill(process: psutil.Process) -> None:
    """End it, unless it has ended."""
    with suppress(psutil.NoSuchProcess):
        process.kill()


def _has(process: psutil.Process, program: str) -> bool:
    return any(word == program or word.endswith(f"/{program}") for word in words(process))
