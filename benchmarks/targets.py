"""PURE: the figures that arrowslit should reach, each with the way it is read off a run. They are ratios wherever the
machine would decide otherwise. A run says yes or no; no test asserts them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.figures import Figures

Value = float | None
OURS, DIRECT = "arrowslit", "direct"


@dataclass(frozen=True, slots=True)
class Target:
    """One line: what, how it is read (None where it was not measured), and the bound it should keep."""

    what: str
    read: Callable[[Figures], Value]
    bound: float
    unit: str
    at_least: bool = False

    def reached(self, value: float) -> bool:
        """Whether `value` keeps the bound."""
        return value >= self.bound if self.at_least else value <= self.bound


def _rate(ours: str, other: str, at_once: int) -> Callable[[Figures], Value]:
    return lambda figures: figures.ratio("calls", ours, other, at_once, "calls/s")


def _ours(scenario: str, load: str, metric: str) -> Callable[[Figures], Value]:
    return lambda figures: figures.get(scenario, OURS, load, metric)


def _only(scenario: str, metric: str) -> Callable[[Figures], Value]:
    """Of a scenario with one load, whatever it is called."""
    return lambda figures: next((figures.get(scenario, OURS, load, metric) for load in figures.loads(scenario)), None)


def _neighbour(figures: Figures) -> Value:
    return _grown(figures, "fairness", "p95 ms", "beside its equal", "beside ten times its share")


def _attacked(figures: Figures) -> Value:
    return _grown(figures, "under attack", "p99 ms", "in peace", "under attack")


def _grown(figures: Figures, scenario: str, metric: str, calm: str, crowded: str) -> Value:
    """How many times as long something takes at one load as at another."""
    before, after = figures.get(scenario, OURS, calm, metric), figures.get(scenario, OURS, crowded, metric)
    return None if not before or after is None else after / before


TARGETS = (
    Target("added p50 over direct at one call", lambda f: f.difference("calls", OURS, DIRECT, 1, "p50 ms"), 0.4, "ms"),
    Target("calls/s at 16 against ssh -R", _rate(OURS, "ssh -R", 16), 1.2, "×", at_least=True),
    Target("calls/s at 16 against mcp-proxy, both on stdio", _rate(f"{OURS}, stdio", "mcp-proxy", 16), 10, "×", True),
    Target("calls/s at 16 against mcp-proxy, ours on HTTP", _rate(OURS, "mcp-proxy", 16), 10, "×", True),
    Target(
        "calls/s at 16 against supergateway, both on stdio", _rate(f"{OURS}, stdio", "supergateway", 16), 4, "×", True
    ),
    Target("calls/s at 16 against supergateway, ours on HTTP", _rate(OURS, "supergateway", 16), 4, "×", True),
    Target("calls/s at 128 against ssh -R", _rate(OURS, "ssh -R", 128), 0.7, "×", at_least=True),
    Target("calls/s at 128 against nginx", _rate(OURS, "nginx", 128), 0.5, "×", at_least=True),
    Target("p99 at 16", _ours("calls", "16", "p99 ms"), 6, "ms"),
    # a twentieth is what two runs of the same thing differ by
    Target(
        "calls/s at 16 to an SDK server, against direct",
        lambda f: f.ratio("SDK server", OURS, DIRECT, 16, "calls/s"),
        0.95,
        "×",
        at_least=True,
    ),
    Target("16 MiB results, 16 at once", _ours("results", "16 MiB", "MB/s"), 150, "MB/s", at_least=True),
    Target("more memory in the relay meanwhile", _ours("results", "16 MiB", "more MiB in relay"), 64, "MiB"),
    Target("more memory in the connector meanwhile", _ours("results", "16 MiB", "more MiB in connector"), 64, "MiB"),
    Target("p50 of small calls beside downloads", _ours("beside downloads", "beside", "p50 ms"), 6, "ms"),
    Target(
        "the same against ssh -R",
        lambda f: f.ratio("beside downloads", OURS, "ssh -R", "beside", "p50 ms"),
        1,
        "×",
    ),
    Target("memory of the relay for an idle connector", _only("idle connectors", "KiB each"), 40, "KiB"),
    Target("all connectors back after kill -9 and restart", _only("storm", "s until all are back"), 8, "s"),
    Target("p99 of healthy calls under attack, against peace", _attacked, 2, "×"),
    Target("a tenant's p95 beside one at ten times its share", _neighbour, 4 / 3, "×"),
)
"""In the order of the scenarios."""
