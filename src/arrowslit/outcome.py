"""How a call ended, and what each ending may claim."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """Exactly one of these ends every accepted call (promise P2).

    `DENIED` and `NOT_DELIVERED` claim that the tool was not executed (P3). `TIMEOUT` is said only of a tool that its
    operator declared read-only or idempotent. `OUTCOME_UNKNOWN` is said whenever execution is in doubt.
    """

    RESULT = "result"
    DENIED = "denied"
    NOT_DELIVERED = "not_delivered"
    TIMEOUT = "timeout"
    OUTCOME_UNKNOWN = "outcome_unknown"


class Effect(StrEnum):
    """What the operator declared about a tool; a server's own annotation is not a declaration."""

    WRITE = "write"
    READ_ONLY = "read_only"
    IDEMPOTENT = "idempotent"

    @property
    def repeatable(self) -> bool:
        """Whether handing the call to a target twice does no harm (P4)."""
        return self is not Effect.WRITE
