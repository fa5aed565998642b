"""The wiring: every part is made here by a plain constructor call, and handed the ports that it asks for."""

from __future__ import annotations
