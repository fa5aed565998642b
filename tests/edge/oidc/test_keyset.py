from __future__ import annotations

import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed448, rsa

from arrowslit.edge.oidc.issuer import ALGORITHMS
from arrowslit.edge.oidc.keyset import KeySet, read_keys, verifier
from tests.edge.oidc.kit import jwk, jwks, key


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_published_key_checks_signatures_of_its_algorithm(algorithm: str) -> None:
    keys, passed_over = read_keys(jwks(jwk(algorithm)), algorithm)
    found = keys.find("k1")
    signature = jwt.get_algorithm_by_name(algorithm).sign(b"signed", key(algorithm))

    assert passed_over == []
    assert verifier(algorithm)(b"signed", found, signature)
    assert not verifier(algorithm)(b"other", found, signature)
    assert not verifier(algorithm)(b"signed", found, b"")


def weak() -> dict[str, Any]:
    small = jwt.get_algorithm_by_name("RS256").to_jwk(rsa.generate_private_key(65537, 1024).public_key(), as_dict=True)
    return jwk("RS256") | {"n": small["n"]}


def ed448_key() -> dict[str, Any]:
    return jwt.get_algorithm_by_name("EdDSA").to_jwk(ed448.Ed448PrivateKey.generate().public_key(), as_dict=True)


def private() -> dict[str, Any]:
    return jwt.get_algorithm_by_name("RS256").to_jwk(key("RS256"), as_dict=True) | {"key_ops": ["sign", "verify"]}


def test_keys_for_anything_else_are_passed_over() -> None:
    others: list[tuple[Any, str]] = [
        ({"kty": "oct", "k": "c2VjcmV0", "kid": "k1", "alg": "RS256"}, "not for RS256"),
        (jwk("ES256"), "not for RS256"),
        (jwk("EdDSA"), "not for RS256"),
        (jwk("RS256", alg="PS256"), "not for signatures with RS256"),
        (jwk("RS256", alg="RSA-OAEP"), "not for signatures with RS256"),
        (jwk("RS256", alg=["RS256"]), "not for signatures with RS256"),
        (jwk("RS256", use="enc"), "not for signatures with RS256"),
        (jwk("RS256", key_ops=["encrypt"]), "not for verifying"),
        (jwk("RS256", key_ops="verify"), "not for verifying"),
        (jwk("RS256", kid=None) | {"kid": 7}, "its kid is not text"),
        (jwk("RS256", crv="P-256"), "not for RS256"),
        (private(), "its private half was published"),
        (weak(), "1024 bits"),
        (jwk("RS256", n="!"), "cannot be read"),
        (jwk("RS256", n=5), "cannot be read"),
        (jwk("RS256", e="AA"), "cannot be read"),
        ({"kty": "RSA"}, "cannot be read"),
        ("k1", "not an object"),
        (None, "not an object"),
    ]
    good = jwk("RS256", "good")

    keys, passed_over = read_keys(jwks(*(each for each, _ in others), good), "RS256")

    assert list(keys.named) == ["good"]
    assert [why.partition(": ")[2].partition(": ")[0].partition(",")[0] for why in passed_over] == [
        said for _, said in others
    ]


@pytest.mark.parametrize(
    ("algorithm", "key"), [("EdDSA", ed448_key()), ("ES256", jwk("ES384", alg="ES256")), ("ES384", jwk("ES256"))]
)
def test_a_curve_belongs_to_its_algorithm(algorithm: str, key: dict[str, Any]) -> None:
    assert read_keys(jwks(key), algorithm)[0] == KeySet()


def test_what_a_key_says_of_other_places_is_not_read() -> None:
    keys, _ = read_keys(
        jwks(jwk("ES256", x5u="https://evil.example", x5c=["AAAA"], jku="https://evil.example")), "ES256"
    )

    assert keys.find("k1") == key("ES256").public_key()


def test_two_keys_of_one_name_are_none() -> None:
    keys, passed_over = read_keys(jwks(jwk("ES256", "k"), jwk("ES256", "k", number=1), jwk("ES256", "other")), "ES256")

    assert list(keys.named) == ["other"]
    assert passed_over == ["several keys have the kid 'k'"]
    assert keys.find(None) is None


def test_the_same_key_twice_is_one_and_names_count_for_one_algorithm_only() -> None:
    keys, passed_over = read_keys(jwks(jwk("ES256"), jwk("ES256"), jwk("RS256")), "ES256")

    assert keys.find("k1") == keys.find(None) == key("ES256").public_key()
    assert passed_over == ["key 3: not for ES256"]


def test_a_key_without_a_name_is_found_where_it_is_the_only_one() -> None:
    nameless, named = jwk("ES256", None), jwk("ES256", "k1", number=1)

    assert read_keys(jwks(nameless), "ES256")[0].find(None) == key("ES256").public_key()
    assert read_keys(jwks(nameless), "ES256")[0].find("k1") is None
    both = read_keys(jwks(nameless, named), "ES256")[0]
    assert (both.find(None), both.find("k1")) == (None, key("ES256", 1).public_key())


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"{}",
        b'{"keys": {}}',
        b"<html>",
        b"\xff",
        b'{"keys": [], "keys": []}',
        b"[" * 100_000,
        json.dumps({"keys": [{}] * 101}).encode(),
    ],
)
def test_what_is_no_jwks_is_said_to_be_none(document: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  any of them
        read_keys(document, "ES256")


def test_a_jwks_may_be_empty() -> None:
    assert read_keys(jwks(), "ES256") == (KeySet(), [])
