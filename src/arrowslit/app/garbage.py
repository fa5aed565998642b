"""The garbage collector of a process that carries calls, which make no circles."""

from __future__ import annotations

import gc

FIRST, SECOND, THIRD = 20_000, 20, 20  # objects and rounds; by itself Python would look for circles every 700 objects


def seldom() -> None:
    """Look for circles seldom, and never again through what was made so far, which stays."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(FIRST, SECOND, THIRD)
