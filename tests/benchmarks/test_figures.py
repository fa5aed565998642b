from __future__ import annotations

import pytest

from benchmarks.figures import Figures


@pytest.fixture
def figures() -> Figures:
    """Two contestants in three rounds; the machine was busy in the second."""
    made = Figures()
    for ours, theirs in ((300.0, 100.0), (90.0, 30.0), (400.0, 200.0)):
        made.add("calls", "arrowslit", 16, {"calls/s": ours})
        made.add("calls", "ssh -R", 16, {"calls/s": theirs})
    return made


def test_the_median_of_the_rounds_is_the_figure(figures: Figures) -> None:
    assert figures.get("calls", "arrowslit", 16, "calls/s") == 300


def test_a_ratio_is_taken_round_by_round_since_the_machine_changes_between_rounds(figures: Figures) -> None:
    assert figures.ratio("calls", "arrowslit", "ssh -R", 16, "calls/s") == 3
    assert figures.difference("calls", "arrowslit", "ssh -R", 16, "calls/s") == 200


def test_what_was_not_measured_is_none(figures: Figures) -> None:
    assert figures.get("calls", "nginx", 16, "calls/s") is None
    assert figures.ratio("calls", "arrowslit", "nginx", 16, "calls/s") is None
    assert figures.difference("calls", "arrowslit", "ssh -R", 128, "calls/s") is None


def test_nothing_is_divided_by_nothing() -> None:
    figures = Figures()
    figures.add("calls", "arrowslit", 1, {"failed": 1})
    figures.add("calls", "direct", 1, {"failed": 0})

    assert figures.ratio("calls", "arrowslit", "direct", 1, "failed") is None


def test_the_csv_has_every_round(figures: Figures) -> None:
    figures.add("calls", "arrowslit, stdio", 1, {"p50 ms": 0.123456789})

    lines = figures.csv().splitlines()
    assert lines[0] == "scenario,contestant,load,metric,round,value"
    assert lines[1:3] == ["calls,arrowslit,16,calls/s,1,300", "calls,arrowslit,16,calls/s,2,90"]
    assert lines[-1] == 'calls,"arrowslit, stdio",1,p50 ms,1,0.123457'
