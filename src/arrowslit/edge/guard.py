"""PURE: what is refused about a request head before anything else reads it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from arrowslit.errors import Error

Fields = Sequence[tuple[bytes, bytes]]
"""Header fields as the parser gave them: lower-case names, raw values."""

MAX_HEAD = 16 * 1024
MAX_FIELDS = 64

_SINGLE = frozenset(
    {
        b"host", b"authorization", b"x-api-key", b"content-type", b"content-encoding", b"content-length", b"origin",
        b"last-event-id", b"upgrade", b"sec-websocket-key", b"sec-websocket-version", b"idempotency-key",
    }
)  # fmt: skip
_SINGLE_PREFIXES = (b"mcp-", b"arrowslit-")
_MEANINGFUL = frozenset({b"transfer-encoding", b"connection", b"expect", b"cookie", b"forwarded", b"x-forwarded-for"})
_NO_PLAIN_NAME = re.compile(rb"[^a-z0-9 -]")  # in names, with blanks between them
_LABEL = rb"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"  # with the underscore of container networks
_HOST = re.compile(rb"(?P<name>\[[0-9A-Fa-f:.]+\]|%b(?:\.%b)*)(?P<port>:[0-9]{1,5})?" % (_LABEL, _LABEL))
_BAD_PATH = re.compile(
    rb"^//|%(?:2f|5c|[01][0-9a-f]|7f)|[\\#]|[\x00-\x20\x7f]|(?:^|/)(?:\.|%2e){1,2}(?:/|$)", re.IGNORECASE
)
_LOOPBACK = frozenset({b"localhost", b"127.0.0.1", b"[::1]"})


@dataclass(frozen=True, slots=True)
class Rules:
    """Which names a listener answers to. `hosts` None: any valid name (a public listener, or one behind a proxy).

    A listener on loopback answers to loopback names and to names below `suffixes` only, so that a page which had its
    name rebound to 127.0.0.1 gets nowhere (DNS rebinding). `proxies` are the networks whose X-Forwarded-For is
    believed. `schemes` are those of its own pages.
    """

    hosts: frozenset[bytes] | None = _LOOPBACK
    suffixes: tuple[bytes, ...] = ()
    proxies: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
    schemes: frozenset[bytes] = frozenset({b"http", b"https"})


def check_protocol(method: bytes, target: bytes, said: bytes) -> None:
    """Raises Error for a request line of another protocol that the parser reads as HTTP: RTSP, and that of Icecast.

    `said` is what was read, from the head's beginning or before. Such a line in it is refused wherever it stands: the
    parser does not say where the head begins.
    """
    if (b"RTSP/" in said or method == b"SOURCE") and re.search(
        re.escape(method) + b" +" + re.escape(target) + b" +(?:RTSP|ICE)/", said
    ):
        raise Error("bad_http", "this is not HTTP/1.1", hint="send HTTP/1.1")


def check(method: bytes, target: bytes, version: str, fields: Fields, rules: Rules) -> None:
    """Raises Error for a head that two readers could read differently, or that is not meant for us."""
    if version not in ("1.0", "1.1"):
        raise Error("bad_http", "this is not HTTP/1.1", hint="send HTTP/1.1")
    if method == b"CONNECT" or not target.startswith(b"/"):
        raise Error("bad_http", "the request target must be a path", hint="this is no proxy: send a path, and a Host")
    if _BAD_PATH.search(target.partition(b"?")[0]):
        raise Error(
            "bad_http", "the path holds what is not allowed here", hint="send the path plainly, without .. in it"
        )
    names = [name for name, _ in fields]
    there = set(names)
    if len(there) < len(names):
        _check_twice(names)
    if _NO_PLAIN_NAME.search(b" ".join(names)):
        _check_aliases(names)
    if b"content-encoding" in there:
        raise Error("encoding_not_supported", "compressed bodies are not accepted", hint="send the body as it is")
    if b"transfer-encoding" in there and (version == "1.0" or _value(fields, b"transfer-encoding") != b"chunked"):
        raise Error("bad_http", "a body is sent in chunks, or with its length", hint="see RFC 9112, 6.1")
    if version == "1.1" and b"host" not in there:
        raise Error("bad_http", "the Host header is missing", hint="send one Host header")
    _check_place(fields, rules)


def _check_twice(names: Sequence[bytes]) -> None:
    seen: set[bytes] = set()
    for name in names:
        if name in seen and _decides(name):
            raise Error("header_ambiguous", f"the header {name.decode('latin-1')} was sent twice", hint="send it once")
        seen.add(name)


def _check_aliases(names: Iterable[bytes]) -> None:
    """A name that a server behind us may take for that of another header: CGI makes one of `-`, `_` and `.`."""
    for name in names:
        plain = _NO_PLAIN_NAME.sub(b"-", name)
        if plain != name and (_decides(plain) or plain in _MEANINGFUL):
            said = f"the header {name.decode('latin-1')} could be taken for {plain.decode()}"
            raise Error("header_ambiguous", said, hint="write the names of headers with dashes")


def _decides(name: bytes) -> bool:
    """Whether something is decided from this header, so that there may be only one."""
    return name in _SINGLE or name.startswith(_SINGLE_PREFIXES)


def _check_place(fields: Fields, rules: Rules) -> None:
    host = _value(fields, b"host")
    if host is not None and not _allowed(host, rules):
        raise Error(
            "host_not_allowed", "this listener does not answer to that Host", hint="use the address it listens on"
        )
    origin = _value(fields, b"origin")
    scheme, _, place = (origin or b"").partition(b"://")
    if origin is not None and (place != host or scheme not in rules.schemes):
        raise Error("origin_not_allowed", "a page of another origin may not call this", hint="send no Origin header")


def _allowed(host: bytes, rules: Rules) -> bool:
    match = _HOST.fullmatch(host)
    if match is None or len(host) > 262 or int((match["port"] or b":0")[1:]) > 65535:
        return False
    name = match["name"]
    return rules.hosts is None or name in rules.hosts or name.endswith(rules.suffixes)


def _value(fields: Fields, name: bytes) -> bytes | None:
    value = field(fields, name)
    return None if value is None else value.lower()


def field(fields: Fields, name: bytes) -> bytes | None:
    """The first value of a header, stripped of surrounding whitespace; None if it is absent."""
    return next((value.strip() for key, value in fields if key == name), None)


def below(host: str, domain: str) -> str | None:
    """What stands before `.domain` in a Host that `check` has let in, in lower case; None if it is not below it.

    A port is of no interest: whoever is in front of us may listen at another. Nothing is decoded: a name in IDNA is the
    ASCII that it is sent as.
    """
    match = _HOST.fullmatch(host.encode("latin-1"))
    name = "" if match is None else match["name"].decode("ascii").lower()
    return name.removesuffix(f".{domain}") if name.endswith(f".{domain}") else None


def client_address(peer: str, fields: Fields, rules: Rules) -> str:
    """Whose request this is, for limits by address: the connection's own peer, or what a declared proxy says of it."""
    if not rules.proxies or not _is_in(peer, rules):
        return peer
    forwarded = b",".join(value for key, value in fields if key == b"x-forwarded-for").split(b",")
    for hop in reversed(forwarded):
        text = hop.strip().decode("latin-1")
        try:
            ipaddress.ip_address(text)
        except ValueError:
            return peer
        if not _is_in(text, rules):
            return text
    return peer


def _is_in(address: str, rules: Rules) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in rules.proxies)
