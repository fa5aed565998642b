"""Egress: may code in a sandbox reach this host, and the address that its name leads to? Rules in, Allow or Deny out.

There is one spelling of each host, and only that one is compared: resolvers take `127.1`, `2130706433`, `0x7f.1` or
full-width digits for loopback. An address is judged by what it is for, and a wrapped one by what is inside.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from arrowslit.errors import Error
from arrowslit.policy.decide import echo

USUAL_PORTS = frozenset({80, 443})


class Refusal(StrEnum):
    """Why an attempt to get out was refused, failed or was cut: the closed list that records and answers use."""

    # what policy says
    HOST_INVALID = "host_invalid"
    HOST_NOT_ALLOWED = "host_not_allowed"
    LITERAL_NOT_ALLOWED = "literal_not_allowed"
    PORT_NOT_ALLOWED = "port_not_allowed"
    ADDRESS_NOT_ALLOWED = "address_not_allowed"
    # what the request said, or how
    NOT_HTTP = "not_http"
    REQUEST_INVALID = "request_invalid"
    REQUEST_TOO_LARGE = "request_too_large"
    REQUEST_TOO_SLOW = "request_too_slow"
    HOST_MISMATCH = "host_mismatch"
    LENGTH_AMBIGUOUS = "length_ambiguous"
    LENGTH_REQUIRED = "length_required"
    SECOND_REQUEST = "second_request"
    # what was said inside CONNECT
    NOT_TLS = "not_tls"
    SNI_MISSING = "sni_missing"
    SNI_MISMATCH = "sni_mismatch"
    # allowed, and it did not work
    NOT_RESOLVED = "not_resolved"
    NOT_CONNECTED = "not_connected"
    CONNECTION_LOST = "connection_lost"
    INTERNAL_ERROR = "internal_error"
    # allowed, and cut
    BYTES_OUT = "bytes_out_limit"
    BYTES_IN = "bytes_in_limit"
    IDLE = "idle_limit"
    TOTAL_TIME = "time_limit"
    CLOSED = "sandbox_closed"


@dataclass(frozen=True, slots=True)
class Rule:
    """One place that may be reached; `read_rule` makes it.

    `host` is an exact name, an exact address, or `*.suffix` for every name below the suffix, not for the suffix itself.
    `ports`: missing means 80 and 443, empty means none. `allow_private`: whether it may be in a private network or on
    this machine; missing means no. Where link-local and metadata addresses are concerned it counts for a host that is
    named exactly, never for a wildcard.
    """

    host: str
    ports: frozenset[int] = USUAL_PORTS
    allow_private: bool = False

    def covers(self, host: str) -> bool:
        """Whether the rule is about this host, given in its one spelling."""
        if self.host.startswith("*."):
            return host.endswith(self.host[1:]) and host != self.host[1:]
        return host == self.host

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{','.join(str(port) for port in sorted(self.ports))}{' private' if self.allow_private else ''}"


NOTHING: tuple[Rule, ...] = ()
"""No rule, which is what missing rules and an empty list mean: no host may be reached at all."""


class Zone(Enum):
    """What an address is for."""

    PUBLIC = auto()
    PRIVATE = auto()  # private networks, carrier-grade NAT, documentation, and loopback
    METADATA = auto()  # link-local, and what clouds answer their own machines on
    NOWHERE = auto()  # belongs to no single machine, or wraps an IPv4 address in a way that is not used


@dataclass(frozen=True, slots=True)
class Allow:
    """It may. `host` is in its one spelling, `literal` whether that is an address, `zones` where it may lead to."""

    host: str
    port: int
    literal: bool
    zones: frozenset[Zone]


@dataclass(frozen=True, slots=True)
class Deny:
    """It may not: a code for the record, a sentence and the next step for whoever runs code in the sandbox.

    `address` is the resolved address that was refused, where it was that.
    """

    code: Refusal
    message: str
    hint: str
    address: str | None = None


def decide(rules: Iterable[Rule], host: str, port: int) -> Allow | Deny:
    """Whether `host`, as a client wrote it, may be reached on `port`. Nothing is, without a rule that says so."""
    name = read_host(host)
    if name is None:
        return Deny(
            Refusal.HOST_INVALID,
            f"{echo(host)} is neither a plain host name nor an address in its usual spelling",
            "write a name without a dot at its end (xn-- for international ones), IPv4 as four decimal numbers",
        )
    literal = is_address(name)
    about = [rule for rule in rules if rule.covers(name)]
    if not about:
        code = Refusal.LITERAL_NOT_ALLOWED if literal else Refusal.HOST_NOT_ALLOWED
        what = "the address" if literal else "the host"
        return Deny(code, f"{what} {echo(name)} is not allowed for this sandbox", _ASK)
    fitting = [rule for rule in about if port in rule.ports]
    if not fitting:
        ports = ", ".join(str(each) for each in sorted(frozenset[int]().union(*(rule.ports for rule in about))))
        return Deny(
            Refusal.PORT_NOT_ALLOWED,
            f"port {port} of {echo(name)} is not allowed for this sandbox",
            f"the ports allowed there: {ports or 'none'}",
        )
    return Allow(name, port, literal, frozenset[Zone]().union(*(_zones(rule) for rule in fitting)))


def check_addresses(allow: Allow, addresses: Sequence[str]) -> Deny | None:
    """None if every address that the host was resolved to may be connected to, else a Deny for the first other.

    A single wrong one refuses all: who mixes private addresses into the answers for a name waits for the right moment.
    """
    for text in addresses:
        if (zone := zone_of(text)) not in allow.zones:
            return Deny(
                Refusal.ADDRESS_NOT_ALLOWED,
                f"{allow.host} leads to {_ZONES[zone]}, which is not allowed for this sandbox",
                "the operator of the sandbox may allow this very host: --allow-private-host, in `run` --allow-private",
                text,
            )
    return None


def read_host(text: str) -> str | None:
    """A host as it stands in a request, in lower case and without brackets; None unless it is in its one spelling."""
    host = text.lower() if text.isascii() else ""
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1] if _is_canonical(IPv6Address, host[1:-1]) else None
    if _is_canonical(IPv4Address, host):
        return host
    is_name = _NAME.fullmatch(host) and len(host) <= 253 and not _NUMBER.fullmatch(host.rpartition(".")[2])
    return host if is_name else None


def is_address(host: str) -> bool:
    """Whether a host in its one spelling is an address: no name holds a colon or ends in a number."""
    return ":" in host or host.rpartition(".")[2].isdigit()


def zone_of(text: str) -> Zone:
    """What the address that a resolver returned is for. What cannot be read is NOWHERE."""
    try:
        address = ip_address(text)
    except ValueError:
        return Zone.NOWHERE
    if isinstance(address, IPv6Address):
        return _zone_6(address)
    return _zone_4(address)


def read_rules(value: object) -> tuple[Rule, ...]:
    """Rules as they stand in a configuration: a list of what `read_rule` takes; None and an empty list allow nothing.

    Raises Error `egress_invalid`.
    """
    if value is None:
        return NOTHING
    if not isinstance(value, list | tuple):
        raise _invalid("the allowed hosts are not a list")
    return tuple(read_rule(each) for each in value)


def read_rule(value: object) -> Rule:
    """A rule from `HOST`, `HOST:PORT,PORT` or `{"host": …, "ports": […], "allow_private": …}`.

    International names are taken as such or in their xn-- form. Raises Error `egress_invalid` for anything that does
    not say clearly what is meant.
    """
    if isinstance(value, str):
        host, ports = _split(value)
        return Rule(_rule_host(host), ports)
    if not isinstance(value, dict) or not isinstance(value.get("host"), str):
        raise _invalid("an allowed host is neither text nor an object with a host")
    if unknown := sorted(str(key) for key in value.keys() - {"host", "ports", "allow_private"}):
        raise _invalid(f"an allowed host has the unknown member {echo(unknown[0])}")
    listed, private = value.get("ports", sorted(USUAL_PORTS)), value.get("allow_private", False)
    if not isinstance(listed, list) or not all(type(port) is int and 1 <= port <= 65535 for port in listed):
        raise _invalid("ports are not a list of numbers from 1 to 65535")
    if not isinstance(private, bool):
        raise _invalid("allow_private is neither true nor false")
    return Rule(_rule_host(value["host"]), frozenset(listed), private)


_ASK = "the operator of the sandbox lists the hosts that may be reached, e.g. with --allow HOST:PORT"
_ZONES = {
    Zone.PUBLIC: "a public address",
    Zone.PRIVATE: "a private address",
    Zone.METADATA: "a link-local or metadata address",
    Zone.NOWHERE: "an address that belongs to no single machine",
}
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"  # with the underscore that names in container networks have
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")  # a name that ends in one is an address to some resolvers (WHATWG URL, 3.5)
_PORTS = re.compile(r"(.*?)(?::([0-9]{1,5}(?:,[0-9]{1,5})*))?")
_DEVIATIONS = frozenset("ßς\u200c\u200d")  # another name in IDNA 2003 than in IDNA 2008 (UTS 46, 6)

# IANA special-purpose registries. `is_global` alone takes multicast, 6to4 and some more for public (Python 3.11).
_METADATA_4 = tuple(
    IPv4Network(net) for net in ("169.254.0.0/16", "100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32")
)
_NOWHERE_4 = tuple(
    IPv4Network(net) for net in ("0.0.0.0/8", "192.0.0.0/24", "192.88.99.0/24", "224.0.0.0/4", "240.0.0.0/4")
)
_METADATA_6 = tuple(IPv6Network(net) for net in ("fe80::/10", "fd00:ec2::254/128", "fd20:ce::254/128"))
_PRIVATE_6 = tuple(IPv6Network(net) for net in ("::1/128", "fc00::/7"))
_UNICAST_6 = IPv6Network("2000::/3")
_NOWHERE_6 = tuple(IPv6Network(net) for net in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: how a network without IPv4 reaches it, so judged by what is inside


def _zones(rule: Rule) -> frozenset[Zone]:
    if not rule.allow_private:
        return frozenset({Zone.PUBLIC})
    if rule.host.startswith("*."):
        return frozenset({Zone.PUBLIC, Zone.PRIVATE})
    return frozenset({Zone.PUBLIC, Zone.PRIVATE, Zone.METADATA})


def _zone_4(address: IPv4Address) -> Zone:
    if any(address in network for network in _METADATA_4):
        return Zone.METADATA
    if any(address in network for network in _NOWHERE_4):
        return Zone.NOWHERE
    return Zone.PUBLIC if address.is_global else Zone.PRIVATE


def _zone_6(address: IPv6Address) -> Zone:
    if address in _NAT64:
        return _zone_4(IPv4Address(int(address) & 0xFFFFFFFF))
    if any(address in network for network in _METADATA_6):
        return Zone.METADATA
    if any(address in network for network in _PRIVATE_6):
        return Zone.PRIVATE
    ordinary = address in _UNICAST_6 and not any(address in network for network in _NOWHERE_6)
    return Zone.PUBLIC if ordinary and address.is_global else Zone.NOWHERE


def _is_canonical(kind: type[IPv4Address | IPv6Address], text: str) -> bool:
    """Whether `text` is an address in the one spelling it has; an IPv4 address inside an IPv6 one is none."""
    try:
        address = kind(text)
    except ValueError:
        return False
    return str(address) == text and "%" not in text and getattr(address, "ipv4_mapped", None) is None


def _split(text: str) -> tuple[str, frozenset[int]]:
    """`HOST:PORT,PORT` in its parts; an IPv6 address stands in brackets."""
    match = _PORTS.fullmatch(text)
    if match is None or match[2] is None:
        return text, USUAL_PORTS
    ports = frozenset(int(port) for port in match[2].split(","))
    if not all(1 <= port <= 65535 for port in ports):
        raise _invalid(f"{echo(text)} has a port outside 1 to 65535")
    return match[1], ports


def _rule_host(text: str) -> str:
    """The host of a rule in its one spelling."""
    wildcard = text.startswith("*.")
    host = read_host(_in_ascii(text.removeprefix("*.")))
    if host is None or (wildcard and is_address(host)):
        raise _invalid(f"{echo(text)} is no host: a name, *.name, or an address in its usual spelling")
    return f"*.{host}" if wildcard else host


def _in_ascii(text: str) -> str:
    """A name with its international labels as xn--; as it is where that would not stand for the very same name."""
    if text.isascii() or _DEVIATIONS & set(text):
        return text
    try:
        name = text.encode("idna")
        return name.decode("ascii") if name.decode("idna") == text.lower() else text
    except UnicodeError:
        return text


def _invalid(why: str) -> Error:
    return Error(
        "egress_invalid",
        f"the hosts that a sandbox may reach cannot be read: {why}",
        hint="write HOST, HOST:PORT,PORT or *.SUFFIX:PORT; ports are 80 and 443 unless given",
    )
