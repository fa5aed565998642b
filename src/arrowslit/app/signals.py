"""SIGTERM, SIGINT and SIGHUP as plain calls, for as long as a block runs."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def signals(stop: Callable[[], None], reload: Callable[[], None] | None = None) -> Iterator[None]:
    """Call `stop` at each SIGTERM and SIGINT, and `reload`, if there is one, at each SIGHUP.

    Outside of the main thread somebody else decides when it ends.
    """
    loop = asyncio.get_running_loop()
    caught = {signal.SIGTERM: stop, signal.SIGINT: stop} | ({signal.SIGHUP: reload} if reload else {})
    try:
        for number, meant in caught.items():
            loop.add_signal_handler(number, meant)
    except (RuntimeError, ValueError):
        yield
        return
    try:
        yield
    finally:
        for number in caught:
            loop.remove_signal_handler(number)
