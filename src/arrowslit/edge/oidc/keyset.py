"""PURE: the keys of an issuer, out of the JWKS that it publishes (RFC 7517), for the one algorithm it was pinned to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from arrowslit.edge.oidc.strict import read_object

MAX_KEYS = 100  # that is looked at; those who publish most have a dozen
RSA_BITS = range(2048, 8192 + 1)  # RFC 7518, section 3.3; above, a check takes too long on the way of a call

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

_CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521", "EdDSA": "Ed25519"}
_MEMBERS = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x")}  # of the public half


@dataclass(frozen=True, slots=True)
class KeySet:
    """Keys by `kid`, and `only`, which is the one key where there is just one, for tokens without a `kid`."""

    named: Mapping[str, PublicKey] = field(default_factory=dict)
    only: PublicKey | None = None

    def find(self, kid: str | None) -> PublicKey | None:
        """The key that a token names; None for none, for there is no second guess."""
        return self.only if kid is None else self.named.get(kid)


def read_keys(document: bytes, algorithm: str) -> tuple[KeySet, list[str]]:
    """The keys in a JWKS that check signatures of `algorithm`, and why others were passed over, a line each.

    Raises ValueError for what is no JWKS. One that holds no such key is an empty KeySet: the issuer took them back.
    """
    listed = read_object(document).get("keys")
    if not isinstance(listed, list):
        raise ValueError("it has no list of keys")
    if len(listed) > MAX_KEYS:
        raise ValueError(f"it has more than {MAX_KEYS} keys")
    found: list[tuple[str | None, PublicKey]] = []
    passed_over: list[str] = []
    for number, each in enumerate(listed, 1):
        key = _key(each, algorithm)
        if isinstance(key, str):
            passed_over.append(f"key {number}: {key}")
        elif (each.get("kid"), key) not in found:
            found.append((each.get("kid"), key))
    kids = [kid for kid, _ in found]
    twice = {kid for kid in kids if kid is not None and kids.count(kid) > 1}
    passed_over += [f"several keys have the kid {kid!r}" for kid in sorted(twice)]
    named = {kid: key for kid, key in found if kid is not None and kid not in twice}
    return KeySet(named, found[0][1] if len(found) == 1 else None), passed_over


def verifier(algorithm: str) -> Callable[[bytes, Any, bytes], bool]:
    """verify(signed bytes, key, signature) of one algorithm; a token has no say in which it is."""
    return jwt.get_algorithm_by_name(algorithm).verify


def _key(jwk: object, algorithm: str) -> PublicKey | str:
    """The public key, or why it is none of ours. Only the members of a public key are read (no x5u, no x5c)."""
    if not isinstance(jwk, dict):
        return "not an object"
    kind, curve = _kind(algorithm)
    kid, operations = jwk.get("kid"), jwk.get("key_ops", ["verify"])
    if jwk.get("kty") != kind or jwk.get("crv") != curve:
        return f"not for {algorithm}"
    if jwk.get("alg", algorithm) != algorithm or jwk.get("use", "sig") != "sig":
        return f"not for signatures with {algorithm}"
    if not isinstance(operations, list) or "verify" not in operations:
        return "not for verifying"
    if kid is not None and not isinstance(kid, str):
        return "its kid is not text"
    if "d" in jwk:
        return "its private half was published, so anybody could sign with it"
    try:
        key = jwt.PyJWK({"kty": kind} | {name: jwk[name] for name in _MEMBERS[kind]}, algorithm).key
    except (jwt.PyJWTError, ValueError, KeyError, TypeError) as error:
        return f"cannot be read: {type(error).__name__}"
    if isinstance(key, RSAPublicKey) and key.key_size not in RSA_BITS:
        return f"{key.key_size} bits"
    assert isinstance(key, RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey)  # by kty and crv, and without d
    return key


def _kind(algorithm: str) -> tuple[str, str | None]:
    """`kty` and `crv` of the keys of an algorithm."""
    if algorithm == "EdDSA":
        return "OKP", _CURVES[algorithm]
    return ("EC", _CURVES[algorithm]) if algorithm.startswith("ES") else ("RSA", None)
