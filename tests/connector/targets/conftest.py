"""Sockets behave a little differently under the two event loops that a connector may run on: some tests run on both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

BOTH_LOOPS = ("test_http", "test_pool", "test_connection")


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """A hook of pytest-asyncio."""
    if item.path.stem not in BOTH_LOOPS:
        return {"asyncio": asyncio.new_event_loop}  # the hook may not leave the choice open
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
