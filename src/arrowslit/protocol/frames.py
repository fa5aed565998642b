"""The tunnel's frames and their bytes: a 12-byte header and at most 32 KiB of payload.

    0      1      2             4                                        12
    +------+------+-------------+----------------------------------------+----------
    | kind | flag | length (16) | stream (64)                            | payload …
    +------+------+-------------+----------------------------------------+----------

All numbers are big-endian. Stream 0 is the link itself. A stream id is used once in the life of a link, and 64 bits
never run out. The payload limit lets a small frame pass between two pieces of a large result.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

import msgspec

HEADER = struct.Struct(">BBHQ")
MAX_PAYLOAD = 32 * 1024
LINK = 0
"""The stream id of frames that concern the link as a whole."""


class Kind(IntEnum):
    """What a frame is. Below 16 it concerns the link, from 16 on one stream."""

    HELLO = 1  # both, once: versions, features, nonce, proof (JSON, hello.py)
    WELCOME = 2  # relay, once: the link is open
    REFUSE = 3  # relay, once: why there will be no link
    PING = 4  # both: 8 bytes, echoed
    PONG = 5
    CREDIT = 6  # both: 4 bytes, how many more bytes of DATA the sender of this frame will take
    DRAIN = 7  # both: no new streams after this; what runs may end
    OPEN = 16  # relay: request head (JSON)
    HEAD = 17  # connector: response head (JSON)
    DATA = 18  # both: a piece of a body
    CANCEL = 19  # relay: give up; the connector answers with RESET. Payload: reason
    RESET = 20  # connector: the stream ended otherwise than complete (JSON: ending, detail)


class Flag:
    """Bits of a frame, plain numbers since each frame is asked for them.

    END stands on OPEN, HEAD and DATA; IGNORABLE lets an older peer skip a kind it does not know.
    """

    END: Final = 0x01
    IGNORABLE: Final = 0x80


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One frame. `kind` is a plain int so that an unknown ignorable kind can be carried to the one who skips it."""

    kind: int
    flags: int
    stream: int
    payload: bytes


class ProtocolError(Exception):
    """The other side broke the protocol; the link cannot go on. `reason` is one of REASONS."""

    def __init__(self, reason: str, detail: str) -> None:
        if reason not in REASONS:
            raise ValueError(reason)
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


REASONS = frozenset(
    {
        "frame_too_long",
        "frame_malformed",
        "kind_unknown",
        "kind_unexpected",  # right kind, wrong side or wrong state
        "stream_unknown",
        "stream_reused",
        "credit_exceeded",
        "after_close",
        "flood",
    }
)

_KNOWN = frozenset(int(kind) for kind in Kind)
_pack, _unpack, _HEAD = HEADER.pack, HEADER.unpack_from, HEADER.size


def encode(kind: int, stream: int, payload: bytes | memoryview = b"", flags: int = 0) -> bytes:
    """The bytes of one frame. Raises ValueError for a payload over MAX_PAYLOAD: cutting is the sender's work."""
    if len(payload) > MAX_PAYLOAD:
        raise ValueError("payload too long for one frame")
    return _pack(kind, flags, len(payload), stream) + payload


class Decoder:
    """Bytes to frames, whatever the slicing. Holds at most one incomplete frame."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes | memoryview) -> list[Frame]:
        """The frames that `data` completes, in order. Raises ProtocolError; then the decoder is of no more use."""
        if self._rest:
            data = self._rest + bytes(data)
            self._rest = b""
        view, size, at = memoryview(data), len(data), 0
        frames: list[Frame] = []
        while size - at >= _HEAD:
            kind, flags, length, stream = _unpack(view, at)
            if length > MAX_PAYLOAD:
                raise ProtocolError("frame_too_long", f"{length} bytes in one frame")
            if kind not in _KNOWN and not flags & Flag.IGNORABLE:
                raise ProtocolError("kind_unknown", f"kind {kind}")
            end = at + _HEAD + length
            if end > size:
                break
            frames.append(Frame(kind, flags, stream, bytes(view[at + _HEAD : end])))
            at = end
        if at < size:
            self._rest = bytes(view[at:])
        return frames
