"""The targets of `make fuzz`, with what Hypothesis finds: bytes, and seeds that were bent a little."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.seeds import SEEDS
from tests.fuzz.targets import TARGETS


def _bent(seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """A seed with a few places where something else stands, what stood there is gone, or comes twice."""
    edit = st.tuples(st.integers(0, 400), st.integers(0, 5), st.binary(max_size=4))

    def apply(seed: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
        for at, gone, new in edits:
            at %= len(seed) + 1
            seed = seed[:at] + new + seed[at + gone :]
        return seed

    return st.builds(apply, st.sampled_from(seeds), st.lists(edit, max_size=4))


@pytest.mark.parametrize("name", TARGETS)
def test_each_target_keeps_its_promises(name: str) -> None:
    @settings(max_examples=400)
    @given(st.one_of(_bent(SEEDS[name]), st.binary(max_size=64)))
    def keeps(data: bytes) -> None:
        TARGETS[name](data)

    keeps()


@pytest.mark.parametrize(("name", "seed"), [(name, seed) for name, seeds in SEEDS.items() for seed in seeds])
def test_each_seed_keeps_the_promises_whole_and_cut_anywhere(name: str, seed: bytes) -> None:
    for length in range(len(seed) + 1):
        TARGETS[name](seed[:length])
