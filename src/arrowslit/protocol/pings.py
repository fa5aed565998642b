"""Signs of life of a link, without their frames: what is not answered yet, and how often the other side asks."""

from __future__ import annotations

import struct

from arrowslit.protocol.frames import ProtocolError

MOST_PINGS = 32  # in a second
_U64 = struct.Struct(">Q")


class Pings:
    """Both directions of one link. Times are in monotonic seconds."""

    def __init__(self) -> None:
        self.round_trip: float | None = None
        """Seconds that the last answer took."""
        self._count = 0
        self._unanswered: dict[int, float] = {}
        self._heard = 0
        self._counted_at = 0.0

    @property
    def unanswered(self) -> int:
        """How many are still without their pong."""
        return len(self._unanswered)

    def ask(self, now: float) -> bytes:
        """The payload of the next ping."""
        self._count += 1
        self._unanswered[self._count] = now
        return _U64.pack(self._count)

    def asked(self, payload: bytes, now: float) -> bytes:
        """The other side asks: the payload of the pong. An honest peer asks every few seconds; one that floods would
        fill what waits to leave. Raises ProtocolError `flood`.
        """
        if now - self._counted_at >= 1.0:
            self._counted_at, self._heard = now, 0
        self._heard += 1
        if self._heard > MOST_PINGS:
            raise ProtocolError("flood", f"more than {MOST_PINGS} pings in a second")
        return payload[:8]

    def answered(self, payload: bytes, now: float) -> float | None:
        """The round trip that a pong tells, None if it answers nothing. Raises ProtocolError for one that is none."""
        if len(payload) != _U64.size:
            raise ProtocolError("frame_malformed", "PONG of the wrong length")
        (number,) = _U64.unpack(payload)
        sent = self._unanswered.get(number)
        if sent is None:
            return None
        self._unanswered = {other: at for other, at in self._unanswered.items() if other > number}
        self.round_trip = now - sent
        return self.round_trip
