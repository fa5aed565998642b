"""Long work has breaks, short work has none."""

from __future__ import annotations

import asyncio
from collections.abc import Generator

import pytest

from arrowslit.link.breaks import PIECE, with_breaks


def work(*pieces: int) -> Generator[int, None, str]:
    yield from pieces
    return "done"


@pytest.mark.promise("P15")
@pytest.mark.parametrize(
    ("pieces", "turns"), [([], 0), ([PIECE - 1], 0), ([PIECE] * 5, 5), ([PIECE // 2] * 5, 2), ([50 * PIECE, 1], 1)]
)
async def test_others_have_their_turn_in_the_middle_of_long_work(pieces: list[int], turns: int) -> None:
    had = 0

    async def other() -> None:
        nonlocal had
        while True:
            await asyncio.sleep(0)
            had += 1

    task = asyncio.create_task(other())
    await asyncio.sleep(0)

    assert await with_breaks(work(*pieces)) == "done"

    assert had == turns
    task.cancel()
