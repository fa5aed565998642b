"""Proxy: serves a listener that was handed out of a sandbox, and lets out what the rules allow and nothing else.

The listener itself says whose code it is. What is too much waits to be accepted, in the kernel's short queue.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Sequence
from functools import partial

from arrowslit.clock import Clock
from arrowslit.policy.egress import Rule
from arrowslit.policy.limits import Bucket, take
from arrowslit.sandbox.egress.attempt import Caps, Record, Resolve
from arrowslit.sandbox.egress.carry import Tally
from arrowslit.sandbox.egress.flow import Flow
from arrowslit.sandbox.egress.visit import Setting, Visit

log = logging.getLogger(__name__)

RECORD_LIMIT = 5.0  # seconds to keep the last attempts when the proxy is stopped
_SHORT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_RETRY = 0.2  # seconds until files or memory may be there again


class Proxy:
    """The way out of one sandbox, for as long as `serve` runs. No rules: every attempt is refused, and recorded.

    `record` is awaited for every attempt when it is over. What it raises ends `serve`.
    """

    def __init__(
        self, rules: Sequence[Rule], *, resolve: Resolve, record: Record, clock: Clock, caps: Caps | None = None
    ) -> None:
        self._caps = caps or Caps()
        self._record = record
        self._clock = clock
        budget = Tally(self._caps.bytes_out, self._caps.bytes_in)
        self._setting = Setting(tuple(rules), resolve, clock, self._caps, budget)
        self._places = asyncio.Semaphore(self._caps.connections)

    async def serve(self, listener: socket.socket) -> None:
        """Accept on a listening stream socket, TCP or Unix, until cancelled; then cut what is open, and record it.

        The listener stays its owner's to close. Raises an ExceptionGroup of what `record` raised, OSError if the
        listener is of no use.
        """
        listener.setblocking(False)
        bucket = Bucket(self._caps.burst, self._caps.per_second, self._caps.burst, self._clock.monotonic())
        async with asyncio.TaskGroup() as visits:
            while True:
                bucket, wait = take(bucket, self._clock.monotonic())
                if wait:
                    await self._clock.sleep(wait)
                    continue
                await self._places.acquire()
                accepted = await self._accept(listener)
                visit = visits.create_task(self._attend(accepted))
                visit.add_done_callback(partial(_close, accepted))  # it may be stopped before it begins

    async def _accept(self, listener: socket.socket) -> socket.socket:
        """The next connection. Waits for better times where this machine is short of something."""
        while True:
            try:
                accepted, _ = await asyncio.get_running_loop().sock_accept(listener)
                return accepted
            except ConnectionAbortedError:
                continue
            except OSError as error:
                if error.errno not in _SHORT:
                    raise
                log.warning("a connection from a sandbox waits: %s", error)
                await self._clock.sleep(_RETRY)

    async def _attend(self, accepted: socket.socket) -> None:
        visit = Visit(Flow(accepted), self._setting)
        try:
            await visit.run()
        except Exception:
            log.exception("a connection from a sandbox met a defect of the proxy")
            visit.break_off()
        finally:
            visit.close()
            try:
                await self._keep(visit)
            finally:
                self._places.release()

    async def _keep(self, visit: Visit) -> None:
        """Record what became of it, also when the proxy is being stopped."""
        keeping = asyncio.gather(*(self._record(attempt) for attempt in visit.attempts))
        try:
            await asyncio.shield(keeping)
        except asyncio.CancelledError:
            await asyncio.wait({keeping}, timeout=RECORD_LIMIT)
            raise


def _close(accepted: socket.socket, _: asyncio.Task[None]) -> None:
    accepted.close()
