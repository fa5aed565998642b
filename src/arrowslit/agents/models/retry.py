"""PURE: whether to ask a model again after a failure, and when."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from arrowslit.agents.models.model import FailureKind, ModelFailed
from arrowslit.ids import RandomBytes

ATTEMPTS: Mapping[FailureKind, int] = MappingProxyType(
    {
        "rate_limited": 6,
        "overloaded": 6,
        "failed": 6,
        "malformed": 2,  # the next sample is likely to be better; a model that cannot do it costs tokens each time
    }
)
"""Attempts in total, by the kind of the last failure. Kinds that are not here fail again if they are repeated."""

FIRST_WAIT = 1.0  # seconds, doubled after each attempt: at most 31 s before the sixth
LONGEST_PAUSE = 300.0  # seconds that a server may ask for; nobody who waits for an answer waits longer


def next_try(failure: ModelFailed, attempt: int, random: RandomBytes) -> float | None:
    """Seconds until the next attempt after attempt number `attempt` (from 1) failed; None to give up.

    Exponential with jitter: between half and all of 1, 2, 4, 8, 16 s. Never sooner than the server asked for, and a
    tenth later at most; one that asks for more than LONGEST_PAUSE is not asked again.
    """
    if attempt >= ATTEMPTS.get(failure.kind, 1):
        return None
    chance = int.from_bytes(random(4)) / 2**32
    wait = FIRST_WAIT * 2.0 ** (attempt - 1) * (1 + chance) / 2
    pause = failure.retry_after
    if pause is None:
        return wait
    return None if pause > LONGEST_PAUSE else max(wait, pause * (1 + chance / 10))
