from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrowslit.credential import CredentialKind, Hasher, RootKey, encode, kind_of

secrets = st.binary(min_size=32, max_size=32)


@given(secret=secrets, kind=st.sampled_from(CredentialKind))
def test_a_credential_says_its_kind(secret: bytes, kind: CredentialKind) -> None:
    assert kind_of(encode(kind, secret)) is kind


@given(secret=secrets, at=st.integers(0, 54), other=st.sampled_from("0aZ_-é"))
def test_a_changed_character_is_noticed_before_any_look_up(secret: bytes, at: int, other: str) -> None:
    text = encode(CredentialKind.API_KEY, secret)
    changed = text[:at] + other + text[at + 1 :]
    assert (kind_of(changed) is None) == (changed != text)


@pytest.mark.parametrize(
    "spoil", [str.upper, lambda t: t[:-1], lambda t: t + "0", lambda t: t + "\u200b", lambda t: " " + t]
)
def test_a_spoilt_credential_is_none(spoil: object) -> None:
    text = encode(CredentialKind.TUNNEL_TOKEN, os.urandom(32))
    assert kind_of(spoil(text)) is None  # type: ignore[operator]


def test_a_tunnels_token_is_the_same_each_time_and_another_for_each_generation_tunnel_and_relay() -> None:
    root = RootKey(b"r" * 32)
    assert root.tunnel_token("tnl_a", 1) == root.tunnel_token("tnl_a", 1)
    others = {root.tunnel_token("tnl_a", 2), root.tunnel_token("tnl_b", 1), RootKey(b"s" * 32).tunnel_token("tnl_a", 1)}
    assert len(others | {root.tunnel_token("tnl_a", 1)}) == 4


def test_what_is_derived_is_hkdf_sha256_with_the_purpose_as_info() -> None:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    expected = HKDF(SHA256(), 32, salt=None, info=b"arrowslit/purpose").derive(b"r" * 32)
    assert RootKey(b"r" * 32).derive("purpose") == expected


def test_the_hash_of_a_credential_depends_on_the_pepper() -> None:
    assert Hasher(b"a")("x") == Hasher(b"a")("x") != Hasher(b"b")("x")
