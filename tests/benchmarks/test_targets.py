from __future__ import annotations

import pytest

from benchmarks.figures import Figures
from benchmarks.report import tables
from benchmarks.targets import TARGETS

RUN = (  # scenario, contestant, load, metric, value
    ("calls", "direct", "1", "p50 ms", 0.1),
    ("calls", "arrowslit", "1", "p50 ms", 0.4),
    ("calls", "arrowslit", "16", "calls/s", 12_000),
    ("calls", "arrowslit, stdio", "16", "calls/s", 6_000),
    ("calls", "ssh -R", "16", "calls/s", 10_000),
    ("calls", "mcp-proxy", "16", "calls/s", 500),
    ("calls", "supergateway", "16", "calls/s", 2_000),
    ("calls", "arrowslit", "128", "calls/s", 15_000),
    ("calls", "ssh -R", "128", "calls/s", 30_000),
    ("calls", "nginx", "128", "calls/s", 20_000),
    ("calls", "arrowslit", "16", "p99 ms", 5),
    ("SDK server", "direct", "16", "calls/s", 2_000),
    ("SDK server", "arrowslit", "16", "calls/s", 1_960),
    ("results", "arrowslit", "16 MiB", "MB/s", 200),
    ("results", "arrowslit", "16 MiB", "more MiB in relay", 12),
    ("results", "arrowslit", "16 MiB", "more MiB in connector", 70),
    ("beside downloads", "arrowslit", "beside", "p50 ms", 2),
    ("beside downloads", "ssh -R", "beside", "p50 ms", 8),
    ("idle connectors", "arrowslit", "5000", "KiB each", 31),
    ("storm", "arrowslit", "2000", "s until all are back", 9),
    ("under attack", "arrowslit", "in peace", "p99 ms", 8),
    ("under attack", "arrowslit", "under attack", "p99 ms", 12),
    ("fairness", "arrowslit", "beside its equal", "p95 ms", 10),
    ("fairness", "arrowslit", "beside ten times its share", "p95 ms", 13),
)
READ = {
    "added p50 over direct at one call": (0.3, True),
    "calls/s at 16 against ssh -R": (1.2, True),
    "calls/s at 16 against mcp-proxy, both on stdio": (12, True),
    "calls/s at 16 against mcp-proxy, ours on HTTP": (24, True),
    "calls/s at 16 against supergateway, both on stdio": (3, False),
    "calls/s at 16 against supergateway, ours on HTTP": (6, True),
    "calls/s at 128 against ssh -R": (0.5, False),
    "calls/s at 128 against nginx": (0.75, True),
    "p99 at 16": (5, True),
    "calls/s at 16 to an SDK server, against direct": (0.98, True),
    "16 MiB results, 16 at once": (200, True),
    "more memory in the relay meanwhile": (12, True),
    "more memory in the connector meanwhile": (70, False),
    "p50 of small calls beside downloads": (2, True),
    "the same against ssh -R": (0.25, True),
    "memory of the relay for an idle connector": (31, True),
    "all connectors back after kill -9 and restart": (9, False),
    "p99 of healthy calls under attack, against peace": (1.5, True),
    "a tenant's p95 beside one at ten times its share": (1.3, True),
}


@pytest.fixture
def figures() -> Figures:
    """A run in which everything was measured."""
    made = Figures()
    for scenario, contestant, load, metric, value in RUN:
        made.add(scenario, contestant, load, {metric: value})
    return made


def test_every_target_is_read_off_a_run_and_said_to_be_reached_or_not(figures: Figures) -> None:
    assert [target.what for target in TARGETS] == list(READ)
    for target in TARGETS:
        value = target.read(figures)
        assert value is not None, target.what
        assert (round(value, 6), target.reached(value)) == READ[target.what], target.what


def test_a_run_in_which_nothing_was_measured_says_so() -> None:
    assert tables.targets(Figures()).count("not measured") == len(TARGETS)
