"""Tunnel, its token, and Server (one MCP server offered through a tunnel); the ports Tunnels, Enrolment, TunnelAdmin,
Certificates, Links, Calls and Answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from arrowslit.errors import Error
from arrowslit.ids import tunnel_name

if TYPE_CHECKING:
    from arrowslit.principal import Principal

_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")

Headers = Sequence[tuple[str, str]]
"""HTTP fields in order: lower-case name, value without surrounding whitespace (RFC 9110, 5.5)."""


class KeyBinding(StrEnum):
    """Whether a tunnel belongs to the connector key that came first, or to whoever holds the token."""

    PINNED = "pinned"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A named outbound path. `connector_key` is the pinned Ed25519 public key (32 bytes), None until the first connect.

    `refused_key` is the last other key that came with a right token: what `tunnel approve` would pin. `generation` is
    that of its token: the current one, or, in the answer of `tunnel_by_token`, that of the token that was presented.
    """

    id: str
    name: str
    tenant_optional: bool = False
    key_binding: KeyBinding = KeyBinding.PINNED
    connector_key: bytes | None = None
    refused_key: bytes | None = None
    created_at: float = 0.0
    archived_at: float | None = None
    display_name: str | None = None
    generation: int = 1


@dataclass(frozen=True, slots=True)
class TokenState:
    """What may be shown of a tunnel's token. Times are Unix seconds, None for "not yet" and "never".

    `expires_at` is the end of a token that nobody has used so far; `previous_until` the end of the generation before.
    """

    generation: int
    issued_at: float
    used_at: float | None
    expires_at: float | None
    previous_until: float | None


@dataclass(frozen=True, slots=True)
class Registration:
    """What a registration token permits: to create tunnels whose name matches, once each, until its date.

    `pattern` is a tunnel name, or one with a single `*` that stands for any characters, none included.
    """

    id: str
    pattern: str
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    name: str | None = None
    last_four: str = ""

    def matches(self, name: str) -> bool:
        """Whether the pattern covers that tunnel name."""
        head, star, tail = self.pattern.partition("*")
        if not star:
            return name == head
        return len(name) >= len(head) + len(tail) and name.startswith(head) and name.endswith(tail)

    def live(self, now: float) -> bool:
        """Whether it still permits anything."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True, slots=True)
class TunnelArchived:
    """The tunnel is no more, its token is dead: close its links."""

    tunnel_id: str


@dataclass(frozen=True, slots=True)
class TunnelChanged:
    """A tunnel was created, or its pinned key, its refused key or its token changed."""

    tunnel_id: str


@dataclass(frozen=True, slots=True)
class TokenRevoked:
    """Tokens of this tunnel below `generation` are dead at once: close the links that came with one of them."""

    tunnel_id: str
    generation: int


@dataclass(frozen=True, slots=True)
class Server:
    """One MCP server as an agent knows it: its name there, and the tunnel it is behind.

    `target` is its name at the connector, None for the only one that is offered there.
    """

    name: str
    tunnel_id: str
    target: str | None = None

    @property
    def host(self) -> str:
        """Where it is below the tunnel domain: `TUNNEL`, or `TARGET.TUNNEL`."""
        tunnel = tunnel_name(self.tunnel_id)
        return tunnel if self.target is None else f"{self.target}.{tunnel}"


@dataclass(frozen=True, slots=True)
class Exchange:
    """One HTTP request at the MCP door, already bounded in size: method in upper case, header names in lower case.

    `call_id` is set by callers inside this process only, who have to know the id of a call before it leaves; each is
    used once. What comes over a network is given its id by the relay.
    """

    method: str
    headers: Headers
    body: bytes
    call_id: str | None = None


class Tunnels(Protocol):
    """Where tunnels are looked up on the way of a call: in memory, without waiting."""

    def get(self, tunnel_id: str) -> Tunnel | None:
        """The tunnel of that id, None if there is none or it is archived."""
        ...


class Enrolment(Protocol):
    """What the relay asks when a connector dials in. The two look-ups are in memory; the rest is on disk on return."""

    def tunnel_by_token(self, token: str) -> Tunnel | None:
        """The tunnel that this token opens now. None for one that is unknown, rotated out, archived,
        or was never used within 24 h.

        `generation` of the answer is the token's own, for `mark_used`.
        """
        ...

    def registration(self, token: str) -> Registration | None:
        """What this registration token permits now. None if it is unknown, revoked or expired."""
        ...

    async def register(self, registration: Registration, name: str, connector_key: bytes) -> tuple[Tunnel, str]:
        """Create the tunnel of that name, pinned to that key; return it with its token.

        The same registration and key may ask again and get the same tunnel. Raises Error `registration_refused` if the
        name is not covered, `name_taken` if the tunnel exists otherwise.
        """
        ...

    async def pin(self, tunnel_id: str, connector_key: bytes) -> Tunnel:
        """Bind the tunnel to the first key that connects. Raises Error `key_mismatch` if another came first."""
        ...

    async def remember_refused(self, tunnel_id: str, connector_key: bytes) -> None:
        """Keep the key that was refused, for `approve`."""
        ...

    async def mark_used(self, tunnel_id: str, generation: int) -> None:
        """Note that a link was opened with that generation's token: it no longer expires for want of use."""
        ...


class TunnelAdmin(Protocol):
    """What an administrator does with tunnels. Raises Error `tunnel_not_found`, or `archived` where that forbids it."""

    async def create(
        self,
        name: str,
        *,
        display_name: str | None = None,
        tenant_optional: bool = False,
        key_binding: KeyBinding = KeyBinding.PINNED,
    ) -> Tunnel:
        """A new tunnel. Raises Error `name_taken`, also for the name of an archived one."""
        ...

    def read(self, tunnel_id: str) -> Tunnel:
        """The tunnel, archived or not."""
        ...

    def every(self) -> Sequence[Tunnel]:
        """All tunnels, archived ones too, newest first."""
        ...

    def token_state(self, tunnel_id: str) -> TokenState:
        """What may be shown of its token."""
        ...

    async def archive(self, tunnel_id: str) -> Tunnel:
        """End it for good. Again: the same answer."""
        ...

    async def reveal_token(self, tunnel_id: str) -> tuple[int, str]:
        """Generation and text of the current token; of a new one if the current one expired unused."""
        ...

    async def rotate_token(self, tunnel_id: str, *, grace: float = 0, revoke: bool = False) -> tuple[int, str]:
        """Issue the next generation; the one before opens links for `grace` seconds more.

        With `revoke` it opens none, and links that came with it are closed.
        """
        ...

    async def approve(self, tunnel_id: str, fingerprint: str | None = None) -> Tunnel:
        """Pin the key that was refused last; `fingerprint`, if given, must be that key's, so that nobody swaps it."""
        ...


@dataclass(frozen=True, slots=True)
class Certificate:
    """A CA certificate that somebody registered for a tunnel, in PEM. It is kept and shown; nothing is checked against
    it. `fingerprint` is the SHA-256 of its DER form in hex. Times are Unix seconds.
    """

    id: str
    tunnel_id: str
    fingerprint: str
    pem: str
    created_at: float
    expires_at: float | None = None
    archived_at: float | None = None


class Certificates(Protocol):
    """The certificates of tunnels. They are archived with their tunnel. Raises Error `tunnel_not_found`."""

    async def create(self, tunnel_id: str, pem: str, fingerprint: str, expires_at: float) -> Certificate:
        """Keep a certificate. One that is there and not archived is returned as it is.

        Raises Error `archived` for an archived tunnel, `validation_error` if two others are not archived.
        """
        ...

    async def read(self, tunnel_id: str, certificate_id: str) -> Certificate:
        """The certificate, archived or not. Raises Error `certificate_not_found`."""
        ...

    async def of(self, tunnel_id: str) -> Sequence[Certificate]:
        """All of a tunnel, archived ones too, newest first."""
        ...

    async def archive(self, tunnel_id: str, certificate_id: str) -> Certificate:
        """Give one up. Again: the same answer. Raises Error `certificate_not_found`."""
        ...


class Links(Protocol):
    """What is known of the connectors that serve a tunnel now."""

    def check(self, server: Server) -> None:
        """Raise Error `server_ambiguous` if several servers are offered and `server` does not say which one it is."""
        ...

    def status(self, tunnel_id: str) -> Mapping[str, object]:
        """Facts for `tunnel status`: JSON values only."""
        ...


class Answer(Protocol):
    """Where the answer of one exchange goes, piece by piece. All return at once but `drain`, for a slow reader."""

    def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """A complete answer, in place of all the others; its length is added to the headers.

        Headers that come again with other answers are a tuple, which may be remembered.
        """
        ...

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


def check_pattern(text: str) -> str:
    """`text` as the pattern of a Registration, or Error `validation_error`."""
    plain = text.replace("*", "", 1)
    if len(text) > 63 or not text or text[0] == "-" or text[-1] == "-" or set(plain) - _NAME_CHARACTERS:
        raise Error(
            "validation_error",
            f"{text!r} is not a pattern of tunnel names",
            hint="write a tunnel name, in which one * may stand for any characters: edge-*",
        )
    return text


def fingerprint(public_key: bytes) -> str:
    """How a connector's key is shown to people: `sha256:` and the hash of its 32 bytes in hex."""
    return "sha256:" + hashlib.sha256(public_key).hexdigest()
