"""Two tenants on one tunnel: what one feels when the other asks for ten times as much as before."""

from __future__ import annotations

from benchmarks.contestants import ours
from benchmarks.contestants.contestant import Ground
from benchmarks.contestants.ours import OURS, http_target, tenants
from benchmarks.loads import wrk
from benchmarks.loads.door import Door, enter
from benchmarks.scenarios.scenario import Bench, fast

NAME = "fairness"
SHARE = 16  # calls at once of each tenant
GREED = 10


def run(bench: Bench) -> None:
    """One tenant beside another that asks for as much as itself, and for ten times as much."""
    folder = bench.folder / NAME
    with fast(folder) as upstream:
        ground = Ground(folder / OURS.name, upstream)
        ground.folder.mkdir(parents=True)
        with tenants(ground, http_target(ground), ours.TENANT, "globex") as doors:
            modest, other = (enter(door) for door in doors.values())
            bench.warm(modest)
            for number in range(bench.plan.rounds):
                bench.say(f"two tenants, round {number + 1} of {bench.plan.rounds}")
                _measure(bench, modest, other, SHARE, "beside its equal")
                _measure(bench, modest, other, SHARE * GREED, "beside ten times its share")


def _measure(bench: Bench, modest: Door, other: Door, at_once: int, column: str) -> None:
    seconds = bench.plan.bulk_seconds
    with wrk.meanwhile(bench.folder, other, wrk.Load(at_once, seconds + 2)):
        wrk.run(bench.folder, modest, wrk.Load(SHARE, 1))
        heard = wrk.run(bench.folder, modest, wrk.Load(SHARE, seconds))
    values = {"calls/s": heard.per_second, "p50 ms": heard.p50, "p95 ms": heard.p95, "p99 ms": heard.p99}
    bench.figures.add(NAME, OURS.name, column, values | {"failed": heard.failed})
