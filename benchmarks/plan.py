"""Plan: how long a run measures, and how much it asks for at once."""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One kind of run. Seconds are whole ones, since wrk counts in them."""

    name: str
    begin_within: float  # seconds: a scenario that comes later is left out, so that a run has an end on any machine
    rounds: int  # contestants take turns that often, and the median counts
    seconds: int  # of one measurement with small calls
    bulk_seconds: int  # of one measurement with large results
    loads: tuple[int, ...] = (1, 16, 128)  # calls at once
    sizes: tuple[int, ...] = (64 * KIB, MIB, 16 * MIB)  # bytes of a result
    idle: int = 5000  # connectors that do nothing
    storm: int = 2000  # connectors that come back after a kill
    slow: int = 1000  # callers that trickle, and as many that say nothing
    delay_ms: int = 50  # of a round trip


FULL = Plan(name="full", begin_within=17 * 60, rounds=3, seconds=4, bulk_seconds=5)
QUICK = Plan(name="quick", begin_within=200, rounds=1, seconds=1, bulk_seconds=1, idle=500, storm=300, slow=200)
TINY = Plan(
    name="tiny",
    begin_within=60,
    rounds=1,
    seconds=1,
    bulk_seconds=1,
    loads=(16,),
    sizes=(64 * KIB,),
    idle=8,
    storm=8,
    slow=8,
    delay_ms=20,
)
"""For the tests: whether it works, and not what comes out."""
