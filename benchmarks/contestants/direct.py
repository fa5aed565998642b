"""Direct: no way at all. What everybody else adds is measured against it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.contestants.contestant import Contestant, Ground, here
from benchmarks.loads.door import Door


@contextmanager
def _run(ground: Ground) -> Iterator[Door]:
    yield Door(ground.far(ground.upstream), era=ground.era)


DIRECT = Contestant("direct", here, _run)
