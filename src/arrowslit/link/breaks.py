"""Breaks: long work of the pure cores, done so that whatever else waits on the same event loop has its turn."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import TypeVar, cast

T = TypeVar("T")

PIECE = 64 << 10  # bytes between two breaks: 15 ms where each is a definition that was never seen


async def with_breaks(steps: Generator[int, None, T]) -> T:
    """What `steps` returns at its end. It yields how many bytes it worked on since the last time.

    Short work has no break at all. Raises what `steps` raises.
    """
    worked = 0
    while True:
        try:
            worked += next(steps)
        except StopIteration as done:
            return cast(T, done.value)
        if worked >= PIECE:
            worked = 0
            await asyncio.sleep(0)
