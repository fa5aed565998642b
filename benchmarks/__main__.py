"""`python -m benchmarks [--quick] [--only SCENARIO]...`: run everything, print the tables, write CSV and chart.

Everything that it starts listens on loopback and ends with it, however it ends.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from benchmarks import plan as plans
from benchmarks.figures import Figures
from benchmarks.machine.process import Failed, find
from benchmarks.plan import Plan
from benchmarks.report import chart, tables
from benchmarks.scenarios import attack, beside, calls, crowd, fairness, far, results, server
from benchmarks.scenarios.scenario import Bench

OUT = Path(__file__).parent / "out"
SCENARIOS: dict[str, Callable[[Bench], None]] = {
    "calls": calls.run,
    "server": server.run,
    "results": results.run,
    "beside": beside.run,
    "far": far.run,
    "fairness": fairness.run,
    "attack": attack.run,
    "idle": crowd.run_idle,
    "storm": crowd.run_storm,
}


def main(arguments: list[str]) -> str | None:
    """Returns what went wrong, as text, or None."""
    parser = argparse.ArgumentParser(prog="benchmarks", description="What arrowslit costs, beside what others do.")
    parser.add_argument("--quick", action="store_true", help="a tenth of the time, for a first look")
    parser.add_argument("--only", action="append", choices=SCENARIOS, help="not everything; may be repeated")
    told = parser.parse_args(arguments)
    if sys.platform != "linux":
        return "benchmarks: they read Linux's /proc"
    if find("wrk") is None:
        return "benchmarks: there is no wrk here (Debian: apt-get install wrk)"
    signal.signal(signal.SIGTERM, _leave)
    # a shell lets what it starts in the background ignore SIGINT, and so would what we start, when we die
    signal.signal(signal.SIGINT, signal.default_int_handler)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # for a relay with thousands of connectors
    figures = run(plans.QUICK if told.quick else plans.FULL, told.only or list(SCENARIOS))
    print(tables.report(figures))
    _write(figures)
    return None


def run(plan: Plan, names: list[str]) -> Figures:
    """The named scenarios, one after the other. One that fails is named among those that did not run."""
    figures, begun = Figures(), time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - begun:5.0f} s  {what}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="arrowslit-bench-") as folder:
        bench = Bench(Path(folder), plan, figures, say)
        for name in names:
            if time.monotonic() - begun > plan.begin_within:
                figures.skipped[name] = "the time was up"
                continue
            try:
                SCENARIOS[name](bench)
            except Failed as failure:
                figures.skipped[name] = str(failure)
    say("done")
    return figures


def _write(figures: Figures) -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    (OUT / "figures.csv").write_text(figures.csv())
    (OUT / "calls.svg").write_text(chart.calls_per_second(figures))
    (OUT / "report.txt").write_text(tables.report(figures) + "\n")
    print(f"\nwritten: {OUT}/figures.csv, calls.svg, report.txt")


def _leave(_: int, __: FrameType | None) -> None:
    raise SystemExit("benchmarks: told to stop")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
