"""PURE: a chart as SVG, written by hand. Groups of horizontal bars on a logarithmic scale, for what lies far apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from benchmarks.figures import Figures
from benchmarks.report.tables import number

COLOURS = ("#9aa5b1", "#c2410c", "#3b6ea5", "#4d7c4d", "#e08b5c", "#7c6a9c", "#a08a4a")
LABEL, WIDTH, BAR, GAP, HEAD = 150, 760, 16, 14, 46  # pixels
TAIL = 80  # pixels for the number behind the longest bar


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar. `value` is above 0."""

    label: str
    value: float
    colour: str


@dataclass(frozen=True, slots=True)
class Group:
    """Bars that belong together, under one title."""

    title: str
    bars: Sequence[Bar]


def calls_per_second(figures: Figures) -> str:
    """The chart of a run: every contestant at every load."""
    contestants = figures.contestants("calls")
    colours = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(contestants)}
    groups = []
    for load in figures.loads("calls"):
        rates = {name: figures.get("calls", name, load, "calls/s") for name in contestants}
        bars = [Bar(name, rate, colours[name]) for name, rate in rates.items() if rate]
        groups.append(Group(f"{load} at once" if load != "1" else "one call after the other", bars))
    return draw("calls per second (logarithmic)", groups)


def draw(title: str, groups: Sequence[Group]) -> str:
    """The whole picture. Bars begin at a power of ten below the shortest."""
    values = [bar.value for group in groups for bar in group.bars]
    low = 10 ** math.floor(math.log10(min(values))) if values else 1
    high = max([*values, low * 10])
    parts, y = [_text(10, 24, title, 16, weight=600)], HEAD
    for group in groups:
        parts.append(_text(10, y + 12, group.title, 13, weight=600))
        y += BAR + 6
        for bar in group.bars:
            length = (WIDTH - LABEL - TAIL) * math.log(bar.value / low) / math.log(high / low)
            parts += _bar(bar, y, max(2.0, length))
            y += BAR + 4
        y += GAP
    size = f'width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="system-ui, sans-serif" role="img">',
            f"<title>{escape(title)}</title>",
            f'<rect width="{WIDTH}" height="{y}" fill="#ffffff"/>',
            *parts,
            "</svg>\n",
        ]
    )


def _bar(bar: Bar, y: int, length: float) -> list[str]:
    return [
        _text(LABEL - 8, y + 12, bar.label, 12, anchor="end"),
        f'<rect x="{LABEL}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{bar.colour}"/>',
        _text(LABEL + length + 6, y + 12, number(bar.value), 12),
    ]


def _text(x: float, y: int, text: str, size: int, *, anchor: str = "start", weight: int = 400) -> str:
    look = f'font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" fill="#1f2933"'
    return f'<text x="{x:.1f}" y="{y}" {look}>{escape(text)}</text>'
