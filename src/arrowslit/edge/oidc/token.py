"""PURE: a token (a signed JWT, RFC 7519 and RFC 8725) taken apart, and what its claims say to us."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from arrowslit.edge.oidc.issuer import Issuer
from arrowslit.edge.oidc.strict import read_object
from arrowslit.errors import Error
from arrowslit.principal import Principal, Tenant, check_tenant

MAX_TOKEN = 8 * 1024  # characters; a whole head has 16 KiB
MAX_SUBJECT = 255  # OpenID Connect Core 1.0, section 2
MAX_AGENTS = 256
MAX_KID = 256

_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})  # RFC 7519, section 5.1; RFC 9068, section 2.1
_OF_ID_TOKENS = ("nonce", "at_hash", "c_hash")  # OpenID Connect Core 1.0: told to a client, and meant for nobody else


@dataclass(frozen=True, slots=True)
class Token:
    """A token whose signature nobody has checked: what it says is good for finding the key to check it with."""

    algorithm: object
    kid: str | None
    issuer: object
    claims: Mapping[str, Any]
    signed: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Claims:
    """Who a token stands for. `agents` are names or ids, `expires_at` Unix seconds."""

    id: str
    tenant: Tenant
    agents: frozenset[str]
    expires_at: float


class TokenRefused(Exception):
    """A token that is properly signed and not good here. Its text is for the log of whoever runs the relay."""


def read(text: str) -> Token | None:
    """The token in `text`, None for what is none, or asks for more than a signature in its header (`crit`,
    `b64`, `zip`: nothing that a stranger sent is ever inflated).

    What a header says about where keys are (`jku`, `jwk`, `x5u`, `x5c`) is not read.
    """
    parts = _COMPACT.fullmatch(text) if len(text) <= MAX_TOKEN else None
    if parts is None:
        return None
    try:
        header, claims = (read_object(_decoded(part)) for part in parts.group(1, 2))
        signature = _decoded(parts[3])
    except ValueError:
        return None
    kid, kind = header.get("kid"), header.get("typ", "JWT")
    if not header.keys().isdisjoint(("crit", "b64", "zip")) or not isinstance(kind, str) or kind.lower() not in _TYPES:
        return None
    if "kid" in header and not (isinstance(kid, str) and 0 < len(kid) <= MAX_KID):
        return None
    return Token(header.get("alg"), kid, claims.get("iss"), claims, text[: parts.end(2)].encode(), signature)


def judge(claims: Mapping[str, Any], issuer: Issuer, now: float) -> Claims:
    """What the claims of a token that `issuer` signed say. A token for several audiences is refused: another of them
    could have passed it on. Raises TokenRefused, with the reason, for one that is not for us, not now, or does not say
    whom it stands for.
    """
    if claims.get("aud") not in (issuer.audience, [issuer.audience]):
        raise TokenRefused("its audience is another")
    for name in _OF_ID_TOKENS:
        if name in claims:
            raise TokenRefused(f"it is an ID token (it has {name}); an access token is asked for")
    expires_at = _times(claims, issuer, now)
    subject, tenant = claims.get("sub"), claims.get(issuer.tenant_claim)
    if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT:
        raise TokenRefused("it has no subject")
    if not isinstance(tenant, str):
        raise TokenRefused(f"its claim {issuer.tenant_claim!r} is no text, so it has no tenant")
    try:
        tenant = check_tenant(tenant)
    except Error:
        raise TokenRefused(f"its claim {issuer.tenant_claim!r} is not a valid tenant") from None
    return Claims(_id(issuer.issuer, subject, tenant), tenant, _agents(claims, issuer), expires_at)


def principal(claims: Claims, issuer: Issuer, agents: frozenset[str]) -> Principal:
    """The principal of a token. `agents` are the ids of those that it names."""
    return Principal(claims.id, claims.tenant, issuer.scopes, agents, claims.expires_at)


def _times(claims: Mapping[str, Any], issuer: Issuer, now: float) -> float:
    """When the token ends. `leeway` is for clocks that differ, so it counts at both ends."""
    ends = [_time(claims, "exp")]
    begins = [_time(claims, name) for name in ("nbf", "iat") if name in claims]
    if issuer.max_age is not None:
        ends.append(_time(claims, "iat") + issuer.max_age)
    expires_at = min(ends) + issuer.leeway
    if now >= expires_at:
        raise TokenRefused("it has expired")
    if any(now < begin - issuer.leeway for begin in begins):
        raise TokenRefused("it is from the future")
    return expires_at


def _time(claims: Mapping[str, Any], name: str) -> float:
    """A NumericDate (RFC 7519, section 2)."""
    value = claims.get(name)
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 <= value < 1e11
        or not math.isfinite(value)
    ):
        raise TokenRefused(f"its claim {name!r} is no time")
    return float(value)


def _agents(claims: Mapping[str, Any], issuer: Issuer) -> frozenset[str]:
    if issuer.agents_claim is None:
        return issuer.agents or frozenset()
    listed = claims.get(issuer.agents_claim)
    if not isinstance(listed, list) or len(listed) > MAX_AGENTS or not all(isinstance(each, str) for each in listed):
        raise TokenRefused(f"its claim {issuer.agents_claim!r} is no list of agents")
    return frozenset(listed)


def _id(issuer: str, subject: str, tenant: str) -> str:
    """The same for every token of one subject in one tenant, and for nobody else: whoever is a member of two tenants is
    two principals, so that nothing which is bound to a principal leads from one into the other.
    """
    return "jwt_" + hashlib.sha256(json.dumps([issuer, subject, tenant]).encode()).hexdigest()[:32]


def _decoded(part: str) -> bytes:
    """base64url without padding (RFC 7515, section 2), one spelling for each content. Raises ValueError."""
    try:
        found = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("not base64url") from error
    if base64.urlsafe_b64encode(found).rstrip(b"=") != part.encode():
        raise ValueError("not the one spelling of this content")
    return found
