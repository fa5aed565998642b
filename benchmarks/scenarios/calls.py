"""Small calls, one after the other and many at once: what a way costs."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.contestants.contestant import Contestant
from benchmarks.contestants.direct import DIRECT
from benchmarks.contestants.mcp_proxy import MCP_PROXY
from benchmarks.contestants.nginx import NGINX
from benchmarks.contestants.ours import OURS, OURS_STDIO
from benchmarks.contestants.ssh import SSH
from benchmarks.contestants.supergateway import SUPERGATEWAY
from benchmarks.loads.wrk import Load
from benchmarks.scenarios.scenario import Bench

NAME = "calls"
ALL = (DIRECT, OURS, NGINX, SSH, OURS_STDIO, MCP_PROXY, SUPERGATEWAY)


def run(bench: Bench, contestants: Sequence[Contestant] = ALL) -> None:
    """Every contestant at every load, in turn, round by round."""
    with bench.doors(NAME, contestants) as doors:
        for door in doors.values():
            bench.warm(door)
        for number in range(bench.plan.rounds):
            bench.say(f"small calls, round {number + 1} of {bench.plan.rounds}")
            for at_once in bench.plan.loads:
                for name, door in doors.items():
                    bench.measure(NAME, name, door, Load(at_once, bench.plan.seconds), at_once)
