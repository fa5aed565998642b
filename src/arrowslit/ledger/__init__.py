"""The tamper-evident record: one hash chain in files, its signed head beside them, and the writer on a call's way."""

from __future__ import annotations
