"""Credential: the shape of our tokens and keys, how they are derived, and the keyed hash that is all we store of them.

`asl_sk_` + 43 base62 characters (256 bits) + 6 base62 characters of CRC-32: a prefix and a checksum make a leaked
secret findable without false positives, and refuse a typo before any look-up. A 256-bit random secret needs a fast
hash, not a slow one: argon2 on the request path would be a lever for denial of service, and adds nothing here.
"""

from __future__ import annotations

import hashlib
import hmac
import zlib
from dataclasses import dataclass
from enum import StrEnum

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SECRET_CHARS = 43  # 62**43 > 2**256
_CHECK_CHARS = 6  # 62**6 > 2**32


class CredentialKind(StrEnum):
    """What a credential is for; each kind has its own prefix and opens one kind of door."""

    API_KEY = "sk"
    TUNNEL_TOKEN = "tun"
    REGISTRATION_TOKEN = "reg"
    ENVIRONMENT_KEY = "env"
    SESSIONS_TOKEN = "wrk"


def encode(kind: CredentialKind, secret: bytes) -> str:
    """The text of a credential for 32 secret bytes."""
    if len(secret) != 32:
        raise ValueError("a credential holds 32 bytes")
    body = f"asl_{kind.value}_{_base62(int.from_bytes(secret), _SECRET_CHARS)}"
    return body + _base62(zlib.crc32(body.encode()), _CHECK_CHARS)


def kind_of(text: str) -> CredentialKind | None:
    """The kind of a well-formed credential: right prefix, length and checksum. None for anything else."""
    for kind in CredentialKind:
        prefix = f"asl_{kind.value}_"
        if text.startswith(prefix) and len(text) == len(prefix) + _SECRET_CHARS + _CHECK_CHARS and text.isascii():
            body, check = text[:-_CHECK_CHARS], text[-_CHECK_CHARS:]
            return kind if _base62(zlib.crc32(body.encode()), _CHECK_CHARS) == check else None
    return None


@dataclass(frozen=True, slots=True)
class RootKey:
    """32 random bytes in the state folder, from which everything else that is secret here is derived."""

    secret: bytes

    def derive(self, purpose: str) -> bytes:
        """32 bytes for one purpose: HKDF-SHA256 (RFC 5869) with an empty salt and the purpose as info."""
        extracted = hmac.digest(b"\0" * 32, self.secret, "sha256")
        return hmac.digest(extracted, b"arrowslit/" + purpose.encode() + b"\x01", "sha256")

    def tunnel_token(self, tunnel_id: str, generation: int) -> str:
        """The token of one generation of a tunnel: the same each time, and not in the database."""
        return encode(CredentialKind.TUNNEL_TOKEN, self.derive(f"tunnel-token/{tunnel_id}/{generation}"))


@dataclass(frozen=True, slots=True)
class Hasher:
    """The keyed hash of a credential: what the database holds and looks up. A copy of the database reveals nothing."""

    pepper: bytes

    def __call__(self, credential: str) -> str:
        """HMAC-SHA256 in hex. A look-up by it takes no time that depends on how much of a guess was right."""
        return hmac.digest(self.pepper, credential.encode(), hashlib.sha256).hex()


def _base62(number: int, width: int) -> str:
    digits = []
    while number:
        number, rest = divmod(number, 62)
        digits.append(_ALPHABET[rest])
    return "".join(reversed(digits)).rjust(width, "0")
