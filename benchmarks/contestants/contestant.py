"""Contestant: a way from a caller to a server, and the ground on which it is set up."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.loads.door import LEGACY, Door


@dataclass(frozen=True, slots=True)
class Ground:
    """What a contestant finds. The server listens at `upstream`, a port of loopback, and is called in its `era`.

    `far` tells at which port another port is reached from the far side of the network; contestants ask it for the one
    connection that would cross it. On one machine that is the same port.
    """

    folder: Path
    upstream: int
    far: Callable[[int], int] = lambda port: port
    era: str = LEGACY


@dataclass(frozen=True, slots=True)
class Contestant:
    """A way. `missing` says why it cannot run here, None if it can; `run` keeps it up while the block runs."""

    name: str
    missing: Callable[[], str | None]
    run: Callable[[Ground], AbstractContextManager[Door]]


def here() -> None:
    """It needs nothing that is not here."""
