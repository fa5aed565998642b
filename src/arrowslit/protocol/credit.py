"""How much each stream may still send, and when its reader grants more.

A window starts at 256 KiB and grows with the round trip: 256 KiB at 50 ms would cap a stream at 5 MB/s. When a reader
takes a whole window within two round trips, the window was the limit and is doubled, up to 4 MiB (the idea of BDP
estimation in gRPC). A reader that stops is granted nothing and stops its own stream.
"""

from __future__ import annotations

STREAM_WINDOW = 256 * 1024
MAX_STREAM_WINDOW = 4 * 1024 * 1024
LINK_WINDOW = 4 * 1024 * 1024
"""Bytes of DATA that may be under way on a link, all streams together; granted anew on arrival, not on consumption, so
that a stream whose reader stopped takes nothing from the others."""
LINK_RESERVE = 256 * 1024
"""The part of LINK_WINDOW that large bodies leave to small messages."""


class ReceiveWindow:
    """What the other side may still send, and the grant that becomes due as the reader consumes. Units are bytes."""

    __slots__ = ("_due", "_maximum", "_round_began", "_round_bytes", "left", "size")

    def __init__(self, size: int = STREAM_WINDOW, maximum: int = MAX_STREAM_WINDOW) -> None:
        self.size = size
        self.left = size
        self._maximum = maximum
        self._due = 0
        self._round_began = 0.0
        self._round_bytes = 0

    def arrived(self, count: int) -> bool:
        """Count `count` bytes that came in. False: the sender had no credit for them."""
        self.left -= count
        return self.left >= 0

    def consumed(self, count: int, now: float, round_trip: float | None) -> int:
        """The reader took `count` bytes at `now` (seconds, monotonic). Returns the bytes to grant, 0 for none yet.

        Grants are saved up to half a window, so that they are few. `round_trip` is in seconds, None before the first
        measurement.
        """
        self._due += count
        self._round_bytes += count
        if self._due * 2 < self.size:
            return 0
        grant = self._due + self._growth(now, round_trip)
        self.left += grant
        self._due = 0
        return grant

    def _growth(self, now: float, round_trip: float | None) -> int:
        if self._round_bytes < self.size:
            return 0
        quick = round_trip is not None and self._round_began > 0 and now - self._round_began < 2 * round_trip
        self._round_began, self._round_bytes = now, 0
        if not quick or self.size >= self._maximum:
            return 0
        growth = min(self.size, self._maximum - self.size)
        self.size += growth
        return growth
