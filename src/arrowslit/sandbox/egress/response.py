"""PURE: the head of a response on its way to the sandbox, which says that the connection ends after it.

Many servers do not say it themselves, also when they were asked to; a client would send its next request there.
"""

from __future__ import annotations

import re

MAX_HELD = 64 * 1024  # bytes; a longer head goes on as it is

_END = re.compile(rb"\r?\n\r?\n")
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5])[0-9]{2}[^\n]*")
_LEFT_OUT = re.compile(rb"(?:connection|keep-alive|proxy-connection)[ \t]*:.*", re.IGNORECASE | re.DOTALL)


class Heads:
    """The bytes of a response in pieces, its final head rewritten. What is no HTTP/1 goes on as it is."""

    def __init__(self) -> None:
        self._held = b""
        self._done = False

    def feed(self, data: bytes) -> bytes:
        """What may go on now."""
        if self._done:
            return data
        self._held += data
        passed = b""
        while not self._done and (end := _END.search(self._held)):
            head, self._held = self._held[: end.end()], self._held[end.end() :]
            status = _STATUS.match(head)
            self._done = status is None or status[1] != b"1"  # before the final one, there may be interim ones
            passed += _closing(head) if status and self._done else head
        self._done = self._done or len(self._held) > MAX_HELD
        return passed + self.rest() if self._done else passed

    def rest(self) -> bytes:
        """What is held, for when nothing more comes."""
        held, self._held = self._held, b""
        return held


def _closing(head: bytes) -> bytes:
    """A final head, with CRLF at the end of each line, that announces the end of the connection."""
    lines = [line.removesuffix(b"\r") for line in head.rstrip(b"\r\n").split(b"\n")]
    return b"\r\n".join((*(line for line in lines if not _LEFT_OUT.fullmatch(line)), b"connection: close", b"", b""))
