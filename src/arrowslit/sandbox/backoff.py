"""PURE: how long a worker waits before it asks again."""

from __future__ import annotations

LONGEST = 30.0
IDLE = 1.0  # seconds from one empty answer to the next question; a server that waits with its answer uses them up


def wait(attempt: int, chance: float) -> float:
    """Seconds before try number `attempt` (from 1) after a failure: 1, 2, 4 … 30 and up to half as much less.

    `chance` is uniform in [0, 1). Half of it stays, because many workers come back to a server that has just started.
    """
    bound = min(LONGEST, float(2 ** min(attempt - 1, 10)))
    return bound * (0.5 + 0.5 * chance)


def pause(took: float, chance: float) -> float:
    """Seconds after an answer that there is nothing, which took so long to come."""
    return max(0.0, IDLE - took) * (0.5 + chance)
