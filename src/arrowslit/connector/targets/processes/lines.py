"""Lines, and the Tail of a stream: what is cut out of the bytes that a process prints."""

from __future__ import annotations

from collections import deque

LINE_LIMIT = 16 * 1024 * 1024
STDERR_KEPT = 64 * 1024


class LineTooLong(Exception):
    """A line passed the limit."""


class Lines:
    """Cuts a stream of bytes into lines, whatever its slices. They come without their ends; empty ones are left out."""

    def __init__(self, limit: int = LINE_LIMIT) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0

    def receive(self, data: bytes) -> list[bytes]:
        """The lines that are complete now. Raises LineTooLong."""
        head, *rest = data.split(b"\n")
        self._parts.append(head)
        self._size += len(head)
        if self._size > self._limit:
            raise LineTooLong
        if not rest:
            return []
        lines = [b"".join(self._parts), *rest[:-1]]
        self._parts, self._size = [rest[-1]], len(rest[-1])
        return [line.rstrip(b"\r") for line in lines if line.strip()]

    def rest(self) -> bytes:
        """What came after the last line end."""
        return b"".join(self._parts)


class Tail:
    """The last bytes of a stream."""

    def __init__(self, limit: int = STDERR_KEPT) -> None:
        self._limit = limit
        self._parts: deque[bytes] = deque()
        self._size = 0

    def receive(self, data: bytes) -> None:
        """Keep `data`, forget as much at the beginning."""
        data = data[-self._limit :]
        self._parts.append(data)
        self._size += len(data)
        while self._size - len(self._parts[0]) >= self._limit:
            self._size -= len(self._parts.popleft())

    def text(self) -> str:
        """As text for a terminal: what could steer one is replaced."""
        text = b"".join(self._parts)[-self._limit :].decode(errors="replace")
        return "".join(char if char.isprintable() or char in "\n\t" else "�" for char in text).strip()
