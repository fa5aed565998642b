"""Large results, 16 at once: how much goes through, and how much memory it takes on the way."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.contestants.contestant import Contestant
from benchmarks.contestants.direct import DIRECT
from benchmarks.contestants.nginx import NGINX
from benchmarks.contestants.ours import OURS
from benchmarks.contestants.ssh import SSH
from benchmarks.loads import wrk
from benchmarks.loads.door import Door
from benchmarks.machine import usage
from benchmarks.plan import KIB, MIB
from benchmarks.scenarios.scenario import Bench

NAME = "results"
AT_ONCE = 16
ALL = (DIRECT, OURS, NGINX, SSH)


def words(size: int) -> str:
    """PURE. A number of bytes as the columns are called."""
    return f"{size // MIB} MiB" if size >= MIB else f"{size // KIB} KiB"


def run(bench: Bench, contestants: Sequence[Contestant] = ALL) -> None:
    """Every contestant with every size, in turn, round by round."""
    with bench.doors(NAME, contestants) as doors:
        for door in doors.values():
            bench.warm(door)
        for number in range(bench.plan.rounds):
            for size in bench.plan.sizes:
                bench.say(f"results of {words(size)}, round {number + 1} of {bench.plan.rounds}")
                for name, door in doors.items():
                    _measure(bench, name, door, size)


def _measure(bench: Bench, name: str, door: Door, size: int) -> None:
    """`more MiB in …` is the most that a process held during the load, above what it held before it."""
    before = {what: usage.resident([pid]) for what, pid in door.processes.items()}
    usage.reset_peak(door.processes.values())
    heard = wrk.run(bench.folder, door, wrk.Load(AT_ONCE, bench.plan.bulk_seconds, size))
    more = {f"more MiB in {what}": usage.peak([pid]) - before[what] for what, pid in door.processes.items()}
    values = {"MB/s": heard.megabytes_per_second, "failed": heard.failed}
    if heard.calls:  # in a short run none may have come whole
        values["p50 ms"] = heard.p50
    bench.figures.add(NAME, name, words(size), values | more)
