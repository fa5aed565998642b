"""Where an HTTP target is: the strict reading of its URL, and which addresses may be connected to for it. No I/O.

A URL is read in one way or refused: resolvers take `127.1`, `2130706433` or full-width digits for loopback, and parsers
disagree about backslashes and userinfo. What a name resolves to is judged by a list of what is allowed, not of what is
forbidden, because the special ranges of IPv6 that lead to an IPv4 address are many.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, summarize_address_range

from arrowslit.errors import Error

_Address = IPv4Address | IPv6Address

_LOOPBACK = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
_LINK_LOCAL_4 = IPv4Network("169.254.0.0/16")  # the metadata services of clouds are here
_UNICAST_4 = (("1.0.0.0", "126.255.255.255"), ("128.0.0.0", "169.253.255.255"), ("169.255.0.0", "223.255.255.255"))
_ORDINARY_4 = tuple(
    net for one, last in _UNICAST_4 for net in summarize_address_range(IPv4Address(one), IPv4Address(last))
)
_UNICAST_6 = tuple(IPv6Network(net) for net in ("2000::/3", "fc00::/7"))
_EMBEDS_IPV4 = tuple(IPv6Network(net) for net in ("2001::/32", "2002::/16"))  # Teredo, 6to4

_URL = re.compile(r"(https?)://([^/?#]*)([^#]*)", re.IGNORECASE)
_AUTHORITY = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::([0-9]{1,5}))?")
_PATH = re.compile(r"(?:[A-Za-z0-9\-._~:/?@!$&'()*+,;=\[\]]|%[0-9A-Fa-f]{2})*")
_CONTROL = re.compile(r"%(?:[01][0-9A-Fa-f]|7[Ff])")
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"  # with the underscore that names in container networks have
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")  # a name that ends in one is an address to some resolvers (WHATWG URL, 3.5)

_FORM = "write it as http(s)://host:port/path, or sse+http(s)://host:port/path for HTTP with SSE"


@dataclass(frozen=True, slots=True)
class HostPort:
    """A place that may be connected to: a lower-case name or a canonical address without brackets, and a port."""

    host: str
    port: int

    @property
    def is_address(self) -> bool:
        """Whether `host` is an IP address: no name holds a colon or ends in a number."""
        return ":" in self.host or self.host.rpartition(".")[2].isdigit()

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The URL of an HTTP target. `path` starts with a slash and holds the query, if there is one."""

    tls: bool
    place: HostPort
    path: str

    @property
    def authority(self) -> str:
        """The value of the Host header: without the port where it is the scheme's own (RFC 9110, 7.2)."""
        return str(self.place).removesuffix(":443" if self.tls else ":80")

    def __str__(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.authority}{self.path}"


def read_endpoint(url: str) -> Endpoint:
    """The endpoint that `url` names, or Error `target_invalid`; which does not repeat it: it may hold a secret."""
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise _refused(
            "holds characters that no URL has", "write an international name in its xn-- form, a space as %20"
        )
    if "#" in url:
        raise _refused("has a fragment", "leave out the # and what follows it")
    if (match := _URL.fullmatch(url)) is None:
        raise _refused("is neither http:// nor https://", _FORM)
    scheme, authority, path = match.groups()
    if "@" in authority:
        raise _refused("names a user", "leave out what stands before the @; a credential does not belong into a URL")
    if not _PATH.fullmatch(path) or _CONTROL.search(path):
        raise _refused("has a path that is not a valid one", "percent-encode what is not allowed in a path")
    tls = scheme.lower() == "https"
    place = _read_place(authority, default_port=443 if tls else 80)
    return Endpoint(tls, place, path if path.startswith("/") else "/" + path)


def read_place(text: str) -> HostPort:
    """`host:port` as it stands in a list of allowed places, or Error `target_invalid`."""
    return _read_place(text.lower() if text.isascii() else "", default_port=None)


def loopback_name(host: str) -> bool:
    """Whether `host` is a name of this machine itself, without asking anybody (RFC 6761, 6.3)."""
    return host == "localhost" or host.endswith(".localhost")


def permitted(place: HostPort, addresses: Iterable[str], allowed: Collection[HostPort]) -> list[str]:
    """Those of `addresses`, to which the host of `place` was resolved, that may be connected to; in their order.

    An address that was given as such stands for itself. A name leads to ordinary unicast addresses, a name of this
    machine to loopback; anywhere else (loopback, link-local, an IPv4 address wrapped into IPv6 …) only where `allowed`
    has that very address with the port of `place`.
    """
    return [text for text in addresses if _permitted(place, ip_address(text), allowed)]


def _permitted(place: HostPort, address: _Address, allowed: Collection[HostPort]) -> bool:
    if str(address) == place.host or HostPort(str(address), place.port) in allowed:
        return True
    return _in(address, _LOOPBACK) if loopback_name(place.host) else _ordinary(address)


def _read_place(authority: str, default_port: int | None) -> HostPort:
    match = _AUTHORITY.fullmatch(authority)
    if match is None or (match[2] is None and default_port is None):
        raise _refused("has no valid host:port", _FORM)
    port = default_port if match[2] is None else int(match[2])
    if port is None or not 1 <= port <= 65535:
        raise _refused("has a port outside 1 to 65535", _FORM)
    return HostPort(_read_host(match[1].lower()), port)


def _read_host(host: str) -> str:
    """The host in its one spelling."""
    bracketed = host.startswith("[")
    try:
        address: _Address = IPv6Address(host[1:-1]) if bracketed else IPv4Address(host)
    except ValueError:
        if bracketed or not _NAME.fullmatch(host) or len(host) > 253 or _NUMBER.fullmatch(host.rpartition(".")[2]):
            raise _refused(
                "has a host that is neither a name nor an address",
                "write a name, an IPv4 address as four numbers, or an IPv6 address in brackets",
            ) from None
        return host
    if not (_ordinary(address) or _in(address, (*_LOOPBACK, _LINK_LOCAL_4))):
        raise _refused(
            "has an address that belongs to no single machine", "write the address that the server listens on"
        )
    return str(address)


def _ordinary(address: _Address) -> bool:
    """Whether an address is that of one machine elsewhere, public or private."""
    if isinstance(address, IPv4Address):
        return _in(address, _ORDINARY_4)
    return _in(address, _UNICAST_6) and not _in(address, _EMBEDS_IPV4)


def _in(address: _Address, networks: Iterable[IPv4Network | IPv6Network]) -> bool:
    return any(address in network for network in networks)


def _refused(what: str, hint: str) -> Error:
    return Error("target_invalid", f"the address of a target {what}", hint=hint)
