"""What the two ends say before a link is open, and the bytes that each of them signs.

The relay speaks first (`Offer`), the connector answers (`Hello`), the relay decides (`Welcome` or `Refusal`). Each side
signs the other's nonce together with the tunnel, the TLS certificate between them, the version and the agreed
features, so that nothing of it can be replayed, dropped or exchanged by a middle that holds neither key (Ed25519, RFC
8032).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import msgspec

VERSIONS = (1,)
FEATURES = frozenset({"http-exchange"})
"""What this implementation can do; an exchange a stream is the one thing a link cannot do without."""
REQUIRED = frozenset({"http-exchange"})
MAX_HELLO = 8 * 1024


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """Relay to connector. `nonce` is 32 random bytes; `required` features cannot be left out of the answer."""

    versions: list[int]
    features: list[str]
    required: list[str]
    nonce: bytes


class Offered(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One server that a connector offers. `read_only` and `idempotent` are the tools that its ceiling declares so;
    `ceiling` is shown by `status` and decides nothing.
    """

    name: str
    read_only: list[str] = []
    idempotent: list[str] = []
    ceiling: str = ""


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """Connector to relay. `connector` names the state folder, `instance` the process, `key` is the Ed25519 public key.

    `certificate` is the SHA-256 of the relay's certificate (DER) as the connector saw it, None without TLS. `targets`
    are the servers that have names; without any the connector offers one that has none, and `read_only` and
    `idempotent` are the tools that its ceiling declares so. `facts` are shown by `status` and decide nothing.
    `beside`: the link before this one is good, and finishes what runs on it.
    """

    version: int
    features: list[str]
    nonce: bytes
    name: str
    connector: str
    instance: str
    key: bytes
    proof: bytes
    certificate: bytes | None = None
    read_only: list[str] = []
    idempotent: list[str] = []
    facts: dict[str, str] = {}
    targets: list[Offered] = []
    beside: bool = False


class Welcome(msgspec.Struct, frozen=True, kw_only=True):
    """Relay to connector: the link is open. `key` and `proof` are the relay's; `certificate` is the one that it was
    told about, None where it does not know (the binding is off). `token` is there only after a registration.
    """

    tunnel: str
    features: list[str]
    key: bytes
    proof: bytes
    certificate: bytes | None = None
    token: str | None = None
    pinned: bool = False


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Relay to connector: why there will be no link; a code of the registry, a sentence, the next step."""

    code: str
    message: str
    hint: str | None = None


class Disagreement(Exception):
    """No common version, or a required feature is missing. The text says which."""


_Said = TypeVar("_Said", Offer, Hello, Welcome, Refusal)
_encoder = msgspec.json.Encoder()


def encode(said: Offer | Hello | Welcome | Refusal) -> bytes:
    """JSON, UTF-8; bytes as base64 (RFC 4648, 4)."""
    return _encoder.encode(said)


def decode(payload: bytes, kind: type[_Said]) -> _Said:
    """Read one of the four. Raises Disagreement for anything that is not one, or is over MAX_HELLO bytes.

    Members that this version does not know are skipped, so that a later one may add some.
    """
    if len(payload) > MAX_HELLO:
        raise Disagreement(f"{kind.__name__} of {len(payload)} bytes")
    try:
        return msgspec.json.decode(payload, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Disagreement(f"not a valid {kind.__name__}: {error}") from error


def agree(
    offer: Offer, *, versions: Iterable[int] = VERSIONS, features: frozenset[str] = FEATURES
) -> tuple[int, list[str]]:
    """The highest common version, and the common features in order. Raises Disagreement."""
    common = set(offer.versions) & set(versions)
    if not common:
        raise Disagreement(f"the relay speaks versions {sorted(offer.versions)}, this connector {sorted(versions)}")
    missing = (set(offer.required) - features) | (REQUIRED - set(offer.features))
    if missing:
        raise Disagreement(f"required features are missing: {', '.join(sorted(missing))}")
    return max(common), sorted(features & set(offer.features))


def relay_statement(nonce: bytes, certificate: bytes | None) -> bytes:
    """The bytes that a relay signs for somebody without a link, such as a sandbox worker: the other's nonce, and the
    certificate that it vouches for.
    """
    return _signed(b"arrowslit/relay/1", nonce, certificate or b"")


def _signed(*fields: bytes) -> bytes:
    """Every field preceded by its length (32 bits)."""
    return b"".join(struct.pack(">I", len(field)) + field for field in fields)


@dataclass(frozen=True, slots=True)
class Transcript:
    """What both ends have said by the time they sign it."""

    offer_nonce: bytes
    hello_nonce: bytes
    tunnel: str
    version: int
    features: Sequence[str]

    def signed_by(self, speaker: Literal["relay", "connector"], certificate: bytes | None) -> bytes:
        """The bytes that `speaker` signs."""
        return _signed(
            b"arrowslit/hello/1",
            speaker.encode(),
            self.offer_nonce,
            self.hello_nonce,
            self.tunnel.encode(),
            certificate or b"",
            str(self.version).encode(),
            ",".join(sorted(self.features)).encode(),
        )
