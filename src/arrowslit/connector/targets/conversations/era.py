"""Which era of MCP a request belongs to, and which a server knows by its answer to a probe."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from arrowslit.connector.targets.conversations import message
from arrowslit.connector.targets.conversations.message import Posted, Said

HANDSHAKE_VERSIONS = frozenset({"2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"})
"""The versions of the legacy era, which begin with `initialize`. Any other belongs to the modern era."""

VERSION_HEADER = "mcp-protocol-version"

_CLIENT = {"name": "arrowslit-connector", "version": "1"}

ENVELOPE: Mapping[str, object] = {
    "_meta": {message.VERSION_KEY: "2026-07-28", message.CLIENT_KEY: _CLIENT, message.CAPABILITIES_KEY: {}}
}
"""The params of a modern request of our own that has no others."""

DISCOVER: tuple[str, object] = ("server/discover", ENVELOPE)
"""Method and params of the probe. Only a server of the modern era answers it with a result, or with -32022."""

INITIALIZE: tuple[str, object] = (
    "initialize",
    {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": _CLIENT},
)
"""Method and params of a handshake of our own."""

REMOVED = frozenset({"initialize", "logging/setLevel", "ping", "resources/subscribe", "resources/unsubscribe"})
"""What the modern era has no more. A server that serves both may answer it over stdio all the same."""

_UNSUPPORTED_VERSION = -32022  # MCP 2026-07-28


class _Discovered(msgspec.Struct, frozen=True):
    versions: list[str] | None = msgspec.field(name="supportedVersions", default=None)


class _Unsupported(msgspec.Struct, frozen=True):
    versions: list[str] | None = msgspec.field(name="supported", default=None)


class _Error(msgspec.Struct, frozen=True):
    code: int
    data: _Unsupported | None = None


def asks_modern(posted: Posted, version_header: str | None) -> bool:
    """Whether a message belongs to the modern era, whose requests name their version themselves.

    Notifications need not; there the header `MCP-Protocol-Version` says it.
    """
    return message.VERSION_KEY in posted.meta or names_modern(version_header)


def names_modern(version: str | None) -> bool:
    """Whether a version is one of the modern era; absent, it means 2025-03-26."""
    return version is not None and version not in HANDSHAKE_VERSIONS


def speaks_modern(said: Said) -> bool:
    """Whether this answer to the probe shows a server of the modern era (it may know the legacy one as well).

    A server that knows `server/discover` and offers legacy versions only is a legacy server.
    """
    try:
        if said.error:
            error = msgspec.json.decode(said.error, type=_Error)
            versions = error.data.versions if error.data is not None else None
            return error.code == _UNSUPPORTED_VERSION and (versions is None or _any_modern(versions))
        discovered = msgspec.json.decode(said.result, type=_Discovered)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return discovered.versions is not None and _any_modern(discovered.versions)


def _any_modern(versions: list[str]) -> bool:
    return any(map(names_modern, versions))
