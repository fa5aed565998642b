"""What the tests of the tools share: one sandbox for each file of tests, and its tools by name."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest_asyncio

from arrowslit.sandbox.isolation.bubblewrap import Bubblewrap
from arrowslit.sandbox.isolation.isolation import Degradable, Limits, Sandbox
from tests.sandbox.hosts import SESSION_UIDS
from tests.sandbox.tools.hands import Hands

LIMITS = Limits(memory=256 << 20, workspace=64 << 20)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def isolation() -> AsyncIterator[Bubblewrap]:
    """As this user may have it."""
    as_root = os.geteuid() == 0
    degraded: tuple[Degradable, ...] = () if as_root else ("memory", "cpu", "pids")
    async with Bubblewrap(LIMITS, uids=range(*SESSION_UIDS) if as_root else None, allow_degraded=degraded) as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox(isolation: Bubblewrap) -> Sandbox:
    """For all tests of a file."""
    return await isolation.open("sesn_1")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def all_hands(sandbox: Sandbox) -> AsyncIterator[Hands]:
    """All its tools."""
    found = Hands(sandbox)
    yield found
    await found.close()


@pytest_asyncio.fixture(loop_scope="module")
async def hands(all_hands: Hands) -> Hands:
    """The same with a new shell, and nothing in the workspace."""
    await all_hands("bash", restart=True)
    await all_hands("bash", command="chmod -R u+rwx /workspace; find /workspace -mindepth 1 -delete")
    return all_hands
