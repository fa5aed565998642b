"""Streams: the event streams of one session, which a client whose connection broke takes up where it was."""

from __future__ import annotations

from dataclasses import dataclass

from arrowslit.connector.targets.conversations.outbox import Outbox
from arrowslit.connector.targets.conversations.ring import Ring, Sent, read_cursor
from arrowslit.protocol import sse

RETRY = 1000
"""Milliseconds after which a client comes back: about as long as the connector needs to dial in again."""

OWN = 0
"""The number of the stream that belongs to no request: the one a plain GET opens."""

COMMENT = b":\n\n"  # says nothing: goes ahead so that no proxy keeps the head back, and shows a proxy that we are here


class Stream:
    """Writes the messages of one outbox as events that can be asked for again. `begun` once there is such an event."""

    def __init__(self, number: int, ring: Ring, outbox: Outbox, *, primes: bool) -> None:
        self.number = number
        self.outbox = outbox
        self.begun = False
        self._ring = ring
        self._primes = primes

    def opening(self) -> bytes:
        """What goes ahead."""
        self.begun = True
        if not self._primes:
            return COMMENT
        return sse.encode(b"", id=self._ring.add(self.number, b""), retry=RETRY)

    def event(self, message: bytes) -> bytes:
        """The next message."""
        return sse.encode(message, event="message", id=self._ring.add(self.number, message))


class Plain:
    """Writes messages as events that nobody can ask for again: the modern era has no such thing."""

    def opening(self) -> bytes:
        """What goes ahead."""
        return COMMENT

    def event(self, message: bytes) -> bytes:
        """The next message."""
        return sse.encode(message, event="message")


@dataclass(frozen=True, slots=True)
class Resumed:
    """What a client that comes back gets: events again, and then what is new in `stream`, None if that is over."""

    missed: list[Sent]
    stream: Stream | None

    def again(self) -> bytes:
        """The missed events, as they were. An empty one primed a stream, and the client has it."""
        return b"".join(sse.encode(sent.message, event="message", id=str(sent.at)) for sent in self.missed)


class Streams:
    """`run` is part of every event's id, so that none is taken for one of an earlier life of this session."""

    def __init__(self, run: str) -> None:
        self.own: Stream | None = None
        self._ring = Ring(run)
        self._count = OWN
        self._requests: dict[int, Stream] = {}

    @property
    def abandoned(self) -> list[Stream]:
        """Streams of requests that nobody reads any more, the oldest first."""
        return [stream for stream in self._requests.values() if stream.outbox.left]

    def open_own(self, *, primes: bool) -> Stream:
        """A new stream of the session's own; what an earlier one still had is forgotten."""
        self.own = Stream(OWN, self._ring, Outbox(), primes=primes)
        return self.own

    def open(self, outbox: Outbox, *, primes: bool) -> Stream:
        """A stream for the messages of one request."""
        self._count += 1
        stream = self._requests[self._count] = Stream(self._count, self._ring, outbox, primes=primes)
        return stream

    def close(self, stream: Stream) -> None:
        """A request is over: what was sent of it can be had again for a while."""
        self._requests.pop(stream.number, None)

    def resume(self, last_event_id: str, *, primes: bool) -> Resumed | None:
        """What a client gets that had this event last; None if that is nothing we know anything of.

        The session's own stream goes on in any case, also after an event of an earlier life.
        """
        cursor = read_cursor(last_event_id)
        if cursor is None:
            return None
        missed = self._ring.after(cursor)
        if cursor.stream == OWN:
            own = None if self.own is None or self.own.outbox.ended else self.own
            return Resumed(missed, own or self.open_own(primes=primes))
        stream = self._requests.get(cursor.stream) if cursor.run == self._ring.run else None
        return None if stream is None and not missed else Resumed(missed, stream)

    def forget(self) -> None:
        """Nobody has come back for a long time, and nobody will."""
        self._ring.clear()
        for stream in self.abandoned:
            self.close(stream)
        if self.own is not None and self.own.outbox.left:
            self.own = None
