from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from arrowslit.ledger.chain import Fault
from arrowslit.ledger.head import Head, fingerprint, read_head, sign_head
from tests.ledger.scene import PUBLIC, SIGNER, TS

HEAD = Head(41, "ab" * 32, TS, 40)


def test_a_signed_head_can_be_read_back() -> None:
    content = sign_head(HEAD, SIGNER)

    assert read_head(content, PUBLIC) == HEAD
    assert json.loads(content)["key"] == fingerprint(PUBLIC)


@pytest.mark.promise("P12")
@given(st.integers(0, len(sign_head(HEAD, SIGNER)) - 1), st.integers(0, 255))
def test_no_byte_of_a_head_can_be_changed(at: int, byte: int) -> None:
    content = bytearray(sign_head(HEAD, SIGNER))
    changed = content[at] != byte
    content[at] = byte

    assert isinstance(read_head(bytes(content), PUBLIC), Fault) == changed


@pytest.mark.promise("P12")
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cannot be read"),
        (b"{}", "cannot be read"),
        (sign_head(HEAD, SIGNER)[:-1], "was changed"),
        (sign_head(HEAD, SIGNER) + b"\n", "was changed"),
        (sign_head(HEAD, SIGNER).replace(b'"seq":41', b'"seq":40'), "has a signature that does not fit"),
        (sign_head(HEAD, SIGNER).replace(b'"state":"open"', b'"state":"closed"'), "has a signature that does not fit"),
        (sign_head(HEAD, SIGNER).replace(b'"open_from":40', b'"open_from":41'), "has a signature that does not fit"),
        (sign_head(HEAD, Ed25519PrivateKey.from_private_bytes(b"o" * 32)), "was signed with another key"),
    ],
)
def test_a_head_of_somebody_else_is_refused(content: bytes, reason: str) -> None:
    found = read_head(content, PUBLIC)

    assert isinstance(found, Fault)
    assert found.reason == reason
