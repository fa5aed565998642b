"""Let agents use private MCP servers through a tunnel that the private side opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arrowslit.client.sdk import AsyncClient as AsyncClient
    from arrowslit.client.sdk import Client as Client

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """`Client` and `AsyncClient`, imported when they are asked for: the SDK takes a second or two."""
    if name in ("Client", "AsyncClient"):
        from arrowslit.client import sdk

        return getattr(sdk, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
