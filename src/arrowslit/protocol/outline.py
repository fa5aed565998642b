"""PURE: which request a long JSON answer answers, found out while it passes by, without holding it.

Only the members of the outermost object are looked at; what is inside them is stepped over. A reader takes the first
or the last of two members of one name, and some do not care for case: so a message that names `id`, or what it brings,
in more than one way answers nothing.
"""

from __future__ import annotations

import re

import msgspec

from arrowslit.protocol.jsonrpc import Id, fold

LONGEST = 1024  # bytes of a name or an id that are worth reading
MOST = 1000  # members of a message that answers anything
_ANSWERS = ("result", "error")
_NAMED = ("id", "method", *_ANSWERS)

# A string as far as it is there; group 1 is its end. Or one of the characters that make the structure.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+("?)|[{}\[\]:,]', re.DOTALL)
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_REST_OF_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+("?)', re.DOTALL)

_decode_text = msgspec.json.Decoder(str).decode
_decode_id: msgspec.json.Decoder[Id] = msgspec.json.Decoder(Id)


class Outline:
    """Feed it a message piece by piece. Units are bytes."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escape = False  # a piece ended with the backslash of a string
        self._text: bytearray | None = bytearray()  # of the outermost object: the name or value that is being read
        self._name: str | None = None  # of the member that is being read, once its colon was there
        self._members: list[tuple[str, bytes]] = []  # those of _NAMED, however they are spelled; a value of `id` whole
        self._count = 0  # of all members
        self._broken = False
        self._closed = False

    def feed(self, data: bytes) -> None:
        """The next piece."""
        if self._broken:
            return
        at = 0
        if self._escape:
            self._escape = False
            self._keep(data[:1])
            at = 1
        if self._in_string and data.find(b'"', at) < 0:
            self._keep(data[at:])
            self._escape = _ends_open(data[at:])
            return
        if self._in_string:
            at = self._string(data, at, _REST_OF_STRING)
        if at < len(data) and not self._step_over(data[at:]):
            self._look(data, at)

    def _step_over(self, data: bytes) -> bool:
        """Take a piece that lies within a member as a whole; False if it does not, and nothing was taken."""
        if self._depth < 2:
            return False
        plain = _STRING.sub(b"", data)
        within = plain.find(b'"')
        depth = self._depth
        for bracket in (plain if within < 0 else plain[:within]).translate(None, _NO_BRACKETS):
            depth += 1 if bracket in _OPENS else -1
            if depth < 2:
                return False
        self._depth = depth
        self._in_string = within >= 0
        self._escape = self._in_string and _ends_open(plain)
        return True

    def _look(self, data: bytes, at: int) -> None:
        while at < len(data) and not self._broken:
            token = _TOKEN.search(data, at)
            if token is None:
                self._keep(data[at:])
                return
            self._keep(data[at : token.start()])
            at = token.start()
            if data[at] == _QUOTE:
                at = self._string(data, at, _TOKEN)
            else:
                self._structure(data[at])
                at += 1

    @property
    def answers(self) -> Id | None:
        """The id that the whole message answers; None if it is not whole, answers nothing, or could be read twice."""
        names = [name for name, _ in self._members]
        brings = [name for name in names if name in _ANSWERS]
        if self._broken or not self._closed or names.count("id") != 1 or len(brings) != 1 or len(names) != 2:
            return None
        try:
            return _decode_id.decode(dict(self._members)["id"])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None

    def _string(self, data: bytes, at: int, pattern: re.Pattern[bytes]) -> int:
        """Step over a string, or what is there of it; returns where it ends."""
        found = pattern.match(data, at)
        assert found is not None  # both patterns match nothing as well
        self._keep(data[at : found.end()])
        self._in_string = not found[1]
        if self._in_string and found.end() < len(data):  # only a lone backslash at the end is left
            self._keep(data[found.end() :])
            self._escape = True
            return len(data)
        return found.end()

    def _keep(self, data: bytes) -> None:
        if self._depth == 1 and self._text is not None:
            self._text += data
            if len(self._text) > LONGEST:
                self._text = None

    def _structure(self, character: int) -> None:
        if character in _OPENS:
            if self._closed or (self._depth == 0 and character != _OBJECT):
                self._broken = True
            self._depth += 1
            if self._depth == 1:
                self._next()
        elif character in _CLOSES:
            if self._depth == 1:
                self._end_member()
                self._closed = True
            self._depth -= 1
            if self._depth < 0:
                self._broken = True
        elif self._depth == 1 and character == _COLON:
            self._name = self._read_name()
            self._text = bytearray()
        elif self._depth == 1:
            self._end_member()
            self._next()

    def _next(self) -> None:
        self._name, self._text = None, bytearray()

    def _read_name(self) -> str | None:
        """The name whose colon is here, folded; None for one that is too long to matter."""
        if self._text is None:
            return None
        try:
            return fold(_decode_text(bytes(self._text)))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            self._broken = True
            return None

    def _end_member(self) -> None:
        self._count += 1
        if self._count > MOST:
            self._broken = True
        if self._name in _NAMED:
            self._members.append((self._name, bytes(self._text or b"")))


def _ends_open(text: bytes) -> bool:
    """Whether it ends with a backslash whose character is still to come."""
    return (len(text) - len(text.rstrip(b"\\"))) % 2 == 1


_QUOTE, _COLON, _OBJECT = b'":{'
_OPENS, _CLOSES = frozenset(b"{["), frozenset(b"}]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"{}[]"))
