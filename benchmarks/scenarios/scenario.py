"""Bench: what every scenario is given; and setting up contestants side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contestants.contestant import Contestant, Ground
from benchmarks.figures import Figures
from benchmarks.loads import wrk
from benchmarks.loads.door import LEGACY, MODERN, Door, enter
from benchmarks.machine.process import Failed, Program, free_port, python
from benchmarks.plan import Plan


@dataclass(frozen=True, slots=True)
class Bench:
    """One run. Scenarios add to `figures` and `say` what they do."""

    folder: Path
    plan: Plan
    figures: Figures
    say: Callable[[str], None]

    @contextmanager
    def doors(
        self, scenario: str, contestants: Sequence[Contestant], *, delay_ms: int = 0, sdk: bool = False
    ) -> Iterator[Mapping[str, Door]]:
        """All contestants that can run here, up at the same time, before the fast server or one on the SDK.

        With a delay, what crosses the network in earnest takes that long, there and back.
        """
        folder = self.folder / scenario.replace(" ", "-")
        with ExitStack() as stack:
            upstream = stack.enter_context(_sdk(folder) if sdk else fast(folder))

            def far(port: int) -> int:
                return stack.enter_context(delay_line(folder, port, delay_ms)) if delay_ms else port

            doors = {}
            for each in contestants:
                if (reason := each.missing()) is not None:
                    self.figures.skipped[each.name] = reason
                    continue
                ground = Ground(folder / each.name.replace(" ", "-"), upstream, far, MODERN if sdk else LEGACY)
                ground.folder.mkdir(parents=True)
                try:
                    doors[each.name] = enter(stack.enter_context(each.run(ground)))
                except Failed as failure:
                    self.figures.skipped[f"{each.name}, {scenario}"] = str(failure)
            yield doors

    def measure(self, scenario: str, name: str, door: Door, load: wrk.Load, column: object) -> None:
        """One load, with all that can be said about small calls."""
        heard, price = wrk.measured(self.folder, door, load)
        self.figures.add(
            scenario,
            name,
            column,
            {
                "calls/s": heard.per_second,
                "p50 ms": heard.p50,
                "p99 ms": heard.p99,
                "CPU µs/call": price.cpu_us,
                "memory MiB": price.memory,
                "failed": heard.failed,
            },
        )

    def warm(self, door: Door, at_once: int = 16) -> None:
        """Let everybody open connections and compile what they compile. It is not measured."""
        wrk.run(self.folder, door, wrk.Load(at_once, 1))


@contextmanager
def delay_line(folder: Path, port: int, delay_ms: int) -> Iterator[int]:
    """The port at which `port` is reached on a way that takes `delay_ms` there and back."""
    words = python("benchmarks.machine.delay_line", str(port), str(delay_ms))
    with Program(folder / f"line-{port}", words, speaks=True) as line:
        yield int(line.line())


@contextmanager
def fast(folder: Path) -> Iterator[int]:
    """The fast server, at the port that comes back."""
    with Program(folder / "upstream", python("benchmarks.upstreams.fast"), speaks=True) as upstream:
        yield int(upstream.line())


@contextmanager
def _sdk(folder: Path) -> Iterator[int]:
    port = free_port()
    with Program(folder / "upstream", python("benchmarks.upstreams.sdk", str(port))) as upstream:
        upstream.answers_at(port)
        yield port
