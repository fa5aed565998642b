"""A crowd of connectors: what the relay pays for one that does nothing, and how soon all are back after its death.

The connectors live in one other process, so that what is measured of the relay is its own.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.contestants.ours import OURS, Relay, relay
from benchmarks.machine import usage
from benchmarks.machine.process import Program, python
from benchmarks.scenarios.scenario import Bench

IDLE = "idle connectors"
STORM = "storm"
SPARE = 500  # descriptors that a process needs for other things
ALL_SECONDS = 120.0  # until all must have been connected
SETTLED = 2.0  # seconds until what was needed to connect is given back
WATCHED = 4.0  # seconds in which the idle relay's processor time is looked at: half a round of pings


def run_idle(bench: Bench) -> None:
    """Connect them all, and see by how much the relay has grown."""
    count = _at_most(bench.plan.idle)
    bench.say(f"{count} idle connectors")
    with relay(bench.folder / "idle") as running:
        pids = [running.program.pid]
        time.sleep(SETTLED)
        before, begun = usage.resident(pids), time.monotonic()
        with crowd(bench.folder / "idle", running, count) as connectors:
            took = float(connectors.line(ALL_SECONDS)) - begun
            time.sleep(SETTLED)
            grown, busy = usage.resident(pids) - before, usage.seconds(pids)
            time.sleep(WATCHED)
            values = {"KiB each": grown * 1024 / count, "s to connect": took}
            values["CPU %"] = (usage.seconds(pids) - busy) / WATCHED * 100
            bench.figures.add(IDLE, OURS.name, count, values)


def run_storm(bench: Bench) -> None:
    """Kill the relay, start it again, and wait until all are back; round by round."""
    count = _at_most(bench.plan.storm)
    with relay(bench.folder / "storm") as running, crowd(bench.folder / "storm", running, count) as connectors:
        connectors.line(ALL_SECONDS)
        for number in range(bench.plan.rounds):
            bench.say(f"{count} connectors come back, round {number + 1} of {bench.plan.rounds}")
            connectors.say("count anew")
            running.program.kill()
            begun = time.monotonic()
            running.start()
            listens = time.monotonic() - begun
            values = {
                "s until all are back": float(connectors.line(ALL_SECONDS)) - begun,
                "s until it listens": listens,
            }
            bench.figures.add(STORM, OURS.name, count, values)


@contextmanager
def crowd(folder: Path, running: Relay, count: int) -> Iterator[Program]:
    """That many connectors of a relay. The program says when all are connected."""
    with running.api() as api:
        token = api.post("keys", body={"register": "light-*"})["key"]
    words = [running.address(running.port), str(count)]
    with Program(folder, python("benchmarks.loads.connectors", *words), speaks=True) as connectors:
        connectors.say(token)
        yield connectors


def _at_most(count: int) -> int:
    """As many of them as one process may have connections."""
    return min(count, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE)
