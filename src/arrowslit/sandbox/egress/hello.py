"""PURE: which name a TLS client asks for: ClientHello read from its bytes, the second one after a retry too.

A server may ask for another ClientHello (RFC 8446, 4.1.4), and some then believe the name in that one; so the watch
goes on after the first, over everything a client sends in the clear.
"""

from __future__ import annotations

from dataclasses import dataclass

from arrowslit.policy.decide import echo
from arrowslit.policy.egress import Deny, Refusal
from arrowslit.sandbox.egress.attempt import Refused

MAX_HELLO = 16 * 1024  # bytes; one with post-quantum key shares has some 2 KiB
_MAX_READ = 256 * 1024  # no server reads a longer one (OpenSSL 128 KiB): what claims to be longer is no ClientHello
_MAX_RECORD = (1 << 14) + 2048  # TLS 1.2, RFC 5246, 6.2.3; TLS 1.3 has less
_CHANGE_CIPHER, _ALERT, _HANDSHAKE, _APPLICATION = 20, 21, 22, 23
_CLIENT_HELLO = 1
_SERVER_NAME, _ECH = 0, 0xFE0D  # RFC 6066, 3; RFC 9849


@dataclass(frozen=True, slots=True)
class Hello:
    """`name` is the server's name that is asked for, None without one; `ech`, whether another may be hidden inside."""

    name: str | None
    ech: bool


class Watch:
    """What a client sends into a tunnel to `host`, held until it is seen to be TLS and to ask for that very name.

    For an address (`literal`) no name has to be asked for, as clients do not.
    """

    def __init__(self, host: str, *, literal: bool) -> None:
        self._host = host
        self._literal = literal
        self._rest = bytearray()  # bytes that are no whole record yet
        self._held = bytearray()  # records of a handshake message that is not complete
        self._message = bytearray()  # what they carry
        self._watching = True
        self.hello: Hello | None = None
        """The first ClientHello, once it is here and is right."""

    def feed(self, data: bytes) -> bytes:
        """The bytes that may go on now, in order. Raises Refused: not TLS, no name, or another name."""
        self._rest += data
        passed = bytearray()
        while self._watching and (record := self._next_record()):
            if record[0] == _HANDSHAKE:
                self._held += record
                self._message += record[5:]
                if self._judged():
                    passed += self._held
                    self._held.clear()
                    self._message.clear()
            elif self._held or self.hello is None:
                raise _not_tls()
            else:
                passed += record
        if not self._watching:
            passed += self._rest
            self._rest.clear()
        return bytes(passed)

    def _next_record(self) -> bytes:
        """The next whole record, nothing if there is none yet."""
        rest = self._rest
        if rest[:1] and (not _CHANGE_CIPHER <= rest[0] <= _APPLICATION or bytes(rest[1:2]) not in (b"", b"\3")):
            raise _not_tls()
        if len(rest) < 5:
            return b""
        size = int.from_bytes(rest[3:5], "big")
        if not 0 < size <= _MAX_RECORD:
            raise _not_tls()
        if len(rest) < 5 + size:
            return b""
        record = bytes(rest[: 5 + size])
        del rest[: 5 + size]
        return record

    def _judged(self) -> bool:
        """Whether what is held may go on. Raises Refused if it never may."""
        message = self._message
        if len(message) < 4:
            return False
        size = 4 + int.from_bytes(message[1:4], "big")
        if message[0] != _CLIENT_HELLO or size > _MAX_READ:
            if self.hello is None:
                raise _not_tls()
            self._watching = False  # TLS 1.2 went on, or this is encrypted: no server takes a ClientHello after it
            return True
        if size > MAX_HELLO:
            raise _not_tls()
        if len(message) < size:
            return False
        if len(message) > size:
            raise _not_tls()
        self._check(read_hello(bytes(message[4:])))
        return True

    def _check(self, hello: Hello) -> None:
        if hello.name is None and not self._literal:
            raise _refused(Refusal.SNI_MISSING, "the TLS client names no server (no SNI)")
        if hello.name is not None and hello.name != self._host:
            message = f"the TLS client asks for {echo(hello.name)}, the tunnel was asked for to {self._host}"
            raise _refused(Refusal.SNI_MISMATCH, message)
        self.hello = self.hello or hello


def read_hello(body: bytes) -> Hello:
    """What a ClientHello says (RFC 8446, 4.1.2), without its four bytes of type and length. Raises Refused."""
    try:
        return _read(_Bytes(body))
    except ValueError:
        raise _not_tls() from None


class _Bytes:
    """Bytes to be taken from the front. Raises ValueError where there are not as many."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data)

    def take(self, size: int) -> bytes:
        if size > len(self._data):
            raise ValueError("too short")
        taken, self._data = self._data[:size], self._data[size:]
        return taken

    def all(self) -> bytes:
        return self.take(len(self))

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width), "big")

    def vector(self, width: int) -> _Bytes:
        """What follows its own length, which has `width` bytes."""
        return _Bytes(self.take(self.number(width)))

    def end(self) -> None:
        if self._data:
            raise ValueError("too long")


def _read(body: _Bytes) -> Hello:
    body.take(2 + 32)  # version, random
    for width in (1, 2, 1):  # session id, cipher suites, compression
        body.vector(width)
    extensions = body.vector(2) if len(body) else _Bytes(b"")
    body.end()
    found: dict[int, _Bytes] = {}
    while len(extensions):
        kind = extensions.number(2)
        if kind in found:
            raise ValueError("an extension twice")
        found[kind] = extensions.vector(2)
    name = _read_name(found[_SERVER_NAME]) if _SERVER_NAME in found else None
    return Hello(name, _ECH in found)


def _read_name(extension: _Bytes) -> str:
    """The only entry of the list, a host name, in lower case."""
    names = extension.vector(2)
    extension.end()
    if names.number(1) != 0:
        raise ValueError("no host name")
    name = names.vector(2).all()
    names.end()
    return name.decode("ascii").lower()  # UnicodeDecodeError is a ValueError


def _not_tls() -> Refused:
    return _refused(Refusal.NOT_TLS, "what the client sends into the tunnel is not TLS as it should be")


def _refused(code: Refusal, message: str) -> Refused:
    return Refused(Deny(code, message, "a tunnel is for TLS to the host that it was asked for, by name"))
