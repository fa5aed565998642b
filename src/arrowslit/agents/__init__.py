"""The Managed-Agents-style API: the official shapes where there are any, ours beside them."""

from __future__ import annotations
