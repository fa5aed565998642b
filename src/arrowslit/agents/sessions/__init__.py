"""Sessions: the events of a session, what they add up to, and how they are appended and followed."""

from __future__ import annotations
