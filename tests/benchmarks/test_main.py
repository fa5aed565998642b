from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks.machine.process import Failed
from benchmarks.plan import TINY
from benchmarks.scenarios.scenario import Bench


def test_a_scenario_that_would_begin_too_late_is_left_out_and_named() -> None:
    figures = benchmarks.run(replace(TINY, begin_within=-1), ["calls"])

    assert figures.scenarios() == []
    assert figures.skipped == {"calls": "the time was up"}


def test_a_scenario_that_fails_is_named_and_the_others_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(bench: Bench) -> None:
        raise Failed("no luck")

    def works(bench: Bench) -> None:
        bench.figures.add("works", "arrowslit", 1, {"calls/s": 1})

    monkeypatch.setattr(benchmarks, "SCENARIOS", {"fails": fails, "works": works})

    figures = benchmarks.run(TINY, ["fails", "works"])

    assert figures.skipped == {"fails": "no luck"}
    assert figures.scenarios() == ["works"]
