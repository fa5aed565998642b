"""What the stdio target is made of: child processes that speak line by line and do not outlive us."""

from __future__ import annotations
