"""How much each stream may still send, and when its reader grants more.

A window starts at 256 KiB and grows with the round trip: 256 KiB at 50 ms would cap a stream at 5 MB/s. When a reader
takes a whole window within a few round trips, the window was the limit and is doubled, up to 4 MiB (the idea of BDP
estimation in gRPC, with the measure of quic-go), or brought at once to what another stream of the link has grown to. A
reader that is slow gets no more, and by far too slow a one has to give back what it got. A reader that stops is granted
nothing and stops its own stream.

What windows grow by comes out of one allowance, which the streams of a whole process share: it is what more of them may
hold of what nobody has read.
"""

from __future__ import annotations

STREAM_WINDOW = 256 * 1024
MAX_STREAM_WINDOW = 4 * 1024 * 1024
LINK_WINDOW = 4 * 1024 * 1024
"""Bytes of DATA that may be under way on a link, all streams together; granted anew on arrival, not on consumption, so
that a stream whose reader stopped takes nothing from the others."""
LINK_RESERVE = 256 * 1024
"""The part of LINK_WINDOW that large bodies leave to small messages."""
ALLOWANCE = 16 * 1024 * 1024
"""With 16 streams at once a process holds at most 20 MiB that nobody has read."""
TICK = 0.001
"""Seconds that clocks of loops count in: a round trip is not known to be shorter."""
SHORT = 0.01
"""Seconds of a round trip up to which the first window is enough: more would only stand before small messages."""
QUICK = 4.0
"""Round trips in which a window must be taken to grow. One would do on an idle machine; this is quic-go's factor."""
SLOW = 16.0
"""Round trips for a window, past which a smaller one would do."""


class Allowance:
    """Bytes by which windows may grow, all together."""

    def __init__(self, size: int = ALLOWANCE) -> None:
        self.left = size

    def take(self, wished: int) -> int:
        """As many of them as there are."""
        taken = min(wished, self.left)
        self.left -= taken
        return taken

    def give_back(self, count: int) -> None:
        """A window that had grown by `count` is needed no more."""
        self.left += count


class ReceiveWindow:
    """What the other side may still send, and the grant that becomes due as the reader consumes. Units are bytes."""

    __slots__ = ("_due", "_round_began", "_round_bytes", "left", "size")

    def __init__(self) -> None:
        self.size = STREAM_WINDOW
        self.left = STREAM_WINDOW
        self._due = 0
        self._round_began: float | None = None  # with the first byte, then with the end of the one before
        self._round_bytes = 0

    def arrived(self, count: int, now: float) -> bool:
        """Count `count` bytes that came in at `now` (seconds, monotonic). False: there was no credit for them."""
        if self._round_began is None:
            self._round_began = now
        self.left -= count
        return self.left >= 0

    def consumed(self, count: int) -> bool:
        """The reader took `count` bytes. True once a `grant` is due: they are saved up to half a window."""
        self._round_bytes += count
        self._due += count
        return self._due * 2 >= self.size

    def grant(self, now: float, round_trip: float | None, allowance: Allowance, usual: int) -> int:
        """The bytes to grant: what was consumed, and what the window changes by; it grows to `usual` or twice its size.

        `round_trip` is in seconds, None before the first measurement.
        """
        granted, self._due = self._due, 0
        change = 0
        if self._round_bytes >= self.size and self._round_began is not None:
            if round_trip is not None and round_trip > SHORT:
                change = self._change((now - self._round_began) / max(round_trip, TICK), usual)
            self._round_began, self._round_bytes = now, 0
        if change > 0:
            change = allowance.take(change)
        elif change < 0:
            change = max(change, -granted // 2)
            allowance.give_back(-change)
        self.size += change
        self.left += granted + change
        return granted + change

    def _change(self, round_trips: float, usual: int) -> int:
        """What the window should change by, if taking all of it lasted that long."""
        if round_trips < QUICK:
            return min(max(self.size, usual - self.size), MAX_STREAM_WINDOW - self.size)
        return STREAM_WINDOW - self.size if round_trips > SLOW else 0
