"""Stream: one exchange on a link, as something that one can wait for, or be called by."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Protocol

import msgspec

from arrowslit.link.pipe import CloseCode
from arrowslit.protocol import events as ev
from arrowslit.protocol.peer import Peer
from arrowslit.protocol.state import Ending

log = logging.getLogger(__name__)

HIGH_WATER = 256 * 1024  # bytes queued on one stream, past which its writer waits


class Carrier(Protocol):
    """What a stream asks of its link."""

    peer: Peer

    def flush_soon(self) -> None:
        """Something was said to the peer."""
        ...

    def consumed(self, stream_id: int, count: int) -> None:
        """A reader took that many bytes."""
        ...

    def forget(self, stream: Stream) -> None:
        """Nothing more is heard or sent on it."""
        ...

    def close(self, code: CloseCode, reason: str) -> None:
        """Close the whole link."""
        ...


class LinkLost(msgspec.Struct, frozen=True, gc=False):
    """The last event of every stream that was alive when its link died. `left` is False if the request never left."""

    left: bool
    reason: str


StreamEvent = ev.HeadArrived | ev.DataArrived | ev.RequestEnded | ev.StreamEnded | LinkLost


class Stream:
    """One exchange on a link. The relay sends the request and reads the answer, the connector the other way round.

    Whoever has a coroutine for it asks for the `next` event and waits with `drain`; who has none is called: `listen`
    and `on_room`.
    """

    __slots__ = (
        "_drained",
        "_events",
        "_hear",
        "_link",
        "_waiter",
        "cancelled",
        "head",
        "id",
        "on_cancel",
        "on_room",
        "over",
    )

    def __init__(self, link: Carrier, stream_id: int, head: bytes = b"") -> None:
        self.id = stream_id
        self.head = head
        self.over = False
        self.cancelled: str | None = None  # the reason, once the relay gave this stream up or the link is gone
        self.on_cancel: Callable[[str], None] | None = None
        self.on_room: Callable[[], None] | None = None  # what was queued has left
        self._hear: Callable[[StreamEvent], None] | None = None
        self._link = link
        self._events: deque[StreamEvent] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None

    async def next(self) -> StreamEvent:
        """The next event, waiting for it. The last one is StreamEnded or LinkLost (relay), RequestEnded (connector)."""
        while not self._events:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        event = self._events.popleft()
        if type(event) is ev.DataArrived:
            self.consumed(len(event.data))
        return event

    def listen(self, hear: Callable[[StreamEvent], None]) -> None:
        """Call `hear` with each event, in place of `next`: with those that wait now, with the others as they come.

        The last one is that of `next`. Of the bytes in DataArrived `hear` gives back what it took, with `consumed`,
        when it wants as many more. What it raises is logged, and disturbs nobody else on this link.
        """
        while self._events:
            self._tell(hear, self._events.popleft())
        self._hear = hear

    def consumed(self, count: int) -> None:
        """Whoever listens took that many bytes of DataArrived, and may be sent as many again."""
        self._link.consumed(self.id, count)

    @property
    def full(self) -> bool:
        """Whether so much waits to leave that a writer should wait: with `drain`, or until `on_room`."""
        return not self.over and self._link.peer.queued(self.id) > HIGH_WATER

    async def drain(self) -> None:
        """Wait until the other side has taken enough of what was sent. Returns at once on a stream that is over."""
        while self.full:
            self._drained = asyncio.get_running_loop().create_future()
            try:
                await self._drained
            finally:
                self._drained = None

    # ------------------------------------------------------------ the connector's half

    def answer(self, head: bytes) -> None:
        """Send the response head."""
        if not self.over:
            self._link.peer.head(self.id, head)
            self._link.flush_soon()

    def send(self, data: bytes) -> None:
        """Send a piece of the response body."""
        if not self.over:
            self._link.peer.data(self.id, data)
            self._link.flush_soon()

    def end(self) -> None:
        """The response is complete."""
        if not self.over:
            self._link.peer.end(self.id)
            self._link.flush_soon()
            self._link.forget(self)

    def reset(self, ending: Ending, code: str = "", detail: str = "") -> None:
        """The stream ends in another way."""
        if not self.over:
            self._link.peer.reset(self.id, ending, code, detail)
            self._link.flush_soon()
            self._link.forget(self)

    # ------------------------------------------------------------ the relay's half

    def cancel(self, reason: str) -> None:
        """Ask the connector to give up. Its ending is still to come; one that owes too many of them loses its link."""
        if self.over:
            return
        self._link.peer.cancel(self.id, reason)
        self._link.flush_soon()
        if self._link.peer.owes_endings:
            self._link.close(CloseCode.POLICY_VIOLATION, "too many cancelled streams were never ended")

    # ------------------------------------------------------------ what the link calls

    def push(self, event: StreamEvent) -> None:
        """An event for whoever reads this stream."""
        hear = self._hear
        if hear is not None:
            try:
                hear(event)
            except Exception as error:  # the others on this link are still to be told
                self._failed(error)
            return
        self._events.append(event)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def give_up(self, reason: str) -> None:
        """The relay has given this stream up, or the link is gone."""
        self.cancelled = reason
        if self.on_cancel is not None:
            self._tell(self.on_cancel, reason)

    def wake_writer(self) -> None:
        """What was queued has left."""
        if self.on_room is not None:
            self._tell(self.on_room)
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def release(self) -> None:
        """It is over, and its owner hears nothing more: no circle is left that the garbage collector had to find."""
        self.over = True
        self._hear = self.on_cancel = self.on_room = None

    def _tell(self, owner: Callable[..., None], *news: object) -> None:
        try:
            owner(*news)
        except Exception as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        log.error("the owner of stream %d could not be told", self.id, exc_info=error)
