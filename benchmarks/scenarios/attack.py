"""Healthy calls while others mean ill: heads that come a byte a second, connections that say nothing, wrong keys."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from benchmarks.contestants.ours import OURS
from benchmarks.loads import wrk
from benchmarks.loads.door import Door
from benchmarks.machine.process import Program, python
from benchmarks.scenarios.scenario import Bench

NAME = "under attack"
AT_ONCE = 16
WRONG = {"authorization": "Bearer nobody's"}


def run(bench: Bench) -> None:
    """The same healthy calls in peace and under attack, in turn."""
    with bench.doors(NAME, (OURS,)) as doors:
        for name, door in doors.items():
            bench.warm(door)
            for number in range(bench.plan.rounds):
                bench.say(f"healthy calls under attack, round {number + 1} of {bench.plan.rounds}")
                _measure(bench, name, door, "in peace")
                with _attack(bench, door):
                    _measure(bench, name, door, "under attack")


def _measure(bench: Bench, name: str, door: Door, column: str) -> None:
    bench.measure(NAME, name, door, wrk.Load(AT_ONCE, bench.plan.bulk_seconds), column)


@contextmanager
def _attack(bench: Bench, door: Door) -> Iterator[None]:
    """All of it at once, from when every connection is open."""
    words = python("benchmarks.loads.slow", str(door.port), str(bench.plan.slow))
    flood = wrk.Load(AT_ONCE, bench.plan.bulk_seconds + 2)
    with Program(bench.folder / "slow", words, speaks=True) as slow:
        slow.line()
        with wrk.meanwhile(bench.folder, replace(door, headers=WRONG), flood):
            yield
