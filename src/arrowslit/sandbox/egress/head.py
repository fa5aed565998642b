"""PURE: the head of a request to the proxy, read in one way or refused, and written anew for the server.

What two readers could read differently never leaves: how long the body is, where the head ends, which host is meant.
RFC 9110 and 9112 say what is allowed; where they leave a choice, the strict one is taken.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from arrowslit.policy.decide import echo
from arrowslit.policy.egress import Deny, Refusal, read_host
from arrowslit.sandbox.egress.attempt import Refused

MAX_HEAD = 16 * 1024  # bytes
MAX_FIELDS = 100

Fields = tuple[tuple[bytes, bytes], ...]
"""Header fields: lower-case name, value without the space around it."""


@dataclass(frozen=True, slots=True)
class Tunnel:
    """`CONNECT host:port`. `host` is as the client wrote it."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Plain:
    """A request in absolute form, `GET http://host:port/path`. `length` is that of its body, in bytes."""

    host: str
    port: int
    method: bytes
    authority: bytes
    path: bytes
    fields: Fields
    length: int

    def forwarded(self) -> bytes:
        """The head for the server: our Host, no field that is for the next hop only, one request on the connection."""
        named = {name for key, value in self.fields if key == b"connection" for name in _listed(value)}
        lines = [self.method + b" " + self.path + b" HTTP/1.1", b"host: " + self.authority]
        lines += [
            name + b": " + value
            for name, value in self.fields
            if name not in _NOT_FORWARDED and name not in named and not name.startswith(b"proxy-")
        ]
        if self.length or any(name == b"content-length" for name, _ in self.fields):
            lines.append(b"content-length: %d" % self.length)
        return b"\r\n".join((*lines, b"connection: close", b"", b""))


def may_begin(data: bytes | bytearray) -> bool:
    """Whether a request can begin with this byte. TLS and SOCKS begin with others, and would wait for an answer."""
    return data[:1].isalpha()


def read_head(head: bytes) -> Tunnel | Plain:
    """What is asked for, by the bytes up to and with the empty line. Raises Refused, with host and port if known."""
    line, _, rest = head.removesuffix(b"\r\n\r\n").partition(b"\r\n")
    match = _LINE.fullmatch(line)
    if match is None:
        raise _invalid("the request line is not that of HTTP/1.1", _FORM)
    method, target = match["method"], match["target"]
    if method == b"CONNECT":
        host, port = _authority(target, default=None)
        tunnel = Tunnel(host, port)
        _read_fields(rest, tunnel)
        return tunnel
    if (url := _URL.fullmatch(target)) is None:
        raise _invalid("the request target is neither host:port nor http://host/path", _FORM)
    if url["scheme"].lower() != b"http":
        raise _invalid(f"{url['scheme'].decode().lower()} URLs are not fetched here", "reach https hosts with CONNECT")
    host, port = _authority(url["authority"], default=80)
    fields = _read_fields(rest, Tunnel(host, port))
    path = url["path"] if url["path"].startswith(b"/") else b"/" + url["path"]
    authority = (host if port == 80 else f"{host}:{port}").lower().encode()
    plain = Plain(host, port, method, authority, path, fields, 0)
    try:
        _check_host(plain, required=match["minor"] == b"1")
        length = _length(fields)
    except Refused as refused:
        raise Refused(refused.deny, host, port) from None
    return Plain(host, port, method, authority, path, fields, length)


_FORM = "a proxy is asked for http://host/path, or with CONNECT host:port"
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_LINE = re.compile(rb"(?P<method>[A-Z][A-Z_-]{0,31}) (?P<target>[\x21-\x7e]+) HTTP/1\.(?P<minor>[01])")
_URL = re.compile(
    rb"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>[^#\\]*)"
)  # no fragment, and no backslash that some take for a slash
_AUTHORITY = re.compile(rb"(?P<host>\[[0-9A-Fa-f:.]*\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?")
_FIELD = re.compile(
    rb"(" + _TOKEN + rb"):[ \t]*([\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?[ \t]*"
)
_DIGITS = re.compile(rb"[0-9]{1,15}")
_NOT_FORWARDED = frozenset(
    {b"connection", b"content-length", b"host", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)  # and http2-settings, which has to be named in Connection
_NEVER_NAMED = frozenset({b"host", b"content-length", b"transfer-encoding"})


def _authority(text: bytes, default: int | None) -> tuple[str, int]:
    """Host, as it is written, and port. Raises Refused, also for what some would read as user and password."""
    match = _AUTHORITY.fullmatch(text)
    port = default if match is None or match["port"] is None else int(match["port"])
    if match is None or port is None or not 1 <= port <= 65535:
        shown = echo(text.rpartition(b"@")[2].decode("latin-1"))  # what stands before an @ may be a password
        deny = Deny(Refusal.HOST_INVALID, f"{shown} is not a plain host and port", "write host:port, without a user")
        raise Refused(deny, shown)
    return match["host"].decode(), port


def _read_fields(text: bytes, place: Tunnel) -> Fields:
    """The header fields. Raises Refused for a line that is not one whole field."""
    lines = text.split(b"\r\n") if text else []
    matches = [_FIELD.fullmatch(line) for line in lines]
    if len(lines) > MAX_FIELDS:
        deny = Deny(Refusal.REQUEST_TOO_LARGE, f"the request has more than {MAX_FIELDS} header fields", "send fewer")
        raise Refused(deny, place.host, place.port)
    if not all(matches):
        raise Refused(_invalid("a header field is malformed", _FORM).deny, place.host, place.port)
    return tuple((match[1].lower(), match[2] or b"") for match in matches if match)


def _check_host(plain: Plain, *, required: bool) -> None:
    """Raises Refused unless there is one Host, and it is the target's (HTTP/1.0 may have none)."""
    hosts = [value for name, value in plain.fields if name == b"host"]
    if not hosts and not required:
        return
    if len(hosts) != 1 or not _same(hosts[0], plain):
        shown = echo(b", ".join(hosts).decode("latin-1"))
        message = f"the Host header ({shown}) is not the host of the URL ({echo(plain.host)}:{plain.port})"
        raise Refused(Deny(Refusal.HOST_MISMATCH, message, "send one Host header, with the host of the URL"))


def _same(host: bytes, plain: Plain) -> bool:
    try:
        named, port = _authority(host, default=80)
    except Refused:
        return False
    return port == plain.port and read_host(named) == read_host(plain.host)


def _length(fields: Fields) -> int:
    """The length of the body. Raises Refused where it is said in two ways, or not at all."""
    lengths = [value for name, value in fields if name == b"content-length"]
    encoded = any(name == b"transfer-encoding" for name, _ in fields)
    named = {name for key, value in fields if key == b"connection" for name in _listed(value)}
    if (encoded and lengths) or len(lengths) > 1 or named & _NEVER_NAMED:
        message = "the length of the request's body is said in more than one way"
        raise Refused(Deny(Refusal.LENGTH_AMBIGUOUS, message, "send one Content-Length and no Transfer-Encoding"))
    if encoded:
        message = "the request's body comes in chunks, which this proxy does not carry"
        raise Refused(Deny(Refusal.LENGTH_REQUIRED, message, "send it with a Content-Length, or use https"))
    if lengths and not _DIGITS.fullmatch(lengths[0]):
        message = "the Content-Length is not a number"
        raise Refused(Deny(Refusal.LENGTH_AMBIGUOUS, message, "send one Content-Length, in digits"))
    return int(lengths[0]) if lengths else 0


def _listed(value: bytes) -> set[bytes]:
    return {name.strip(b" \t").lower() for name in value.split(b",")}


def _invalid(message: str, hint: str) -> Refused:
    return Refused(Deny(Refusal.REQUEST_INVALID, message, hint))
