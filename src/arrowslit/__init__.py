"""Let agents use private MCP servers through a tunnel that the private side opened."""

from __future__ import annotations

__version__ = "0.1.0"
