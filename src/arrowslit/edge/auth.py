"""Who is calling: one credential in the headers becomes a Principal or a Worker, or an error. There is no other way."""

from __future__ import annotations

import ipaddress
import re
from collections import OrderedDict
from typing import Protocol
from urllib.parse import parse_qsl, unquote_plus

from arrowslit.clock import Clock
from arrowslit.credential import CredentialKind, kind_of
from arrowslit.errors import Error
from arrowslit.policy.limits import Bucket, take
from arrowslit.principal import Credentials, Principal
from arrowslit.tunnel import Headers
from arrowslit.work import Worker

_IN_URL = re.compile(
    r"(x-)?api[-_]?key|(access|auth|id|refresh)?_?token|jwt|auth(orization)?|bearer|credential|key|password|secret",
    re.IGNORECASE,
)
_JWT = re.compile(r"e[wy][A-Za-z0-9_-]+(\.[A-Za-z0-9_-]*){2,4}")  # a JSON object in base64url, and what is signed
_KEY = re.compile(r"asl_[a-z]+_[A-Za-z0-9]{20}")  # how our own begin, whatever stands around them
_BETWEEN = re.compile(r"[&;=\s]+")

WORKERS = frozenset({CredentialKind.ENVIRONMENT_KEY, CredentialKind.SESSIONS_TOKEN})


class Workers(Protocol):
    """Where workers are looked up: what the port WorkQueue says of it."""

    async def worker(self, token: str) -> Worker | None:
        """Who holds this environment key or sessions token now."""
        ...


class WrongCredentials:
    """How many wrong credentials an address may show: 30 a minute, from loopback 1,000. A right one is never counted.

    Remembers `capacity` addresses, the latest; an IPv6 address counts as its /64, which one machine can have to itself.
    """

    def __init__(self, clock: Clock, *, a_minute: int = 30, from_loopback: int = 1000, capacity: int = 10_000) -> None:
        self._clock = clock
        self._a_minute, self._from_loopback, self._capacity = a_minute, from_loopback, capacity
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def count(self, address: str) -> None:
        """Note a wrong credential. Raises Error `rate_limited` if that address has shown too many."""
        now = self._clock.monotonic()
        network, loopback = _network(address)
        allowed = self._from_loopback if loopback else self._a_minute
        bucket = self._buckets.pop(network, None) or Bucket(allowed, allowed / 60, allowed, now)
        self._buckets[network], wait = take(bucket, now)
        if len(self._buckets) > self._capacity:
            self._buckets.popitem(last=False)
        if wait > 0:
            raise Error(
                "rate_limited",
                "too many wrong credentials came from this address",
                hint="a right one passes at any time",
                retry_after=wait,
            )


class Identities:
    """Fulfils Credentials by asking several, in their order: API keys, and tokens of other issuers where some are
    believed. The kinds have nothing in common, so that no credential is good for two of them.
    """

    def __init__(self, *kinds: Credentials) -> None:
        self._kinds = kinds

    def principal(self, credential: str) -> Principal | None:
        """See `Credentials.principal`."""
        for kind in self._kinds:
            found = kind.principal(credential)
            if found is not None:
                return found
        return None


def authenticate(
    headers: Headers, credentials: Credentials, wrong: WrongCredentials, *, query: str = "", address: str = ""
) -> Principal:
    """Who sent these headers, from `Authorization: Bearer CREDENTIAL` or `x-api-key: CREDENTIAL`, whichever is there.
    Nothing else that was sent says anything about that.

    Raises Error `credential_in_url`, `header_ambiguous` for more than one credential, `rate_limited`, `idp_unavailable`
    for a token that cannot be checked at the moment, or `unauthenticated`, which is the same for a credential that is
    absent, unknown, revoked, expired, or of another kind.
    """
    return identify(presented(headers, query), credentials, wrong, address)


def identify(credential: str | None, credentials: Credentials, wrong: WrongCredentials, address: str = "") -> Principal:
    """Who holds this credential, which is None where none was `presented`. Raises Error as `authenticate` does."""
    principal = None if credential is None else credentials.principal(credential)
    if principal is None:
        raise _stranger(credential, wrong, address)
    return principal


async def authenticate_anyone(
    headers: Headers,
    credentials: Credentials,
    wrong: WrongCredentials,
    workers: Workers,
    *,
    query: str = "",
    address: str = "",
) -> Principal | Worker:
    """The same at a door through which sandbox workers come as well, with an environment key or a sessions token."""
    credential = presented(headers, query)
    caller: Principal | Worker | None = None
    if credential is not None:
        is_worker = kind_of(credential) in WORKERS
        caller = await workers.worker(credential) if is_worker else credentials.principal(credential)
    if caller is None:
        raise _stranger(credential, wrong, address)
    return caller


def connector_token(headers: Headers) -> str:
    """The token that a connector shows as `Authorization: Bearer TOKEN`; empty if there is none, or something else.

    Raises Error `header_ambiguous` for more than one credential.
    """
    name, value = _credential_header(headers)
    return _after_bearer(value) if name == "authorization" else ""


def refuse_credential_in_url(query: str) -> None:
    """Raise Error `credential_in_url` if the query string seems to hold one: URLs end up in logs and histories."""
    names = [
        name for name, _ in parse_qsl(query.replace(";", "&"), keep_blank_values=True)
    ]  # some servers split at both
    plain = query
    for _ in range(3):  # a link in a link
        plain = unquote_plus(plain)
    if (
        any(_IN_URL.fullmatch(name) for name in names)
        or _KEY.search(plain)
        or any(_JWT.fullmatch(each) for each in _BETWEEN.split(plain))
    ):
        raise Error(
            "credential_in_url",
            "a credential does not belong into a URL",
            hint="send it as Authorization: Bearer, and replace it, for it stands in logs now",
        )


def presented(headers: Headers, query: str = "") -> str | None:
    """The credential of a request, None if there is none. Raises Error `credential_in_url`, `header_ambiguous`."""
    if query:
        refuse_credential_in_url(query)
    return _credential(headers)


def _stranger(credential: str | None, wrong: WrongCredentials, address: str) -> Error:
    """What somebody is told whom nobody knows. Raises Error `rate_limited` if that address has tried too often."""
    if credential is not None:
        wrong.count(address)
    return Error(
        "unauthenticated",
        "this request carries no credential that opens this door",
        hint="send an API key (asl_sk_…), or a token of an issuer that is believed here, as Authorization: Bearer; "
        "a tunnel token opens /connect only",
    )


def _credential(headers: Headers) -> str | None:
    """What the one credential header holds, None if there is none; empty, which is never right, for another scheme."""
    name, value = _credential_header(headers)
    return (value if name == "x-api-key" else _after_bearer(value)) if value else None


def _credential_header(headers: Headers) -> tuple[str, str]:
    """The one header that can hold a credential, with an empty value if there is none."""
    found = [(name, value) for name, value in headers if name in ("authorization", "x-api-key")]
    if len(found) > 1:
        raise Error(
            "header_ambiguous",
            "more than one credential was sent",
            hint="send one Authorization header, or one x-api-key header",
        )
    return found[0] if found else ("authorization", "")


def _after_bearer(value: str) -> str:
    scheme, _, rest = value.partition(" ")
    return (
        rest.strip(" ") if scheme.lower() == "bearer" else ""
    )  # no more than blanks: NEL and NBSP are none (RFC 9110)


def _network(address: str) -> tuple[str, bool]:
    """Under which name the address is counted, and whether it is loopback."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address, False
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        elif not parsed.is_loopback:
            return str(ipaddress.IPv6Network((int(parsed), 64), strict=False)), False
    return str(parsed), parsed.is_loopback
