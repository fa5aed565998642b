"""Who is calling: one credential in the headers becomes a Principal, or an error. There is no third way."""

from __future__ import annotations

import ipaddress
import re
from collections import OrderedDict
from urllib.parse import parse_qsl

from arrowslit.clock import Clock
from arrowslit.credential import kind_of
from arrowslit.errors import Error
from arrowslit.policy.limits import Bucket, take
from arrowslit.principal import Grants, Principal
from arrowslit.tunnel import Headers

_IN_URL = re.compile(
    r"(x-)?api[-_]?key|(access|auth)?_?token|auth(orization)?|bearer|credential|key|password|secret", re.I
)


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


def authenticate(
    headers: Headers, grants: Grants, wrong: WrongCredentials, *, query: str = "", address: str = ""
) -> Principal:
    """Who sent these headers, from `Authorization: Bearer KEY` or `x-api-key: KEY`, whichever is there.

    Raises Error `credential_in_url`, `header_ambiguous` for more than one credential, `rate_limited`, or
    `unauthenticated`, which is the same for a credential that is absent, unknown, revoked, expired, or of another kind.
    """
    if query:
        refuse_credential_in_url(query)
    credential = _credential(headers)
    principal = None if credential is None else grants.principal(credential)
    if principal is not None:
        return principal
    if credential is not None:
        wrong.count(address)
    raise Error(
        "unauthenticated",
        "this request carries no credential that opens this door",
        hint="send an API key (asl_sk_…) as Authorization: Bearer; a tunnel token opens /connect only",
    )


def refuse_credential_in_url(query: str) -> None:
    """Raise Error `credential_in_url` if the query string seems to hold one: URLs end up in logs and histories."""
    for name, value in parse_qsl(query, keep_blank_values=True):
        if _IN_URL.fullmatch(name) or kind_of(name) or kind_of(value):
            raise Error(
                "credential_in_url",
                "a credential does not belong into a URL",
                hint="send it as Authorization: Bearer, and replace it, for it stands in logs now",
            )


def _credential(headers: Headers) -> str | None:
    """What the one credential header holds, None if there is none; empty, which is never right, for another scheme."""
    found = [(name, value) for name, value in headers if name in ("authorization", "x-api-key")]
    if len(found) > 1:
        raise Error(
            "header_ambiguous",
            "more than one credential was sent",
            hint="send one Authorization header, or one x-api-key header",
        )
    if not found or not found[0][1]:
        return None
    name, value = found[0]
    if name == "x-api-key":
        return value
    scheme, _, rest = value.partition(" ")
    return rest.strip() if scheme.lower() == "bearer" else ""


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
