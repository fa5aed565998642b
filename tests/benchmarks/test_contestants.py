"""The benchmarks work: every contestant that is here answers a call, and a tiny run has its figures. What the figures
are decides nothing.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.contestants.contestant import Contestant, Ground
from benchmarks.contestants.direct import DIRECT
from benchmarks.contestants.mcp_proxy import MCP_PROXY
from benchmarks.contestants.nginx import NGINX
from benchmarks.contestants.ours import OURS
from benchmarks.contestants.ssh import SSH
from benchmarks.contestants.supergateway import SUPERGATEWAY
from benchmarks.figures import Figures
from benchmarks.loads.door import enter
from benchmarks.machine import usage
from benchmarks.machine.process import find
from benchmarks.plan import TINY
from benchmarks.scenarios import calls, crowd
from benchmarks.scenarios.scenario import Bench, fast

needs_wrk = pytest.mark.skipif(find("wrk") is None, reason="there is no wrk")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A run that says nothing."""
    return Bench(tmp_path, TINY, Figures(), lambda what: None)


@pytest.mark.parametrize("contestant", [NGINX, SSH, MCP_PROXY, SUPERGATEWAY], ids=lambda each: each.name)
def test_a_contestant_that_is_here_carries_a_call_and_leaves_nothing(contestant: Contestant, tmp_path: Path) -> None:
    if (reason := contestant.missing()) is not None:
        pytest.skip(reason)
    with fast(tmp_path) as upstream, contestant.run(Ground(tmp_path / "ground", upstream)) as door:
        assert enter(door).port == door.port
        pids = usage.tree(door.processes.values())
        assert pids

    assert usage.resident(pids) == 0


def test_a_contestant_that_is_not_here_is_named_with_the_reason(bench: Bench) -> None:
    gone = replace(NGINX, missing=lambda: "there is no nginx")

    with bench.doors("calls", (DIRECT, gone)) as doors:
        assert list(doors) == ["direct"]

    assert bench.figures.skipped == {"nginx": "there is no nginx"}


@needs_wrk
def test_a_tiny_run_has_calls_through_arrowslit_and_none_that_failed(bench: Bench) -> None:
    calls.run(bench, (DIRECT, OURS))

    assert bench.figures.skipped == {}
    for name in ("direct", "arrowslit"):
        rate = bench.figures.get("calls", name, 16, "calls/s")
        assert rate is not None
        assert rate > 1
        assert bench.figures.get("calls", name, 16, "failed") == 0
    price = bench.figures.get("calls", "arrowslit", 16, "CPU µs/call")
    assert price is not None
    assert price > 0


def test_light_connectors_come_back_to_a_relay_that_was_killed(bench: Bench) -> None:
    crowd.run_storm(bench)

    took = bench.figures.get("storm", "arrowslit", TINY.storm, "s until all are back")
    assert took is not None
    assert took > 0
