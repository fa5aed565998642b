"""Link: a Peer with its Pipe, and the streams on it. Both ends of the tunnel are this class."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from arrowslit.clock import Clock
from arrowslit.link.pipe import CloseCode, Pipe
from arrowslit.link.stream import LinkLost, Stream
from arrowslit.protocol import events as ev
from arrowslit.protocol.credit import Allowance
from arrowslit.protocol.frames import ProtocolError
from arrowslit.protocol.peer import Peer
from arrowslit.protocol.state import Ending, LinkState, Role

log = logging.getLogger(__name__)

PING_EVERY = 8.0  # seconds; with two unanswered a dead link is out of service within 25 s
_FOR_READERS = (ev.DataArrived, ev.HeadArrived, ev.RequestEnded)


class Link:
    """One tunnel connection, from its greetings to its end.

    The greetings are the owner's (`greeting`, `hello`, `welcome`, `refuse`); afterwards the relay uses `open` and the
    connector gets each new stream through `on_stream`. `run` keeps the link alive and returns when it is gone. Links of
    one process share an `allowance`.
    """

    def __init__(
        self,
        pipe: Pipe,
        role: Role,
        clock: Clock,
        on_stream: Callable[[Stream], None] | None = None,
        allowance: Allowance | None = None,
    ) -> None:
        self.peer = Peer(role, allowance)
        self.heard_at = clock.monotonic()
        self.on_ponged: Callable[[], None] | None = None
        self.on_draining: Callable[[], None] | None = None
        self._pipe = pipe
        self._clock = clock
        self._on_stream = on_stream
        self._streams: dict[int, Stream] = {}
        self._fresh: list[Stream] = []  # opened since the last message left
        self._flush_due = False
        self._paused = False
        self._announced = False
        self._loop = asyncio.get_running_loop()
        self._closed: asyncio.Future[str] = self._loop.create_future()
        self._greetings: asyncio.Queue[ev.Greeted | ev.Welcomed | ev.Refused | None] = asyncio.Queue()
        pipe.attach(self)

    # ------------------------------------------------------------ greetings

    async def greeting(self) -> ev.Greeted | ev.Welcomed | ev.Refused | None:
        """What the other side says before the link is open; None when it hung up instead."""
        return await self._greetings.get()

    def hello(self, payload: bytes) -> None:
        """Say the first words."""
        self.peer.hello(payload)
        self.flush_soon()

    def welcome(self, payload: bytes) -> None:
        """Relay: open the link."""
        self.peer.welcome(payload)
        self.flush_soon()

    def refuse(self, payload: bytes, code: CloseCode, reason: str) -> None:
        """Relay: say why there will be no link, and close."""
        if not self._closed.done():
            self.peer.refuse(payload)
            self._flush()
            self.close(code, reason)

    # ------------------------------------------------------------ life

    @property
    def usable(self) -> bool:
        """Whether a stream may be opened: open, not draining, alive as far as is known."""
        return (
            self.peer.state is LinkState.OPEN
            and not self._closed.done()
            and not self.draining
            and self.peer.unanswered_pings < 2
        )

    @property
    def draining(self) -> bool:
        """Whether either side has said that it takes no new streams."""
        return self._announced or self.peer.draining

    @property
    def streams(self) -> int:
        """How many streams are alive, or still have bytes to send."""
        return self.peer.streams

    async def run(self) -> str:
        """Ping until the link is gone; returns the reason. Cancelling it closes the link."""
        try:
            async with asyncio.TaskGroup() as group:
                pinging = group.create_task(self._keep_pinging())
                reason = await asyncio.shield(self._closed)
                pinging.cancel()
        finally:
            self.close(CloseCode.GOING_AWAY, "closing")
        return reason

    async def _keep_pinging(self) -> None:
        while not self._closed.done():
            if self.peer.unanswered_pings >= 2:
                self.close(CloseCode.GOING_AWAY, "two pings were not answered")
                return
            self.ping()
            await self._clock.sleep(PING_EVERY)

    def ping(self) -> None:
        """Ask for a sign of life: its pong also tells that the other side has read everything before it."""
        if self.peer.state is LinkState.OPEN and not self._closed.done():
            self.peer.ping(self._clock.monotonic())
            self.flush_soon()

    def drain(self) -> None:
        """Say that no new streams will come; those that run may end."""
        if self.peer.state is LinkState.OPEN and not self._closed.done():
            self.peer.drain()
            self._announced = True
            self.flush_soon()

    def close(self, code: CloseCode, reason: str) -> None:
        """Close the pipe; every stream that is alive hears LinkLost."""
        if not self._closed.done():
            self._pipe.close(code, reason)
            self.closed(reason)

    # ------------------------------------------------------------ streams

    def open(self, head: bytes, body: bytes) -> Stream:
        """Relay: send a request. Its events come through the stream; RuntimeError on a link that is not usable."""
        stream = Stream(self, self.peer.open(head, body))
        self._streams[stream.id] = stream
        self._fresh.append(stream)
        self.flush_soon()
        return stream

    def consumed(self, stream_id: int, count: int) -> None:
        """A reader took that many bytes."""
        if self.peer.consumed(stream_id, count, self.heard_at):
            self.flush_soon()

    def forget(self, stream: Stream) -> None:
        """The owner of a stream has no more interest in it: nothing is heard or sent on it from here on."""
        self._streams.pop(stream.id, None)
        stream.release()

    # ------------------------------------------------------------ what the pipe calls

    def message(self, data: bytes | memoryview) -> None:
        """See PipeListener."""
        if self._closed.done():
            return  # nobody would get the answer
        self.heard_at = self._clock.monotonic()
        try:
            events = self.peer.receive(data, self.heard_at)
        except ProtocolError as error:
            log.warning("the other end of a link broke the protocol: %s", error)
            self.close(CloseCode.PROTOCOL_ERROR, str(error))
            return
        for event in events:
            self._heard(event)
        if self.peer.has_bytes:
            self.flush_soon()

    def writable(self, yes: bool) -> None:
        """See PipeListener."""
        self._paused = not yes
        if yes:
            self.flush_soon()

    def closed(self, reason: str) -> None:
        """See PipeListener."""
        if self._closed.done():
            return
        self._closed.set_result(reason)
        self._greetings.put_nowait(None)
        never_left = {stream.id for stream in self._fresh}
        streams, self._streams, self._fresh = list(self._streams.values()), {}, []
        for stream in streams:
            stream.over = True
        for stream in streams:
            stream.push(LinkLost(stream.id not in never_left, reason))
            stream.wake_writer()
            stream.give_up("link_lost")
            stream.release()

    def _heard(self, event: ev.Event) -> None:
        if isinstance(event, _FOR_READERS):
            if (stream := self._streams.get(event.stream)) is not None:
                stream.push(event)
        elif isinstance(event, ev.StreamOpened):
            self._opened(event)
        elif isinstance(event, ev.StreamEnded):
            if (stream := self._streams.pop(event.stream, None)) is not None:
                stream.over = True
                stream.push(event)
                stream.release()
        else:
            self._heard_seldom(event)

    def _heard_seldom(self, event: ev.Event) -> None:
        match event:
            case ev.StreamCancelled():
                if (stream := self._streams.get(event.stream)) is not None:
                    stream.give_up(event.reason)
            case ev.SendReady():
                if (stream := self._streams.get(event.stream)) is not None:
                    stream.wake_writer()
            case ev.Ponged():
                if self.on_ponged is not None:
                    self.on_ponged()
            case ev.Draining():
                if self.on_draining is not None:
                    self.on_draining()
            case ev.Greeted() | ev.Welcomed() | ev.Refused():
                self._greetings.put_nowait(event)
            case _:
                raise AssertionError(event)  # `_heard` knows all others

    def _opened(self, event: ev.StreamOpened) -> None:
        stream = self._streams[event.stream] = Stream(self, event.stream, event.head)
        if event.ended:
            stream.push(ev.RequestEnded(event.stream))
        if self._on_stream is None:
            return
        try:
            self._on_stream(stream)
        except Exception:  # the other events of this message are still to be heard
            log.exception("stream %d could not be begun", stream.id)
            stream.reset(Ending.NOT_STARTED)

    # ------------------------------------------------------------ outward

    def flush_soon(self) -> None:
        """Let all frames of one loop tick leave as one message."""
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        if self._paused or self._closed.done() or not self.peer.has_bytes:
            return
        if not self._pipe.send(self.peer.bytes_to_send()):
            self.closed("connection lost")
            return
        self._fresh.clear()
        for event in self.peer.take_events():
            self._heard(event)
        if self.peer.has_bytes:
            self.flush_soon()
