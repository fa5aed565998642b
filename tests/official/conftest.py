"""Lets a story that fails say what it found, as a test does."""

from __future__ import annotations

import pytest

for story in ("call", "item", "key", "lease", "queue", "stream", "tool", "turn"):
    pytest.register_assert_rewrite(f"tests.official.{story}_stories")
pytest.register_assert_rewrite("tests.official.ground")
