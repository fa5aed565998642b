"""Server-sent events, in and out: an incremental reader that keeps every byte, and a writer (WHATWG HTML, 9.2.6)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

MAX_EVENT = 16 << 20  # bytes; as long as a line of a stdio target may be
_BOM = b"\xef\xbb\xbf"

_BREAKS = re.compile("[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")  # what ends a line for str.splitlines, and not here
_CONTROLS = b"\x0b\x0c\x1c\x1d\x1e"
_LONG_BREAKS = {b"\xc2\x85": b"\\u0085", b"\xe2\x80\xa8": b"\\u2028", b"\xe2\x80\xa9": b"\\u2029"}
_DATA = b"data: "


@dataclass(frozen=True, slots=True)
class Event:
    """What stood between two blank lines. A block of comments alone is one too, so that nothing of a stream gets lost.

    `raw` is every byte as received, the blank line included. `data` is what a browser would hand over, empty if there
    was none; `event`, `id` and `retry` (ms) are None where the block does not say them. `id` may be any text.
    """

    raw: bytes
    data: bytes = b""
    event: str | None = None
    id: str | None = None
    retry: int | None = None


class TooLong(Exception):
    """An event passed the limit. `events` are those that were complete before it in the same chunk."""

    def __init__(self, limit: int, events: list[Event]) -> None:
        super().__init__(f"an event is longer than {limit} bytes")
        self.events = events


class Events:
    """Reads one stream, in chunks of any slicing. Lines end with LF, CRLF or CR; a byte order mark is skipped."""

    def __init__(self, limit: int = MAX_EVENT) -> None:
        self._limit = limit
        self._held = bytearray()  # in a call of `feed`, all since the last one; after it, what follows the last event
        self._start = 0  # where in it the present event starts
        self._line = 0  # where the present line starts
        self._searched = 0  # up to where the present line has no end
        self._after_cr = False  # the last line ended with CR; an LF here belongs to that end
        self._at_start = True
        self._fields: _Fields | None = None  # of the present event, once it has a line that is not blank

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that `chunk` completes, each as soon as its blank line is there. Raises TooLong, once and for all.

        A blank line that ends with CR counts at once; an LF that comes later is then the first byte of the next `raw`,
        and so are further blank lines.
        """
        self._held += chunk
        events: list[Event] = []
        for line in self._lines():
            if self._line - self._start > self._limit:
                raise TooLong(self._limit, events)
            if line:
                self._fields = self._fields or _Fields()
                self._fields.add(line)
            elif self._fields is not None:
                events.append(self._fields.event(bytes(self._held[self._start : self._line])))
                self._fields = None
                self._start = self._line
        if len(self._held) - self._start > self._limit:
            raise TooLong(self._limit, events)
        del self._held[: self._start]
        self._line -= self._start
        self._searched -= self._start
        self._start = 0
        return events

    def rest(self) -> bytes:
        """What came after the last complete event. At the end of a stream no reader acts on it."""
        return bytes(self._held)

    def _lines(self) -> Iterator[bytes]:
        """The whole lines that are there, without their ends."""
        held = self._held
        if self._at_start and (len(held) >= len(_BOM) or not _BOM.startswith(held)):
            self._at_start = False
            self._line = self._searched = len(_BOM) if held.startswith(_BOM) else 0
        if self._at_start or len(held) == self._line:
            return
        if self._after_cr:
            self._after_cr = False
            self._line += held.startswith(b"\n", self._line)
            self._searched = self._line
        lf = held.find(b"\n", self._searched)  # the next one: looked for once, however many CRs come before it
        while True:
            if 0 <= lf < self._searched:
                lf = held.find(b"\n", self._searched)
            end = held.find(b"\r", self._searched, lf if lf >= 0 else len(held))
            if end < 0 and lf < 0:
                self._searched = len(held)
                return
            line = bytes(held[self._line : end if end >= 0 else lf])
            if end < 0:
                self._line = lf + 1
            else:
                self._line = end + 1 + held.startswith(b"\n", end + 1)
                self._after_cr = end + 1 == len(held)
            self._searched = self._line
            yield line


class _Fields:
    """The fields of one event, as its lines come."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.name: str | None = None
        self.id: str | None = None
        self.retry: int | None = None

    def add(self, line: bytes) -> None:
        """One line that is not blank; comments and unknown fields change nothing."""
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self.data += value + b"\n"
        elif field == b"event":
            self.name = value.decode(errors="replace")
        elif field == b"id" and b"\0" not in value:
            self.id = value.decode(errors="replace")
        elif field == b"retry" and value.isdigit():
            self.retry = int(value[:9])

    def event(self, raw: bytes) -> Event:
        """The event that the blank line completes."""
        return Event(raw, bytes(self.data[:-1]), self.name, self.id, self.retry)


def clear(event: Event) -> Event:
    """The event as every client reads it; itself, as a rule.

    Some clients end lines at more characters than WHATWG HTML does, and would find a field where we saw a comment. An
    event with such characters is written anew, with their JSON escapes in its data and without comments. Raises
    ValueError for an `event` or `id` that holds one, for data that holds one which no JSON may hold, and for an event
    that would be longer than MAX_EVENT.
    """
    raw = event.raw
    if not _holds(raw, _CONTROLS) and not any(end in raw for end in _LONG_BREAKS):
        return event
    if any(text is not None and _BREAKS.search(text) for text in (event.event, event.id)):
        raise ValueError("the name or id of an event holds what may end a line")
    if _holds(event.data, _CONTROLS):
        raise ValueError("the data of an event holds control characters")
    data = event.data
    for end, escape in _LONG_BREAKS.items():
        data = data.replace(end, escape)
    if len(data) + len(_DATA) * data.count(b"\n") > MAX_EVENT:
        raise ValueError(f"an event would be longer than {MAX_EVENT} bytes")
    if not data and event.event is None and event.id is None and event.retry is None:
        return Event(b":\n\n")
    return Event(
        encode(data, event=event.event, id=event.id, retry=event.retry), data, event.event, event.id, event.retry
    )


def _holds(data: bytes, characters: bytes) -> bool:
    return len(data.translate(None, characters)) < len(data)


def encode(data: bytes, *, event: str | None = None, id: str | None = None, retry: int | None = None) -> bytes:
    """One event as bytes, with LF. `data` may hold any line ends: readers get them as LF.

    Raises ValueError for an `event` or `id` with a line end or NUL: they would write a field of their own.
    """
    lines = []
    for name, value in (("event", event), ("id", id), ("retry", retry)):
        if value is not None:
            text = str(value)
            if any(character in text for character in "\r\n\0"):
                raise ValueError(f"{name} holds a line end or NUL")
            lines.append(f"{name}: {text}\n".encode())
    plain = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return b"".join([*lines, _DATA, plain.replace(b"\n", b"\n" + _DATA), b"\n\n"])
