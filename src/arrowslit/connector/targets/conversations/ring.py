"""PURE: the ring of events that a session's client was sent lately, to be sent again to one whose connection broke."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass

EVENTS = 256
SIZE = 4 * 1024 * 1024
"""Events and bytes that are kept of one session. A client comes back within seconds; what is older is progress."""

_ID = re.compile(r"([0-9a-f]{1,32})-([0-9]{1,12})-([0-9]{1,12})")


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a client was in a stream: after event `number` of `stream`, in the life of the façade called `run`."""

    run: str
    stream: int
    number: int

    def __str__(self) -> str:
        """The id of the event."""
        return f"{self.run}-{self.stream}-{self.number}"


@dataclass(frozen=True, slots=True)
class Sent:
    """An event that was handed to the client's connection; whether it arrived is not known. An empty one primes."""

    at: Cursor
    message: bytes


def read_cursor(text: str) -> Cursor | None:
    """The cursor in a `Last-Event-ID`, None if it is none of ours."""
    match = _ID.fullmatch(text)
    return None if match is None else Cursor(match[1], int(match[2]), int(match[3]))


class Ring:
    """The last events of one session, over all its streams. `run` tells ids of this life from those of an earlier."""

    def __init__(self, run: str, *, events: int = EVENTS, size: int = SIZE) -> None:
        self.run = run
        self._most = events
        self._limit = size
        self._next = 1
        self._sent: deque[Sent] = deque()
        self._size = 0

    def add(self, stream: int, message: bytes) -> str:
        """Keep an event that is about to be sent; its id. The oldest make room, and one too large keeps none."""
        sent = Sent(Cursor(self.run, stream, self._next), message)
        self._next += 1
        self._sent.append(sent)
        self._size += len(message)
        while len(self._sent) > self._most or self._size > self._limit:
            self._size -= len(self._sent.popleft().message)
        return str(sent.at)

    def after(self, cursor: Cursor) -> list[Sent]:
        """What is still here of the same stream's later events. Never those of another: their clients have them."""
        if cursor.run != self.run:
            return []
        return [sent for sent in self._sent if sent.at.stream == cursor.stream and sent.at.number > cursor.number]

    def clear(self) -> None:
        """Forget the events; later ids go on from where they were."""
        self._sent.clear()
        self._size = 0
