"""What waits to leave on a link, and in which order: control, then small pieces, then a little of the large bodies in
turn.
"""

from __future__ import annotations

from collections import deque

from arrowslit.protocol.credit import LINK_RESERVE, LINK_WINDOW, STREAM_WINDOW
from arrowslit.protocol.frames import HEADER, MAX_PAYLOAD, Flag, Kind, encode

SMALL = 8 * 1024
"""A piece up to this many bytes goes ahead of large bodies, if its own stream has nothing queued before it."""
BULK_PER_FLUSH = 2
"""Full frames of large bodies in one message: more of them makes small calls wait, fewer costs throughput."""
MESSAGE = 512 * 1024
"""Small frames of one message, in bytes: with the large ones it stays well below the 1 MiB of a WebSocket message."""


class Lane:
    """The body that one end sends on one stream: its credit, and what waits for it."""

    __slots__ = ("credit", "ends", "last", "queue", "queued", "stream", "waiting")

    def __init__(self, stream: int) -> None:
        self.stream = stream
        self.credit = STREAM_WINDOW
        self.queue: deque[bytes | memoryview] = deque()
        self.queued = 0  # bytes in the queue
        self.ends = False  # the body ends with what is queued
        self.last: bytes | None = None  # the frame of the last small piece
        self.waiting = False  # stands in the line of large bodies


class Outbox:
    """Everything that this end of a link has yet to send. Units are bytes."""

    def __init__(self) -> None:
        self._urgent: list[bytes] = []
        self._small: list[bytes] = []
        self._bulk: deque[Lane] = deque()  # those with a queue and credit
        self._credit = LINK_WINDOW
        self._emptied: list[Lane] = []

    def control(self, frame: bytes) -> None:
        """A frame that goes ahead of everything."""
        self._urgent.append(frame)

    def small(self, frame: bytes) -> None:
        """A frame that goes ahead of large bodies."""
        self._small.append(frame)

    def body(self, lane: Lane, data: bytes, *, ends: bool) -> None:
        """A piece of a body: sent next if it is small and has credit, else queued behind its own stream."""
        size = len(data)
        if size <= SMALL and not lane.queue and lane.credit >= size and self._credit >= size:
            lane.credit -= size
            self._credit -= size
            lane.last = encode(Kind.DATA, lane.stream, data, Flag.END if ends else 0)
            self._small.append(lane.last)
            return
        lane.queue.append(data if size <= MAX_PAYLOAD else memoryview(data))  # which is cut without a copy of the rest
        lane.queued += size
        lane.ends = ends
        self._line_up(lane)

    def end(self, lane: Lane) -> bool:
        """The body is complete. False if some of it is still queued; the end then goes with the last piece."""
        if lane.queue:
            lane.ends = True
            return False
        if lane.last is not None and self._small and self._small[-1] is lane.last:  # it has not left yet
            self._small[-1] = encode(Kind.DATA, lane.stream, lane.last[HEADER.size :], Flag.END)
        else:
            self._small.append(encode(Kind.DATA, lane.stream, b"", Flag.END))
        return True

    def drop(self, lane: Lane) -> None:
        """Forget what is queued on a stream."""
        lane.queue.clear()
        lane.queued = 0
        lane.ends = False
        if lane.waiting:
            self._bulk.remove(lane)
            lane.waiting = False

    def granted(self, lane: Lane, count: int) -> None:
        """The reader of a stream takes that many more bytes."""
        lane.credit += count
        self._line_up(lane)

    def granted_to_link(self, count: int) -> bool:
        """The other end takes that many more bytes, all streams together. False: it gave more than was ever used."""
        self._credit += count
        return self._credit <= LINK_WINDOW

    @property
    def has_bytes(self) -> bool:
        """Whether `take` would return any."""
        return bool(self._urgent or self._small or (self._bulk and self._credit > LINK_RESERVE))

    def take(self) -> bytes:
        """What should leave now, as one message."""
        out = self._urgent + self._small
        self._urgent, self._small = [], []
        if sum(map(len, out)) > MESSAGE:
            self._small = _cut(out)
        for _ in range(BULK_PER_FLUSH):
            if not self._bulk or self._credit <= LINK_RESERVE:
                break
            out.append(self._next_bulk())
        return b"".join(out)

    def take_emptied(self) -> list[Lane]:
        """The lanes whose queue has left since this was last asked."""
        emptied, self._emptied = self._emptied, []
        return emptied

    def _line_up(self, lane: Lane) -> None:
        if lane.queue and lane.credit and not lane.waiting:
            lane.waiting = True
            self._bulk.append(lane)

    def _next_bulk(self) -> bytes:
        lane = self._bulk.popleft()
        lane.waiting = False
        room = min(MAX_PAYLOAD, lane.credit, self._credit - LINK_RESERVE)
        piece = lane.queue[0]
        if len(piece) <= room:
            lane.queue.popleft()
        else:
            lane.queue[0] = piece[room:]
            piece = piece[:room]
        lane.queued -= len(piece)
        lane.credit -= len(piece)
        self._credit -= len(piece)
        if lane.queue:
            self._line_up(lane)
            return encode(Kind.DATA, lane.stream, piece)
        self._emptied.append(lane)
        return encode(Kind.DATA, lane.stream, piece, Flag.END if lane.ends else 0)


def _cut(frames: list[bytes]) -> list[bytes]:
    """Shorten `frames` in place to about MESSAGE bytes; returns what was cut off."""
    size = 0
    for index, frame in enumerate(frames):
        size += len(frame)
        if size > MESSAGE:
            rest = frames[index + 1 :]
            del frames[index + 1 :]
            return rest
    return []
