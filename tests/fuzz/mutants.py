"""PURE: JSON messages bent in all the ways in which readers of JSON are known to disagree, as one seed decides."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from random import Random

GOOD_NUMBERS = (
    b"0 -0 -0.0 1.0 1e5 1E+2 -1.5e-7 0.1 5e-324 1e-400 1e308 0.30000000000000004 2.2250738585072011e-308 "
    b"9007199254740991 9007199254740992 9007199254740993 -9007199254740993 9223372036854775807 9223372036854775808 "
    b"-9223372036854775808 18446744073709551615 123456789012345678901234567890.0 1000000000000000000000e-3 1e22 1e23"
).split()
BAD_NUMBERS = [
    *b"1e400 -1e999 179769313486231580793e289 -9223372036854775809 18446744073709551616 1000000000000000000000".split(),
    *b"00 01 -01 +1 .5 1. 0x10 1_000 NaN Infinity -Infinity nan 1e 1e+ -".split(),
    b"4" * 301,
]
GOOD_TEXTS = [
    *rb"\u0000 \u001f \ud83d\ude00 \/ \b\f\n\r\t \\ \" \u0022 \u005c \u2028 \uFEFF".split(),
    *("ſ é e\u0301 😀 \ufeff \x7f \uffff".encode().split()),
]
BAD_TEXTS = [
    *rb"\ud800 \udc00 \ude00\ud83d \uD83D\u0041 \x41 \u12 \U0001F600 \' \0".split(),
    *(b"\x00", b"\x1f", b"\t", b"\n", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x80"),
]
MEMBERS = [
    *b'"name":"danger" "Name":"danger" "method":"ping" "id":2 "__proto__":{"name":"x"} "_meta":{"tenant":"x"}'.split(),
    *rb'"":0 "a":1 "\u0061":1 "n\u0061me":"danger" "toString":1 "1":1 "10":1 "tenant":"other" "x":NaN'.split(),
]
TOKENS = [*b"{ } [ ] , : null true True // /**/ ' {} []".split(), b'"', b"\\", b" ", b"\n", b"\x0b", b"\xc2\xa0"]

_NUMBER = re.compile(rb'(?<!"id":)(?<!"id": )(?<=[:,\[ ])-?[0-9][0-9.eE+-]*(?=[,}\] ])')
_LETTER = re.compile(rb"(?<=[A-Za-z_ \"])[A-Za-z](?=[A-Za-z_\" ])")
_OPENING = re.compile(rb"\{")
_VALUE = re.compile(rb"(?<=[:\[, ])(?:true|false|null|\{\}|\[\]|\"[^\"\\]*\")(?=[,}\]])")

Mutation = Callable[[bytes, Random], bytes]


def mutants(seeds: Sequence[bytes], count: int, random: Random) -> Iterator[bytes]:
    """`count` messages, each a seed with one to three changes. Many are JSON still: of the rest little is learnt."""
    for _ in range(count):
        body = random.choice(seeds)
        for _ in range(random.choice((1, 1, 2, 3))):
            body = random.choice(_MUTATIONS)(body, random)
        yield body


def _fresh(body: bytes, random: Random) -> bytes:
    """A value that was never there before, in place of another."""
    return _instead(random.choice((_NUMBER, _VALUE)), body, _anything(random, depth=3), random)


def _anything(random: Random, depth: int) -> bytes:
    """Some JSON that all readers should take."""
    match random.randrange(7 if depth else 4):
        case 0:
            return b"%d" % (random.getrandbits(random.randint(1, 63)) * random.choice((1, -1)))
        case 1:
            return b"%d.%de%d" % (random.getrandbits(60), random.getrandbits(40), random.randint(-300, 280))
        case 2 | 3:
            return b'"' + b"".join(random.choices((b"a", b"Z", *GOOD_TEXTS), k=random.randint(0, 4))) + b'"'
        case 4:
            return b"[" + b" ,".join(_anything(random, depth - 1) for _ in range(random.randint(0, 3))) + b"]"
        case _:
            names = (b'"%s%d"' % (random.choice(GOOD_TEXTS), number) for number in range(random.randint(0, 3)))
            return b"{" + b",".join(name + b": " + _anything(random, depth - 1) for name in names) + b"}"


def _number(body: bytes, random: Random) -> bytes:
    return _instead(_NUMBER, body, random.choice(random.choice((GOOD_NUMBERS, BAD_NUMBERS))), random)


def _value(body: bytes, random: Random) -> bytes:
    """Something that few take, in place of a value; or something deep."""
    deep = random.randint(1, 40)
    odd = (random.choice(BAD_NUMBERS), b'"' + random.choice(BAD_TEXTS) + b'"', b"[" * deep + b"]" * deep)
    return _instead(_VALUE, body, random.choice(odd), random)


def _escape(body: bytes, random: Random) -> bytes:
    """A letter in another spelling."""
    found = _pick(_LETTER, body, random)
    return body if found is None else body[: found.start()] + b"\\u%04x" % body[found.start()] + body[found.end() :]


def _text(body: bytes, random: Random) -> bytes:
    """Something odd within a string."""
    odd = random.choice(random.choice((GOOD_TEXTS, BAD_TEXTS)))
    found = _pick(_LETTER, body, random)
    return body if found is None else body[: found.start()] + odd + body[found.start() :]


def _member(body: bytes, random: Random) -> bytes:
    """One more member, first in one of the objects."""
    found = _pick(_OPENING, body, random)
    if found is None:
        return body
    comma = b"" if body[found.end() :].lstrip().startswith(b"}") else b","
    return body[: found.end()] + random.choice(MEMBERS) + comma + body[found.end() :]


def _token(body: bytes, random: Random) -> bytes:
    at = random.randrange(len(body) + 1)
    return body[:at] + random.choice(TOKENS) + body[at:]


def _byte(body: bytes, random: Random) -> bytes:
    at = random.randrange(len(body) or 1)
    return body[:at] + bytes([random.randrange(256)]) + body[at + 1 :]


def _cut(body: bytes, random: Random) -> bytes:
    at = random.randrange(len(body) + 1)
    return body[:at] + body[at + random.randint(1, 12) :]


def _twice(body: bytes, random: Random) -> bytes:
    at = random.randrange(len(body) + 1)
    return body[:at] + body[at : at + random.randint(1, 40)] + body[at:]


def _instead(pattern: re.Pattern[bytes], body: bytes, new: bytes, random: Random) -> bytes:
    found = _pick(pattern, body, random)
    return body if found is None else body[: found.start()] + new + body[found.end() :]


def _pick(pattern: re.Pattern[bytes], body: bytes, random: Random) -> re.Match[bytes] | None:
    """One of the places where `pattern` stands: the first from a place of chance on."""
    return pattern.search(body, random.randrange(len(body) or 1)) or pattern.search(body)


_MUTATIONS: tuple[Mutation, ...] = (
    *(_fresh,) * 8,
    *(_number, _number, _value, _escape, _escape, _text, _text, _member, _member),
    *(_token, _byte, _cut, _twice),
)
