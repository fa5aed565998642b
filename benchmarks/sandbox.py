"""`python -m benchmarks.sandbox [--quick] [--uid-range FIRST-LAST]`: what a sandbox costs, beside a plain subprocess
and a bare bubblewrap. Prints a table, and says of each target whether it was reached.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from statistics import quantiles

from arrowslit.app.build.surroundings import open_surroundings
from arrowslit.app.config import IsolationConfig
from arrowslit.errors import Error
from arrowslit.sandbox.isolation.isolation import DEGRADABLE, Command, Ended, Isolation, Sandbox, Why
from benchmarks.figures import Figures
from benchmarks.machine import usage
from benchmarks.machine.process import Failed
from benchmarks.report import tables
from benchmarks.targets import Target

OURS, PLAIN, BARE = "arrowslit", "subprocess", "bwrap"
COLD, WARM, OPEN, CLOSE, CROWD = "cold start", "warm exec", "open", "close", "sessions at once"
TRUE = "/usr/bin/true"
BARE_BWRAP = (
    *("bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", "/usr", "/usr"),
    *("--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64", "--proc", "/proc", "--dev", "/dev", TRUE),
)
OWN_UIDS = "500000-500499"  # what root takes when nothing is said: above the users that systems make
MS = 1000.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How often everything is done. A round has each of them in turn, so that all meet the same machine."""

    rounds: int
    repeats: int  # of a round
    sessions: int  # at once


FULL = Plan(rounds=5, repeats=40, sessions=50)
QUICK = Plan(rounds=1, repeats=10, sessions=10)


def _warm(figures: Figures) -> float | None:
    return figures.difference(WARM, OURS, PLAIN, TRUE, "p50 ms")


def _p50(scenario: str, load: str) -> Callable[[Figures], float | None]:
    return lambda figures: figures.get(scenario, OURS, load, "p50 ms")


def _crowd(metric: str) -> Callable[[Figures], float | None]:
    return lambda figures: next((figures.get(CROWD, OURS, load, metric) for load in figures.loads(CROWD)), None)


TARGETS = (
    Target("warm exec of true, more than a plain subprocess at p50", _warm, 2, "ms"),
    Target("open a session, p50", _p50(OPEN, "one by one"), 60, "ms"),
    Target("close a session, p50", _p50(CLOSE, "one by one"), 20, "ms"),
    Target("memory of an idle session", _crowd("MiB each"), 12, "MiB"),
    Target("share of the sessions at once that answered", _crowd("answered"), 1, "", at_least=True),
)


async def run(isolation: Isolation, plan: Plan, say: Callable[[str], None]) -> Figures:
    """Measure everything. Raises Error `sandbox_unavailable`, Failed when a command does not do what it is to."""
    figures = Figures()
    for number in range(1, plan.rounds + 1):
        say(f"round {number} of {plan.rounds}")
        await _round(isolation, plan.repeats, figures)
    say(f"{plan.sessions} sessions at once")
    await _crowded(isolation, plan.sessions, figures)
    return figures


async def _round(isolation: Isolation, repeats: int, figures: Figures) -> None:
    """Each thing `repeats` times, in turn with those that it is compared with."""
    taken: dict[tuple[str, str, str], list[float]] = {}

    async def timed(scenario: str, contestant: str, load: str, work: Awaitable[object]) -> None:
        begun = time.perf_counter()
        await work
        taken.setdefault((scenario, contestant, load), []).append((time.perf_counter() - begun) * MS)

    warm = await isolation.open("bench")
    for _ in range(repeats):
        await timed(WARM, PLAIN, TRUE, _plain(TRUE))
        await timed(WARM, OURS, TRUE, _exec(warm))
        await timed(COLD, PLAIN, TRUE, _plain(TRUE))
        if shutil.which(BARE):
            await timed(COLD, BARE, TRUE, _plain(*BARE_BWRAP))
        await timed(COLD, OURS, TRUE, _cold(isolation))
        opening = asyncio.ensure_future(isolation.open("bench"))
        await timed(OPEN, OURS, "one by one", opening)
        await timed(CLOSE, OURS, "one by one", opening.result().close())
    await warm.close()
    for (scenario, contestant, load), times in taken.items():
        figures.add(scenario, contestant, load, _percentiles(times))


async def _crowded(isolation: Isolation, sessions: int, figures: Figures) -> None:
    """So many sessions at once: opened together, each runs a command, all idle, closed together."""
    before, begun = usage.proportional([os.getpid()]), time.perf_counter()
    rooms = await asyncio.gather(*(isolation.open(f"bench-{number}") for number in range(sessions)))
    opened = time.perf_counter()
    await asyncio.gather(*map(_exec, rooms))
    ran = time.perf_counter()
    after = usage.proportional([os.getpid()])
    answered = sum(room.alive for room in rooms) / sessions
    closing = time.perf_counter()
    await asyncio.gather(*(room.close() for room in rooms))
    found = {
        "answered": answered,
        "ms to open": (opened - begun) * MS,
        "ms to run": (ran - opened) * MS,
        "ms to close": (time.perf_counter() - closing) * MS,
    }
    if before is not None and after is not None:
        found["MiB each"] = (after - before) / sessions
    figures.add(CROWD, OURS, f"{sessions} at once", found)


async def _plain(*words: str) -> None:
    """A subprocess, as a program without a sandbox starts one."""
    process = await asyncio.create_subprocess_exec(*words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    if await process.wait():
        raise Failed(f"{' '.join(words)} ended with status {process.returncode}")


async def _exec(sandbox: Sandbox) -> None:
    """A command in a sandbox that is there already."""
    async for each in sandbox.run(Command(argv=(TRUE,))):
        if isinstance(each, Ended) and (each.why is not Why.EXIT or each.status):
            raise Failed(f"{TRUE} ended with {each}")


async def _cold(isolation: Isolation) -> None:
    """A sandbox for one command."""
    sandbox = await isolation.open("bench")
    try:
        await _exec(sandbox)
    finally:
        await sandbox.close()


def _percentiles(times: Sequence[float]) -> dict[str, float]:
    cuts = quantiles(times, n=100, method="inclusive")
    return {"p50 ms": cuts[49], "p99 ms": cuts[98]}


def _uids(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last) + 1)


async def _main(told: argparse.Namespace) -> None:
    uids = _uids(told.uid_range) if os.geteuid() == 0 else None
    config = IsolationConfig(uids=uids, allow_degraded=DEGRADABLE if told.allow_degraded else ())
    async with open_surroundings(config) as around:
        report = around.isolation.report
        figures = await run(around.isolation, QUICK if told.quick else FULL, lambda what: print(what, file=sys.stderr))
    print(tables.report(figures, TARGETS))
    print(
        f"\n{report.isolation} {report.version}, {report.kernel}; best effort: {', '.join(report.degraded) or 'none'}"
    )


def main(arguments: Sequence[str]) -> str | None:
    """Returns what went wrong, as text, or None."""
    parser = argparse.ArgumentParser(prog="benchmarks.sandbox", description="What a sandbox costs.")
    parser.add_argument("--quick", action="store_true", help="one short round, for a first look")
    parser.add_argument("--uid-range", default=OWN_UIDS, metavar="FIRST-LAST", help="the users of sessions, for root")
    parser.add_argument("--allow-degraded", action="store_true", help="limits may be a best effort")
    try:
        asyncio.run(_main(parser.parse_args(arguments)))
    except (Error, Failed) as failure:
        return f"benchmarks.sandbox: {failure}"
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
