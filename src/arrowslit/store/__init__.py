"""State: tunnels, agents, keys. On disk in SQLite (later PostgreSQL), and in memory for the way of a call."""

from __future__ import annotations
