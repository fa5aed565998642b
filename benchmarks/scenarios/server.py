"""Small calls to a server on the official SDK: what a way costs beside what a server costs anyway."""

from __future__ import annotations

from benchmarks.contestants.direct import DIRECT
from benchmarks.contestants.ours import OURS
from benchmarks.loads.wrk import Load
from benchmarks.scenarios.scenario import Bench

NAME = "SDK server"
AT_ONCE = 16


def run(bench: Bench) -> None:
    """Direct and ours, in turn."""
    with bench.doors(NAME, (DIRECT, OURS), sdk=True) as doors:
        for door in doors.values():
            bench.warm(door)
        for number in range(bench.plan.rounds):
            bench.say(f"a server on the SDK, round {number + 1} of {bench.plan.rounds}")
            for name, door in doors.items():
                bench.measure(NAME, name, door, Load(AT_ONCE, bench.plan.seconds), AT_ONCE)
