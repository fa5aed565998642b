"""An event loop whose clock and order one seed decides: ordinary coroutines, thousands of scenarios a minute, each
repeatable.

Time does not pass, it is turned: when nothing is ready the clock goes to the next timer. Callbacks that are ready
together run in an order that the seed chooses, since no code may rely on the order in which tasks happen to run; what
has to stay in order (the bytes of one pipe) is kept in order by the pipe. Threads, executors, sockets and signals are
refused by name.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")


class Deadlock(Exception):
    """Nothing is ready, no timer is set, and the main coroutine has not returned."""


class SimLoop(asyncio.BaseEventLoop):
    """Runs on the inner names `_ready`, `_scheduled` and `_selector` of BaseEventLoop (the same from 3.11 to 3.13)."""

    _ready: deque[asyncio.Handle]

    def __init__(self, seed: int, *, shuffle: bool = True) -> None:
        super().__init__()
        self._now = 0.0
        self._order = random.Random(seed)
        self._shuffle = shuffle
        self._selector = self
        self._clock_resolution = 1e-6  # a float of a few years still holds it

    def time(self) -> float:
        """Simulated seconds since the loop was made."""
        return self._now

    def select(self, timeout: float | None) -> list[Any]:
        """What the base class takes for waiting: turn the clock, or shuffle what is ready."""
        if timeout is None:
            raise Deadlock(f"at {self._now:.3f} s nobody can go on")
        if timeout > 0:
            self._now += timeout
        elif self._shuffle and len(self._ready) > 1:
            ready = list(self._ready)
            self._order.shuffle(ready)
            self._ready.clear()
            self._ready.extend(ready)
        return []

    def _process_events(self, event_list: list[Any]) -> None:
        return

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise RuntimeError("a simulated world has no threads, sockets or signals")

    run_in_executor = _refuse
    call_soon_threadsafe = _refuse
    create_server = _refuse
    create_connection = _refuse
    create_datagram_endpoint = _refuse
    subprocess_exec = _refuse
    subprocess_shell = _refuse
    add_signal_handler = _refuse
    add_reader = _refuse
    sock_connect = _refuse
    getaddrinfo = _refuse

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """There is none."""


def run(seed: int, main: Callable[[], Coroutine[Any, Any, T]], *, shuffle: bool = True) -> T:
    """Run one simulated world to its end. Raises Deadlock, and whatever `main` raises."""
    with asyncio.Runner(loop_factory=lambda: SimLoop(seed, shuffle=shuffle)) as runner:
        return runner.run(main())


class SimClock:
    """The Clock of a simulated world. `skew` is how far its wall clock is off, in seconds; it may be changed at any
    time.
    """

    def __init__(self, epoch: float = 1_800_000_000.0) -> None:
        self.skew = 0.0
        self._epoch = epoch

    def now(self) -> float:
        """Unix seconds as this machine believes them to be."""
        return self._epoch + self.monotonic() + self.skew

    def monotonic(self) -> float:
        """The loop's time."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """Sleep in simulated time."""
        await asyncio.sleep(seconds)


def random_bytes(seed: int) -> Callable[[int], bytes]:
    """The source of randomness of a simulated world."""
    return random.Random(seed).randbytes
