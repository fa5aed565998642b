"""/v1, one file per resource. `routes.py` lists them."""

from __future__ import annotations
