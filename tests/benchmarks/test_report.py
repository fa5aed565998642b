from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from benchmarks.figures import Figures
from benchmarks.report import chart, tables

SVG = "{http://www.w3.org/2000/svg}"


def test_a_table_has_columns_as_wide_as_they_must_be() -> None:
    assert tables.table("t", ["", "calls/s"], [["direct", "1"], ["x", "20,000"]]).splitlines()[1:] == [
        "        calls/s",
        "direct        1",
        "x        20,000",
    ]


@pytest.mark.parametrize(
    ("value", "said"), [(None, "–"), (0.1234, "0.12"), (12.34, "12.3"), (123.4, "123"), (12345, "12,345")]
)
def test_a_number_is_said_in_the_figures_that_matter(value: float | None, said: str) -> None:
    assert tables.number(value) == said


def test_the_report_names_who_did_not_run_and_why() -> None:
    figures = Figures()
    figures.add("calls", "direct", 16, {"calls/s": 20_000, "p50 ms": 0.5})
    figures.add("calls", "arrowslit", 16, {"calls/s": 10_000})
    figures.skipped["nginx"] = "there is no nginx"

    said = tables.report(figures)

    lines = [line.split() for line in said.splitlines()]
    assert ["direct,", "16", "20,000", "0.50"] in lines
    assert ["arrowslit,", "16", "10,000", "–"] in lines
    assert "  nginx: there is no nginx" in said


def test_a_bar_is_as_long_as_the_logarithm_of_its_value() -> None:
    bars = [
        chart.Bar("slow <&>", 100, "#000000"),
        chart.Bar("fast", 10_000, "#111111"),
        chart.Bar("x", 1000, "#222222"),
    ]

    drawn = ET.fromstring(chart.draw("title", [chart.Group("16 at once", bars)]))

    lengths = [float(bar.attrib["width"]) for bar in drawn.iter(f"{SVG}rect")][1:]
    assert lengths[0] == 2  # at the scale's begin a bar is still to be seen
    assert lengths[1] == chart.WIDTH - chart.LABEL - chart.TAIL
    assert lengths[2] == pytest.approx(lengths[1] / 2)
    assert "slow <&>" in [text.text for text in drawn.iter(f"{SVG}text")]


def test_a_run_without_calls_has_a_chart_too() -> None:
    assert ET.fromstring(chart.calls_per_second(Figures())).tag == f"{SVG}svg"
