"""The same on a long way: 50 ms there and back between the two sides."""

from __future__ import annotations

from benchmarks.contestants.direct import DIRECT
from benchmarks.contestants.ours import OURS
from benchmarks.contestants.ssh import SSH
from benchmarks.loads import wrk
from benchmarks.scenarios import beside
from benchmarks.scenarios.results import words
from benchmarks.scenarios.scenario import Bench

NAME = "long way"
AT_ONCE = 16
ALL = (DIRECT, OURS, SSH)


def run(bench: Bench) -> None:
    """Small calls, one large result after the other, and small calls beside downloads."""
    plan, size = bench.plan, max(bench.plan.sizes)
    with bench.doors(NAME, ALL, delay_ms=plan.delay_ms) as doors:
        for name, door in doors.items():
            bench.say(f"with {plan.delay_ms} ms there and back: {name}")
            bench.warm(door)
            heard = wrk.run(bench.folder, door, wrk.Load(AT_ONCE, plan.seconds))
            values = {"p50 ms": heard.p50, "p99 ms": heard.p99, "failed": heard.failed}
            bench.figures.add(NAME, name, f"{AT_ONCE} small", values)
            heard = wrk.run(bench.folder, door, wrk.Load(1, plan.bulk_seconds, size))
            bench.figures.add(NAME, name, f"1 of {words(size)}", {"MB/s": heard.megabytes_per_second})
            beside.measure(bench, NAME, name, door)
