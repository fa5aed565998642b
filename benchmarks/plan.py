"""Plan: how long a run measures, and how much it asks for at once."""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One kind of run. Seconds are whole ones, since wrk counts in them."""

    name: str
    rounds: int  # contestants take turns that often, and the median counts
    seconds: int  # of one measurement with small calls
    bulk_seconds: int  # of one measurement with large results
    loads: tuple[int, ...] = (1, 16, 128)  # calls at once
    sizes: tuple[int, ...] = (64 * KIB, MIB, 16 * MIB)  # bytes of a result
    idle: int = 5000  # connectors that do nothing
    storm: int = 2000  # connectors that come back after a kill
    delay_ms: int = 50  # of a round trip


FULL = Plan(name="full", rounds=3, seconds=4, bulk_seconds=6)
QUICK = Plan(name="quick", rounds=1, seconds=1, bulk_seconds=2, idle=1000, storm=400)
TINY = Plan(
    name="tiny", rounds=1, seconds=1, bulk_seconds=1, loads=(16,), sizes=(64 * KIB,), idle=8, storm=8, delay_ms=20
)
"""For the tests: whether it works, and not what comes out."""
