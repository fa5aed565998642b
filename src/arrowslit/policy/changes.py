"""Changes: which lines two texts share, found at a cost that whoever wrote the texts cannot drive up."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence

_DEEPEST = 8
"""How often a part is divided again. Each time costs as much as sorting its lines; what people write is done by 3."""


def changes(before: Sequence[str], after: Sequence[str]) -> Iterator[str]:
    """All lines of both, in order: with two spaces before them in both, `- ` in the first, `+ ` in the second alone.

    What both begin and end with is cut off; a line that stands once in each divides the rest, which is done again for
    each part (as in the "patience diff"). A part that nothing divides is written as it was and as it is: so lines that
    repeat may be shown as changed though fewer would do, and n lines never cost more than n * log n steps.
    """
    return _compare(before, after, _DEEPEST)


def _compare(before: Sequence[str], after: Sequence[str], divisions: int) -> Iterator[str]:
    head = _shared(before, after)
    tail = _shared(before[head:][::-1], after[head:][::-1])
    yield from (f"  {line}" for line in before[:head])
    yield from _divide(before[head : len(before) - tail], after[head : len(after) - tail], divisions)
    yield from (f"  {line}" for line in before[len(before) - tail :])


def _divide(before: Sequence[str], after: Sequence[str], divisions: int) -> Iterator[str]:
    anchors = _anchors(before, after) if divisions else []
    if not anchors:
        yield from (f"- {line}" for line in before)
        yield from (f"+ {line}" for line in after)
        return
    left = right = 0
    for at, to in [*anchors, (len(before), len(after))]:
        yield from _compare(before[left:at], after[right:to], divisions - 1)
        yield from (f"  {line}" for line in before[at : at + 1])
        left, right = at + 1, to + 1


def _shared(before: Sequence[str], after: Sequence[str]) -> int:
    """How many lines both begin with."""
    for count, (one, other) in enumerate(zip(before, after, strict=False)):
        if one != other:
            return count
    return min(len(before), len(after))


def _anchors(before: Sequence[str], after: Sequence[str]) -> list[tuple[int, int]]:
    """Where lines stand that are in each text once: as many of them as stand in the same order in both."""
    once = {line for line, count in Counter(before).items() if count == 1}
    once &= {line for line, count in Counter(after).items() if count == 1}
    places = {line: at for at, line in enumerate(after) if line in once}
    pairs = [(at, places[line]) for at, line in enumerate(before) if line in once]
    # The longest rising run by patience sorting: `ends[n]` is the pair that ends the best run of n + 1 so far.
    ends: list[int] = []
    piles: list[int] = []
    previous: list[int] = []
    for index, (_, to) in enumerate(pairs):
        pile = bisect_left(ends, to)
        previous.append(piles[pile - 1] if pile else -1)
        ends[pile : pile + 1] = [to]
        piles[pile : pile + 1] = [index]
    run: list[tuple[int, int]] = []
    index = piles[-1] if piles else -1
    while index >= 0:
        run.append(pairs[index])
        index = previous[index]
    return run[::-1]
