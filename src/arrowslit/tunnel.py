"""Tunnel, and Server (one MCP server offered through a tunnel); the ports Tunnels, Calls and Answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from arrowslit.principal import Principal

Headers = Sequence[tuple[str, str]]
"""HTTP fields in order: lower-case name, value without surrounding whitespace (RFC 9110, 5.5)."""


class KeyBinding(StrEnum):
    """Whether a tunnel belongs to the connector key that came first, or to whoever holds the token."""

    PINNED = "pinned"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A named outbound path. `connector_key` is the pinned Ed25519 public key (32 bytes), None until the first connect.

    `refused_key` is the last other key that came with a right token: what `tunnel approve` would pin.
    """

    id: str
    name: str
    tenant_optional: bool = False
    key_binding: KeyBinding = KeyBinding.PINNED
    connector_key: bytes | None = None
    refused_key: bytes | None = None
    created_at: float = 0.0
    archived_at: float | None = None


@dataclass(frozen=True, slots=True)
class Server:
    """One MCP server as an agent knows it: its name there, and the tunnel it is behind."""

    name: str
    tunnel_id: str


@dataclass(frozen=True, slots=True)
class Exchange:
    """One HTTP request at the MCP door, already bounded in size: method in upper case, header names in lower case."""

    method: str
    headers: Headers
    body: bytes


class Tunnels(Protocol):
    """Where tunnels are looked up on the way of a call: in memory, without waiting."""

    def get(self, tunnel_id: str) -> Tunnel | None:
        """The tunnel of that id, None if there is none or it is archived."""
        ...


class Answer(Protocol):
    """Where the answer of one exchange goes, piece by piece. All return at once but `drain`, for a slow reader."""

    def head(self, status: int, headers: Headers) -> None:
        """The response head, once. Nothing can be taken back afterwards."""
        ...

    def piece(self, data: bytes) -> None:
        """A piece of the body, in order."""
        ...

    def end(self) -> None:
        """The body is complete."""
        ...

    def abort(self) -> None:
        """The body stays visibly unfinished: the connection is closed without its proper end."""
        ...

    async def drain(self) -> None:
        """Wait until the reader has taken enough of what was written."""
        ...


class Calls(Protocol):
    """The gate. People, programs and the agent loop reach a private server through it and in no other way."""

    async def call(self, principal: Principal, agent: str, server: str, exchange: Exchange, answer: Answer) -> None:
        """Carry one exchange to the server and its answer back, or answer with the error that says why not."""
        ...
