"""How a database of an older version becomes one of this version: Alembic's scripts, run by themselves at `open`."""

from __future__ import annotations
