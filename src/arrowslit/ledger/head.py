"""Head: how far the ledger reached, signed and kept outside of its folder, so that a cut end shows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from arrowslit.ledger.chain import GENESIS, Fault

_CONTEXT = b"arrowslit ledger head 1\n"  # a signature over anything else can never be taken for one over a head

State = Literal["open", "closing", "closed"]


@dataclass(frozen=True, slots=True)
class Head:
    """The last record known to be on disk.

    `seq` and `hash` are that record's (0 and GENESIS before the first). `ts` is when the head was made, RFC 3339.
    `open_from` is the oldest call without an outcome, or `seq + 1`: a start looks for orphans from there. `state` says
    what may follow: anything while `open`, the one record `stopped` while `closing`, nothing once `closed`. A head is
    put in place before what it permits is written, so that a relay may be killed, or read, at any moment between.
    """

    seq: int = 0
    hash: str = GENESIS
    ts: str = ""
    open_from: int = 1
    state: State = "open"

    def canonical(self) -> bytes:
        """The bytes that are signed: JSON with sorted keys and no spaces."""
        return _encode(self)


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A head as it lies on disk."""

    hash: str
    key: str
    open_from: int
    seq: int
    signature: str
    state: State
    ts: str


_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder(_File).decode


def fingerprint(key: Ed25519PublicKey) -> str:
    """SHA-256 of the 32 bytes of the key, in hex."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()


def sign_head(head: Head, key: Ed25519PrivateKey) -> bytes:
    """The content of the head's file: one line of canonical JSON with signature (hex) and the key's fingerprint."""
    signature = key.sign(_CONTEXT + head.canonical()).hex()
    return _file(head, signature, fingerprint(key.public_key()))


def read_head(content: bytes, key: Ed25519PublicKey) -> Head | Fault:
    """The head in a file's content if it is, byte for byte, what the holder of `key` signed; else what is wrong."""
    try:
        file = _decode(content)
        signature = bytes.fromhex(file.signature)
    except (msgspec.DecodeError, ValueError):
        return Fault(None, "cannot be read")
    head = Head(file.seq, file.hash, file.ts, file.open_from, file.state)
    if file.key != fingerprint(key):
        return Fault(head.seq, "was signed with another key")
    try:
        key.verify(signature, _CONTEXT + head.canonical())
    except InvalidSignature:
        return Fault(head.seq, "has a signature that does not fit")
    if content != _file(head, signature.hex(), file.key):
        return Fault(head.seq, "was changed")
    return head


def _file(head: Head, signature: str, key: str) -> bytes:
    return _encode(_File(head.hash, key, head.open_from, head.seq, signature, head.state, head.ts)) + b"\n"
