"""Work: the leases of sandbox workers, and what happens when one is lost."""

from __future__ import annotations
