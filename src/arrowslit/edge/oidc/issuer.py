"""PURE: an issuer whose tokens are believed, pinned by the operator in the file of `serve --oidc`."""

from __future__ import annotations

import ipaddress
import tomllib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from arrowslit.errors import Error
from arrowslit.principal import Scope

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Asymmetric ones (RFC 7518, RFC 8037). With HS256 whoever can check a token could make one."""

GRANTED = frozenset({Scope.INVOKE, Scope.CONFIRM, Scope.ADMIN})
"""What a token may be good for. Minting is for keys: what a key minted ends with it, and a token cannot be revoked."""

MAX_ISSUERS = 64

_Text = Annotated[str, Meta(min_length=1, max_length=512)]


class Issuer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[issuer]]` of the file. `issuer` and `audience` are compared as they stand, character by character.

    `tenant_claim` and `agents_claim` are names of claims at the top of a token (no paths: `https://x.example/org` is
    one name). `agents` are names or ids, `max_age` and `leeway` seconds. Without `jwks_url` the keys are where
    OpenID Connect Discovery 1.0 says.
    """

    issuer: _Text
    audience: _Text
    algorithm: str
    tenant_claim: _Text
    jwks_url: _Text | None = None
    agents: frozenset[_Text] | None = None
    agents_claim: _Text | None = None
    scopes: frozenset[Scope] = frozenset({Scope.INVOKE})
    max_age: Annotated[int, Meta(ge=1, le=365 * 86400)] | None = None
    leeway: Annotated[int, Meta(ge=0, le=300)] = 30

    @property
    def discovery_url(self) -> str:
        """Where the issuer says where its keys are (OpenID Connect Discovery 1.0, section 4)."""
        return self.issuer.removesuffix("/") + "/.well-known/openid-configuration"

    def problems(self) -> Iterator[str]:
        """What is wrong with it, beside wrong types; nothing for one that can be used."""
        if self.algorithm not in ALGORITHMS:
            yield f"algorithm {self.algorithm!r} is none of {', '.join(ALGORITHMS)}"
        if self.jwks_url is not None and not may_fetch(self.jwks_url):
            yield "jwks_url is no https:// URL without user and fragment (http:// is for loopback)"
        if self.jwks_url is None and not may_fetch(self.issuer):
            yield f"the keys of {self.issuer!r}, which is no https:// URL, cannot be discovered: give a jwks_url"
        if refused := sorted(self.scopes - GRANTED):
            yield f"scope {refused[0]!r} is for API keys only"
        if not self.scopes:
            yield "scopes is empty, so its tokens would be good for nothing"
        if self.agents is not None and self.agents_claim is not None:
            yield "agents and agents_claim exclude each other"
        if Scope.INVOKE in self.scopes and not self.agents and self.agents_claim is None:
            yield "agents (or agents_claim) is missing: which agents may its tokens invoke?"


def parse(text: str) -> tuple[Issuer, ...]:
    """The issuers of a TOML file, at least one. Raises Error `oidc_invalid`, which names a problem of each that has
    one: a relay believes all of what is written there, or does not start.
    """
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise _invalid(f"it is not TOML: {error}") from None
    if unknown := sorted(table.keys() - {"issuer"}):
        raise _invalid(f"unknown key {unknown[0]!r}")
    listed = table.get("issuer")
    if not isinstance(listed, list) or not listed or not all(isinstance(each, Mapping) for each in listed):
        raise _invalid("it has no [[issuer]]")
    if len(listed) > MAX_ISSUERS:
        raise _invalid(f"it has more than {MAX_ISSUERS} issuers")
    read = [_read(each) for each in listed]
    names = [each.issuer for each in read if isinstance(each, Issuer)]
    problems = [f"issuer {number}: {each}" for number, each in enumerate(read, 1) if isinstance(each, str)]
    problems += [
        f"{name!r} is listed more than once" for name in sorted({name for name in names if names.count(name) > 1})
    ]
    if problems:
        raise _invalid("; ".join(problems))
    return tuple(each for each in read if isinstance(each, Issuer))


def may_fetch(url: str) -> bool:
    """Whether keys may come from there: over https, or over http from this machine itself."""
    try:
        parts = urlsplit(url)
        port_is_one = parts.port != 0
    except ValueError:
        return False
    if not parts.hostname or parts.username is not None or parts.fragment or not port_is_one or not url.isprintable():
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname))


def _read(table: Mapping[str, Any]) -> Issuer | str:
    """The issuer, or what is wrong with it."""
    try:
        issuer = msgspec.convert(table, Issuer)
    except msgspec.ValidationError as error:
        return str(error)
    return "; ".join(issuer.problems()) or issuer


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _invalid(why: str) -> Error:
    return Error(
        "oidc_invalid",
        f"the issuers of tokens cannot be used: {why}",
        hint="each [[issuer]] has issuer, audience, algorithm, tenant_claim, and agents or agents_claim; "
        "see docs/security-model.md",
    )
