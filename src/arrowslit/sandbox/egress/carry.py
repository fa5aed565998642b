"""Carrying bytes between a sandbox and the address that was connected to: counted, within limits, never idle long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from arrowslit.policy.egress import Refusal
from arrowslit.sandbox.egress.attempt import Ended, Verdict
from arrowslit.sandbox.egress.flow import CHUNK, Flow
from arrowslit.sandbox.egress.hello import Watch
from arrowslit.sandbox.egress.response import Heads

SETTLE = 2.0
"""Seconds for a client to take what it was sent and to leave: a close before that could destroy the end of it."""


@dataclass(slots=True)
class Tally:
    """Bytes sent out to an address, and received from it."""

    out: int = 0
    into: int = 0


class Carrier:
    """Carries for one attempt. `budget` is what the whole session may still exchange, `tally` what this attempt did.

    What it does raises Ended when a limit is met, and OSError when a connection is lost.
    """

    def __init__(self, near: Flow, far: Flow, *, idle: float, budget: Tally, tally: Tally) -> None:
        self._near = near
        self._far = far
        self._idle = idle
        self._budget = budget
        self._tally = tally
        self._patience: asyncio.Timeout | None = None
        self.behind = b""
        """What a client sent behind the one request that a connection carries; nothing of it went on."""

    async def tunnel(self, begun: bytes, watch: Watch) -> None:
        """`begun` and all that follows, as far as the watch lets it, until the server ends. Raises Refused too."""
        await self._both(self._up_watched(begun, watch), self._down(bytes))

    async def plain(self, head: bytes, length: int) -> None:
        """A request, `length` bytes of its body, and the response. Ended also where there is more behind it."""
        await self._both(self._up_counted(head, length), self._down_closing())

    async def _both(self, up: Coroutine[None, None, None], down: Coroutine[None, None, None]) -> None:
        """Run both until `down` is over, or one raises."""
        tasks = upward, downward = asyncio.ensure_future(up), asyncio.ensure_future(down)
        patience = self._patience = asyncio.timeout(self._idle)
        try:
            async with patience:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                if upward.done():
                    upward.result()
                await downward
                self._near.end()
                await asyncio.wait({upward}, timeout=SETTLE)
        except TimeoutError:
            if patience.expired():
                raise Ended(Verdict.CUT, Refusal.IDLE, f"nothing was sent for {self._idle:g} s") from None
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _up_watched(self, begun: bytes, watch: Watch) -> None:
        await self._send(begun)
        while data := await self._near.read():
            await self._send(watch.feed(data))
        self._far.end()

    async def _up_counted(self, head: bytes, length: int) -> None:
        await self._send(head)
        while length and (data := await self._near.read(min(length, CHUNK))):
            length -= len(data)
            await self._send(data)
        if length:
            raise ConnectionAbortedError("the client left in the middle of the request's body")
        self.behind = await self._near.read()  # no more than this is read
        if self.behind:
            raise Ended(Verdict.CUT, Refusal.SECOND_REQUEST, "a connection carries one request")

    async def _down_closing(self) -> None:
        heads = Heads()
        await self._down(heads.feed)
        await self._near.write(heads.rest())

    async def _down(self, change: Callable[[bytes], bytes]) -> None:
        while data := await self._far.read():
            passed = data[: self._budget.into]
            self._budget.into -= len(passed)
            self._tally.into += len(passed)
            await self._near.write(change(passed))
            self._moved()
            if len(passed) < len(data):
                raise Ended(Verdict.CUT, Refusal.BYTES_IN, "the session has received as many bytes as it may")

    async def _send(self, data: bytes) -> None:
        passed = data[: self._budget.out]
        self._budget.out -= len(passed)
        self._tally.out += len(passed)
        await self._far.write(passed)
        self._moved()
        if len(passed) < len(data):
            raise Ended(Verdict.CUT, Refusal.BYTES_OUT, "the session has sent as many bytes as it may")

    def _moved(self) -> None:
        assert self._patience is not None
        self._patience.reschedule(asyncio.get_running_loop().time() + self._idle)
