"""PURE: requests at `/mcp/` that begin as an earlier one of their connection did, byte for byte, and are there whole.

A client sends the same head with every call, and mostly in one piece with its body. What the parser and the guard made
of these bytes once they would make of them again, so they are not asked. Who sends it is asked anew, each time.
"""

from __future__ import annotations

from arrowslit.edge.head import Head

HEADS = 4  # of one connection: its calls differ in the length of their bodies, if anywhere
LONGEST = 4096  # bytes of a head that is remembered

_END = b"\r\n\r\n"


class Again:
    """The last heads of one connection. To be asked where a request begins, and nothing of it was read before."""

    __slots__ = ("_heads",)

    def __init__(self) -> None:
        self._heads: dict[bytes, tuple[Head, int]] = {}

    def read(self, data: bytes) -> tuple[Head, bytes] | None:
        """Head and body of the one request that `data` consists of; None if only the parser can say what it is."""
        end = data.find(_END, 0, LONGEST) + len(_END)
        known = self._heads.get(data[:end])
        if known is None or len(data) - end != known[1]:
            return None
        return known[0], data[end:]

    def remember(self, data: bytes, head: Head, length: int) -> None:
        """`data` was read as one request with that head, and `length` bytes of body, and nothing else."""
        end = data.find(_END, 0, LONGEST) + len(_END)
        if len(data) - end != length or head.version != "1.1" or head.expects_continue:
            return  # too long, or ended by other bytes, or more than its own bytes decide what becomes of it
        if len(self._heads) >= HEADS:
            del self._heads[next(iter(self._heads))]
        self._heads[data[:end]] = head, length
