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


_KINDS = {f"asl_{kind.value}_": kind for kind in CredentialKind}


def encode(kind: CredentialKind, secret: bytes) -> str:
    """The text of a credential for 32 secret bytes."""
    if len(secret) != 32:
        raise ValueError("a credential holds 32 bytes")
    body = f"asl_{kind.value}_{_base62(int.from_bytes(secret), _SECRET_CHARS)}"
    return body + _check(body)


def kind_of(text: str) -> CredentialKind | None:
    """The kind of a well-formed credential: right prefix, length and checksum. None for anything else."""
    kind = _KINDS.get(text[: -(_SECRET_CHARS + _CHECK_CHARS)])
    if kind is None or not text.isascii():
        return None
    return kind if _check(text[:-_CHECK_CHARS]) == text[-_CHECK_CHARS:] else None


class Mac:
    """HMAC-SHA256 (RFC 2104) with one key, of which the first half of the work is done once: it is asked for several
    times in every call, and OpenSSL would begin each time with looking up what SHA-256 is.
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        block = (hashlib.sha256(key).digest() if len(key) > 64 else key).ljust(64, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def __call__(self, data: bytes) -> bytes:
        """The 32 bytes for `data`."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(data)
        outer.update(inner.digest())
        return outer.digest()


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


class Hasher:
    """The keyed hash of a credential: what the database holds and looks up. A copy of the database reveals nothing."""

    def __init__(self, pepper: bytes) -> None:
        self._mac = Mac(pepper)

    def __call__(self, credential: str) -> str:
        """HMAC-SHA256 in hex. A look-up by it takes no time that depends on how much of a guess was right."""
        return self._mac(credential.encode()).hex()


def _check(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECK_CHARS)


def _base62(number: int, width: int) -> str:
    digits = []
    while number:
        number, rest = divmod(number, 62)
        digits.append(_ALPHABET[rest])
    return "".join(reversed(digits)).rjust(width, "0")
