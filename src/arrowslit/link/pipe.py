"""Port Pipe: ordered, reliable messages of bytes between two ends. A WebSocket in earnest, a pair of queues in a
simulation.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Protocol


class CloseCode(IntEnum):
    """Why a pipe was closed: RFC 6455, 7.4.1, and our own in the range for private use."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    POLICY_VIOLATION = 1008
    TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    UNAUTHENTICATED = 4401
    FORBIDDEN = 4403
    HANDSHAKE_TIMEOUT = 4408
    SUPERSEDED = 4409
    VERSION_UNSUPPORTED = 4426


MAX_MESSAGE = 1 << 20
"""Bytes of one message; a longer one closes the pipe."""


class PipeListener(Protocol):
    """Who hears a pipe. Called on the event loop, never inside `send`."""

    def message(self, data: bytes | memoryview) -> None:
        """Bytes arrived. A memoryview is valid during the call only."""
        ...

    def writable(self, yes: bool) -> None:
        """Whether the pipe wants more now."""
        ...

    def closed(self, reason: str) -> None:
        """The pipe is gone, once. Nothing is heard afterwards."""
        ...


class Pipe(Protocol):
    """One end of a pipe."""

    def attach(self, listener: PipeListener) -> None:
        """Start to hear; what arrived before is heard now."""
        ...

    def send(self, message: bytes) -> bool:
        """Send a message of at most MAX_MESSAGE bytes; False if the pipe was closed before, and nothing was sent."""
        ...

    def close(self, code: CloseCode, reason: str = "") -> None:
        """Send what was written, say why, close. Does nothing on a closed pipe."""
        ...
