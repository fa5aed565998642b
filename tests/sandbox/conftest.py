"""What the tests of the sandbox share: a host of each kind with one sandbox open, for as long as the tests run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.sandbox.canaries import Canaries, planted
from tests.sandbox.hosts import Half, Host, host

HALVES: tuple[Half, ...] = ("root", "ordinary")


@pytest.fixture(scope="session")
def canaries() -> Iterator[Canaries]:
    """What lies on this machine for attacks to find."""
    with planted() as found:
        yield found


@pytest.fixture(scope="session", params=HALVES)
def half(request: pytest.FixtureRequest) -> Half:
    """The worker as root, each session a user of its own; and the worker as an ordinary user."""
    chosen: Half = request.param
    if chosen == "root" and os.geteuid() != 0:
        pytest.skip("this half needs root: the worker as root, each session a user of its own")
    return chosen


@pytest.fixture(scope="session")
def worker(half: Half, canaries: Canaries) -> Iterator[Host]:
    """A host with a sandbox named `one`, which the tests of a half share."""
    with ExitStack() as stack:
        found = stack.enter_context(host(half, environment=canaries.environment))
        assert found.error is None, found.error
        found.open()
        yield found
