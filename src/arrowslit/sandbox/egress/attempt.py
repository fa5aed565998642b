"""Attempt: what became of one try to get out of a sandbox; and what the proxy asks of others: Resolve, Record, Caps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from arrowslit.policy.egress import Deny, Refusal

MIB = 1 << 20


class Verdict(StrEnum):
    """ALLOWED went its way to the end, DENIED was refused: nothing of what was refused left. FAILED was allowed and
    got no connection, or lost it; CUT was allowed and ended by us.
    """

    ALLOWED = "allowed"
    DENIED = "denied"
    FAILED = "failed"
    CUT = "cut"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try to get out, when it is over.

    `host` and `port` are what was asked for, fit for a terminal, empty and 0 where nobody could tell. `address` is what
    was connected to, or the address that was refused. `code` says why where it was not simply allowed. Bytes are those
    exchanged with that address. `ech`: the client offered an Encrypted Client Hello, so the true name may be another.
    """

    host: str
    port: int
    address: str | None
    verdict: Verdict
    code: Refusal | None
    bytes_out: int
    bytes_in: int
    seconds: float
    ech: bool = False

    def record(self) -> dict[str, object]:
        """The same as JSON values."""
        return {
            "host": self.host,
            "port": self.port,
            "address": self.address,
            "verdict": self.verdict.value,
            "code": self.code.value if self.code else None,
            "bytes_out": self.bytes_out,
            "bytes_in": self.bytes_in,
            "seconds": round(self.seconds, 3),
            "ech": self.ech,
        }


Record = Callable[[Attempt], Awaitable[None]]
"""Keeps an attempt. Its place stays taken until this returns; what it raises ends the proxy, as nothing may get
out that is not recorded."""

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host name and port -> addresses, best first. Raises OSError where there are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """What the code of one session may use of its proxy. Times are seconds, of one connection each.

    `connections` at once and `per_second`: more of them wait to be accepted, which also bounds how many attempts are
    recorded. `bytes_out` and `bytes_in` are for the whole session. `first` is the time for a whole request head, and
    for a whole ClientHello; `connect` for name and connection together.
    """

    connections: int = 128
    per_second: float = 100.0
    burst: int = 400
    bytes_out: int = 256 * MIB
    bytes_in: int = 4096 * MIB
    first: float = 10.0
    connect: float = 10.0
    idle: float = 60.0
    total: float = 3600.0


class Refused(Exception):
    """The attempt goes no further; `host` and `port` as far as they are known."""

    def __init__(self, deny: Deny, host: str = "", port: int = 0) -> None:
        super().__init__(deny.message)
        self.deny = deny
        self.host = host
        self.port = port


class Ended(Exception):
    """An attempt that was allowed is over before its time: FAILED, or CUT by us."""

    def __init__(self, verdict: Verdict, code: Refusal, message: str) -> None:
        super().__init__(message)
        self.verdict = verdict
        self.code = code
        self.message = message
