"""Where an agent's code runs: in isolation, on a machine that its user owns."""

from __future__ import annotations
