"""One module per step, named by its number; a step that was released is never changed."""

from __future__ import annotations
