"""Small calls beside four downloads of 16 MiB: who has to wait behind whom."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.contestants.contestant import Contestant
from benchmarks.contestants.direct import DIRECT
from benchmarks.contestants.nginx import NGINX
from benchmarks.contestants.ours import OURS
from benchmarks.contestants.ssh import SSH
from benchmarks.loads import wrk
from benchmarks.loads.door import Door
from benchmarks.scenarios.scenario import Bench

NAME = "beside downloads"
DOWNLOADS = 4
PAUSE_MS = 2  # of the small caller between calls: it asks how long one takes, and is no load
ALL = (DIRECT, OURS, NGINX, SSH)


def run(bench: Bench, contestants: Sequence[Contestant] = ALL) -> None:
    """Every contestant, in turn, round by round."""
    with bench.doors(NAME, contestants) as doors:
        for number in range(bench.plan.rounds):
            bench.say(f"small calls beside downloads, round {number + 1} of {bench.plan.rounds}")
            for name, door in doors.items():
                measure(bench, NAME, name, door)


def measure(bench: Bench, scenario: str, name: str, door: Door) -> None:
    """One caller of small calls alone, and then beside downloads that began before."""
    seconds, size = bench.plan.bulk_seconds, max(bench.plan.sizes)
    small = wrk.Load(1, seconds, pause_ms=PAUSE_MS)
    _add(bench, scenario, name, "alone", wrk.run(bench.folder, door, small))
    with wrk.meanwhile(bench.folder, door, wrk.Load(DOWNLOADS, seconds + 2, size)):
        wrk.run(bench.folder, door, wrk.Load(1, 1, pause_ms=PAUSE_MS))  # by now they have begun
        _add(bench, scenario, name, "beside", wrk.run(bench.folder, door, small))


def _add(bench: Bench, scenario: str, name: str, column: str, heard: wrk.Heard) -> None:
    values = {"p50 ms": heard.p50, "p95 ms": heard.p95, "p99 ms": heard.p99, "failed": heard.failed}
    bench.figures.add(scenario, name, column, values)
