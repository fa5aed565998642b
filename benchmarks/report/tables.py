"""PURE: tables of text. Each scenario has one; the last is the one that says yes or no."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.figures import Figures
from benchmarks.targets import TARGETS, Target

NOT_MEASURED = "–"


def report(figures: Figures, wanted: Sequence[Target] = TARGETS) -> str:
    """Everything that a run has found, in lines; and whether it is what was `wanted`."""
    parts = [_scenario(figures, scenario) for scenario in figures.scenarios()]
    return "\n\n".join([*parts, targets(figures, wanted), *_skipped(figures)])


def targets(figures: Figures, wanted: Sequence[Target] = TARGETS) -> str:
    """The targets, and whether each was reached."""
    rows = [_verdict(target, target.read(figures)) for target in wanted]
    return table("should reach", ["", "measured", "bound", ""], rows)


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they must be; all but the first to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [_line(each, widths) for each in (head, *rows)]
    return "\n".join([f"── {title} " + "─" * max(0, sum(widths) + 2 * len(widths) - len(title) - 4), *lines])


def number(value: float | None) -> str:
    """Three figures that matter; whole from a hundred on."""
    if value is None:
        return NOT_MEASURED
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _scenario(figures: Figures, scenario: str) -> str:
    metrics = figures.metrics(scenario)
    rows = [
        [f"{contestant}, {load}", *(number(figures.get(scenario, contestant, load, metric)) for metric in metrics)]
        for load in figures.loads(scenario)
        for contestant in figures.contestants(scenario)
        if any(figures.get(scenario, contestant, load, metric) is not None for metric in metrics)
    ]
    return table(scenario, ["", *metrics], rows)


def _verdict(target: Target, value: float | None) -> list[str]:
    sign = "≥" if target.at_least else "≤"
    said = "not measured" if value is None else "yes" if target.reached(value) else "no"
    return [target.what, f"{number(value)} {target.unit}", f"{sign} {number(target.bound)} {target.unit}", said]


def _skipped(figures: Figures) -> Iterator[str]:
    if figures.skipped:
        yield "not run here:\n" + "\n".join(f"  {who}: {why}" for who, why in figures.skipped.items())


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (
        cell.ljust(width) if place == 0 else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join([first, *others]).rstrip()
