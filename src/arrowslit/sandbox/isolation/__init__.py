"""The walls around an agent's code: the port, and bubblewrap behind it."""

from __future__ import annotations
