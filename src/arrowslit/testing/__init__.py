"""What tests of arrowslit need, ours and those of others: it ships, and nothing else here imports it."""

from __future__ import annotations
