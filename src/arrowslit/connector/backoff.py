"""PURE: how long to wait before the next try.

Full jitter under an upper bound of 1, 2 and 4 s for the first minute of an outage, then doubling to 30 s. With a
bound that doubles at once, one connector in two would be later than 5 s after an outage of 10 s (simulated). Jitter:
"Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from __future__ import annotations

FIRST_MINUTE = 60.0
LONGEST = 30.0


def bound(attempt: int, outage: float) -> float:
    """The upper bound in seconds before try number `attempt` (from 0), `outage` seconds after the link was lost."""
    if attempt < 2:
        return float(2**attempt)
    if outage < FIRST_MINUTE:
        return 4.0
    return min(LONGEST, 4.0 * 2 ** ((outage - FIRST_MINUTE) // LONGEST + 1))


def wait(attempt: int, outage: float, chance: float) -> float:
    """Seconds to wait; `chance` is uniform in [0, 1)."""
    return bound(attempt, outage) * chance
