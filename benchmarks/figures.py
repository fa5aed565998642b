"""PURE: figures, what was measured. Each has a scenario, a contestant, a load and a metric; rounds are kept apart."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import median

COLUMNS = ("scenario", "contestant", "load", "metric", "round", "value")


@dataclass(frozen=True, slots=True)
class Key:
    """What a figure is about. `load` is what was asked for at once, in the words of its scenario."""

    scenario: str
    contestant: str
    load: str
    metric: str


class Figures:
    """All figures of a run, and who could not take part in it."""

    def __init__(self) -> None:
        self._values: dict[Key, list[float]] = {}
        self.skipped: dict[str, str] = {}
        """Contestant or scenario -> why it did not run here."""

    def add(self, scenario: str, contestant: str, load: object, values: Mapping[str, float]) -> None:
        """Keep what one round has shown; `values` are by metric."""
        for metric, value in values.items():
            self._values.setdefault(Key(scenario, contestant, str(load), metric), []).append(value)

    def get(self, scenario: str, contestant: str, load: object, metric: str) -> float | None:
        """The median over the rounds, None where nothing was measured."""
        values = self._values.get(Key(scenario, contestant, str(load), metric))
        return median(values) if values else None

    def ratio(self, scenario: str, one: str, other: str, load: object, metric: str) -> float | None:
        """What `one` has of what `other` has. The median of each round's ratio, since a machine is not the same in
        every round; None where either was not measured.
        """
        ours = self._values.get(Key(scenario, one, str(load), metric), [])
        theirs = self._values.get(Key(scenario, other, str(load), metric), [])
        ratios = [mine / yours for mine, yours in zip(ours, theirs, strict=False) if yours]
        return median(ratios) if ratios else None

    def difference(self, scenario: str, one: str, other: str, load: object, metric: str) -> float | None:
        """What `one` has more than `other`, as `ratio` does."""
        ours = self._values.get(Key(scenario, one, str(load), metric), [])
        theirs = self._values.get(Key(scenario, other, str(load), metric), [])
        more = [mine - yours for mine, yours in zip(ours, theirs, strict=False)]
        return median(more) if more else None

    def contestants(self, scenario: str) -> list[str]:
        """Who has figures in a scenario, in the order in which they came."""
        return list(dict.fromkeys(key.contestant for key in self._values if key.scenario == scenario))

    def loads(self, scenario: str) -> list[str]:
        """The loads of a scenario, in the order in which they came."""
        return list(dict.fromkeys(key.load for key in self._values if key.scenario == scenario))

    def scenarios(self) -> list[str]:
        """The scenarios with figures, in the order in which they came."""
        return list(dict.fromkeys(key.scenario for key in self._values))

    def metrics(self, scenario: str) -> list[str]:
        """The metrics of a scenario, in the order in which they came."""
        return list(dict.fromkeys(key.metric for key in self._values if key.scenario == scenario))

    def csv(self) -> str:
        """Every value of every round, with a line of COLUMNS before them."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(self._rows())
        return out.getvalue()

    def _rows(self) -> Iterator[tuple[str, str, str, str, int, str]]:
        for key, values in self._values.items():
            for number, value in enumerate(values, 1):
                yield key.scenario, key.contestant, key.load, key.metric, number, f"{value:.6g}"
