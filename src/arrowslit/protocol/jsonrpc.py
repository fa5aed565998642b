"""JSON-RPC 2.0 as MCP uses it: one strict reading of a message from outside, and its writing anew.

Parsers disagree about what they should refuse: duplicate keys, lone surrogates, numbers that do not fit, bytes that
are not UTF-8. A message that two readers could take for two different things is refused here, so every later reader
sees what was authorised. The envelope is written by us; the values inside travel byte for byte, as `msgspec.Raw`.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Mapping
from enum import Enum
from functools import lru_cache
from typing import Any, Never

import msgspec
from msgspec import Raw

MIB = 1 << 20
MAX_ID = 2**53 - 1  # the integers that every JSON reader holds exactly (RFC 8259, section 6)
NAME_LENGTH = 256  # characters of an id, of a method, of a key in params and _meta

Id = int | str
"""A JSON-RPC id, or a progress token. `1` and `"1"` are two ids; a float or a boolean is none."""


class Kind(Enum):
    """What a message is."""

    REQUEST = "request"
    NOTIFICATION = "notification"
    RESPONSE = "response"


class Message(msgspec.Struct, frozen=True):
    """One message that was read strictly.

    `params` holds the raw value of every member but `_meta`, `meta` those of `_meta`; each is None where the message
    had none, and `meta` comes with `params`. `result` and `error` belong to responses: exactly one of them is there.
    (A struct and no dataclass: two are made for each call, and a frozen dataclass takes 0.9 µs to make, this 0.15.)
    """

    kind: Kind
    id: Id | None
    method: str | None
    params: Mapping[str, Raw] | None = None
    meta: Mapping[str, Raw] | None = None
    result: Raw | None = None
    error: Raw | None = None


class Refused(Exception):
    """A message that is not let in. `code` is one of the registry's, `id` the request's id where it could be read."""

    def __init__(self, code: str, message: str, id: Id | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.id = id


class _Parts(msgspec.Struct):
    """The same bytes once more, cut into raw members. Nothing is decided from it that `read` has not checked."""

    id: Raw = Raw(b"null")
    params: dict[str, Raw] | None = None
    result: Raw = Raw()  # empty where there is none
    error: Raw = Raw()


_decode = msgspec.json.Decoder().decode
_decode_parts = msgspec.json.Decoder(_Parts).decode
_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_id = msgspec.json.Decoder(int | str).decode
_encode = msgspec.json.Encoder().encode

_WHITESPACE = b" \t\n\r"
_OTHER_ENCODINGS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")  # byte order marks of UTF-8 and UTF-16
_ASKING = frozenset({"jsonrpc", "id", "method", "params"})
_ANSWERING = frozenset({"jsonrpc", "id", "result", "error"})

# Every member of `params` that MCP defines for what a client sends, 2024-11-05 to 2026-07-28.
_PARAMS = frozenset(
    [
        "_meta",
        "argument",
        "arguments",
        "capabilities",
        "clientInfo",
        "content",
        "context",
        "cursor",
        "inputResponses",
        "level",
        "message",
        "name",
        "notifications",
        "progress",
        "progressToken",
        "protocolVersion",
        "reason",
        "ref",
        "requestId",
        "requestState",
        "task",
        "taskId",
        "total",
        "uri",
    ]
)


def read(body: bytes, *, arguments_limit: int = MIB, depth: int = 32, string: int = MIB) -> Message:
    """The one message in `body`, a single JSON object. `arguments_limit` and `string` are bytes as they were written.

    Raises Refused and nothing else, whatever the bytes: for what is not JSON (RFC 8259) in UTF-8, for a key that stands
    twice in one object by any spelling, an integer beyond 64 bits, a float beyond a double, a lone surrogate, too much
    depth or length, and for an envelope that JSON-RPC or MCP does not know.
    """
    if body[:1] != b"{":
        _must_start_an_object(body)
    if body.count(b"{") + body.count(b"[") > depth and _is_deeper(_outline(body), depth):
        raise Refused("depth_exceeded", f"the message is nested deeper than {depth} levels")
    if len(body) > string and max(map(len, _at_quotes(body)[1::2]), default=0) > string:
        raise Refused("string_too_long", f"a string is longer than {string} bytes")
    if _NINETEEN_DIGITS in body.translate(_EVERY_DIGIT_ZERO):
        _check_integers(b'"'.join(_at_quotes(body)[::2]))
    parts = _parts(body, arguments_limit)
    try:
        whole = _decode(body)
    except (msgspec.MsgspecError, ValueError):
        _explain(body)
    if _has_lost_a_member(body, _encode(whole)):
        raise Refused("duplicate_key", "a key stands twice in one object")
    return _message(whole, parts)


def write(message: Message) -> bytes:
    """The message as bytes: members in a fixed order, nothing but raw values copied. `read` of it gives it back."""
    envelope: dict[str, object] = {"jsonrpc": "2.0"}
    if message.kind is not Kind.NOTIFICATION:
        envelope["id"] = message.id
    if message.method is not None:
        envelope["method"] = message.method
        if message.meta is not None:
            envelope["params"] = {**(message.params or {}), "_meta": message.meta}
        elif message.params is not None:
            envelope["params"] = message.params
    elif message.error is not None:
        envelope["error"] = message.error
    else:
        envelope["result"] = message.result
    return _encode(envelope)


def error_body(id: Id | None, code: int, message: str, data: Mapping[str, object]) -> bytes:
    """A JSON-RPC error response: `code` is JSON-RPC's number, `data` JSON values for programs, left out when empty."""
    error: dict[str, object] = {"code": code, "message": message}
    if data:
        error["data"] = data
    return _encode({"jsonrpc": "2.0", "id": id, "error": error})


@lru_cache(maxsize=1024)
def fold(key: str) -> str:
    """What a careless reader may take `key` for: case, compatibility forms, and what cannot be seen are gone.

    NFKC and full case folding (Unicode), without control, blank and default-ignorable characters: `Name`, `ſ` for `s`,
    a zero-width space, a trailing NUL. Give it short keys only; it remembers them.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", key).casefold())
    return _UNSEEN.sub("", folded)


_UNSEEN = re.compile(
    r"[\x00-\x20\x7f-\xa0\xad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f"
    r"\u205f-\u206f\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    r"\U000e0000-\U000e0fff]+"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_FOLDED_PARAMS = frozenset(map(fold, _PARAMS))


def _must_start_an_object(body: bytes) -> None:
    start = body.lstrip(_WHITESPACE)
    if start.startswith(b"{"):
        return
    if start.startswith(b"["):
        raise Refused("batch_not_supported", "a body holds one message, not a batch")
    if start.startswith(_OTHER_ENCODINGS) or (len(start) > 1 and b"\0" in start[:2]):
        raise Refused("encoding_invalid", "the body is not UTF-8 without a byte order mark")
    try:
        _decode(body)
    except (msgspec.MsgspecError, ValueError):
        raise Refused("parse_error", "the body is not JSON") from None
    raise Refused("invalid_request", "the body is not a JSON object")


def _at_quotes(text: bytes) -> list[bytes]:
    """JSON cut at its quotation marks: what stands outside of strings at even places, strings at odd ones.

    Escaped backslashes and quotes are covered first, in that order and with as many bytes. Of text that is not JSON
    this is right up to the first error, and no reader comes further.
    """
    return _without_escapes(text).split(b'"')


def _without_escapes(text: bytes) -> bytes:
    return text.replace(rb"\\", b"__").replace(rb"\"", b"__") if b"\\" in text else text


def members_in(text: bytes) -> int:
    """How many members the objects in `text` have, at any depth: the colons outside of its strings.

    Two quotation marks with no colon between them enclose, or divide, nothing that counts: without them it is fewer
    pieces. It is all done in C.
    """
    marks = _without_escapes(text).translate(None, _NO_MARKS).replace(b'""', b"")
    return b"".join(marks.split(b'"')[::2]).count(b":")


_NO_MARKS = bytes(set(range(256)) - set(b':"'))
_ROUND = bytes.maketrans(b"{[]}", b"(())")
_NO_OUTLINE = bytes(set(range(256)) - set(b'{[]}:"'))


def _outline(text: bytes) -> bytes:
    """Of what stands outside of strings, the colons and the brackets; all brackets are made round."""
    return b"".join(_without_escapes(text).translate(_ROUND, _NO_OUTLINE).split(b'"')[::2])


def _is_deeper(outline: bytes, depth: int) -> bool:
    """Whether brackets nest deeper than `depth`: each round takes the innermost pairs away, in C and not in a loop.

    Where brackets do not close, more than `depth` open ones count as too deep as well, so a parser is never led deeper
    than twice `depth`.
    """
    brackets = outline.replace(b":", b"")
    for _ in range(depth):
        length = len(brackets)
        brackets = brackets.replace(b"()", b"")
        if len(brackets) == length:
            break
    return b"()" in brackets or brackets.count(b"(") > depth


def _has_lost_a_member(body: bytes, again: bytes) -> bool:
    """Whether a key stands twice in `body`; `again` is what was decoded from it, written anew.

    Decoding keeps one member of a key, so `again` has fewer colons exactly if a key stood twice: each member has its
    colon, and colons in strings are as many as before where none was escaped. Else only those outside of strings count.
    It is all done in C; a hook that is called for each object takes many times as long.
    """
    if b"\\u003" not in body:  # U+003A as an escape; a writer escapes no colon
        return body.count(b":") != again.count(b":")
    return _outline(body).count(b":") != _outline(again).count(b":")


_EVERY_DIGIT_ZERO = bytes.maketrans(b"123456789", b"000000000")
_NINETEEN_DIGITS = b"0" * 19  # fewer always fit in 64 bits
_LONG_INTEGER = re.compile(rb"(?<![\d.eE+-])-?+\d{19,}+(?![.eE])")


def _check_integers(outside: bytes) -> None:
    for found in _LONG_INTEGER.finditer(outside):
        digits = found.group()
        if len(digits) > 20 or not -(2**63) <= int(digits) < 2**64:
            raise Refused("number_out_of_range", "an integer does not fit in 64 bits")


def _parts(body: bytes, arguments_limit: int) -> _Parts | None:
    """The raw members, None if they cannot be cut out; then the full reading says why. Raises for long arguments."""
    try:
        parts = _decode_parts(body)
    except (msgspec.MsgspecError, ValueError):
        return None
    arguments = parts.params and parts.params.get("arguments")
    if arguments and len(memoryview(arguments)) > arguments_limit:
        try:
            ident = _decode_id(parts.id)
        except (msgspec.MsgspecError, ValueError):
            ident = None
        raise Refused("payload_too_large", f"arguments are longer than {arguments_limit} bytes", ident)
    return parts


def _explain(body: bytes) -> Never:
    """Raise Refused with the reason why msgspec could not read `body`. Not on the way of a good call."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise Refused("encoding_invalid", "the body is not UTF-8") from None
    if "\0" in text:
        raise Refused("encoding_invalid", "the body holds a raw NUL")
    try:
        json.loads(text, parse_constant=_out_of_range, parse_float=_finite)
    except ValueError:
        raise Refused("parse_error", "the body is not JSON") from None
    raise Refused("encoding_invalid", "a string holds half of a surrogate pair")  # all that the two readers differ in


def _out_of_range(number: str) -> Never:
    raise Refused("number_out_of_range", f"{number[:32]} is no number that JSON or a double can hold")


def _finite(number: str) -> float:
    value = float(number)
    return value if math.isfinite(value) else _out_of_range(number)


def _message(whole: dict[str, Any], parts: _Parts | None) -> Message:
    """The message of a parsed envelope. Raises Refused where the envelope is not one of the three kinds."""
    ident = whole.get("id")
    good = (type(ident) is int and -MAX_ID <= ident <= MAX_ID) or (
        type(ident) is str and 1 <= len(ident) <= NAME_LENGTH
    )
    known = ident if good else None
    if not whole.keys() <= (_ASKING if "method" in whole else _ANSWERING):
        raise Refused("unknown_member", "the envelope has a member that JSON-RPC does not know", known)
    if whole.get("jsonrpc") != "2.0":
        raise Refused("invalid_request", 'jsonrpc is not "2.0"', known)
    if not good and ("id" in whole or "method" not in whole):
        raise Refused("id_invalid", f"an id is a string of 1 to {NAME_LENGTH} characters, or an integer within 2^53")
    if "method" not in whole:
        return _response(whole, parts, known)
    method = whole["method"]
    if type(method) is not str or not 1 <= len(method) <= NAME_LENGTH:
        raise Refused("invalid_request", f"method is not a string of 1 to {NAME_LENGTH} characters", known)
    kind = Kind.REQUEST if good else Kind.NOTIFICATION
    if "params" not in whole:
        return Message(kind, known, method)
    if type(whole["params"]) is not dict or parts is None or parts.params is None:
        raise Refused("invalid_request", "params is not an object", known)
    params = parts.params
    for key in params:
        if key not in _PARAMS and (len(key) > NAME_LENGTH or _is_disguised(key)):
            raise Refused("unknown_member", "params has a key that could be taken for another", known)
    if "_meta" not in params:
        return Message(kind, known, method, params)
    if type(whole["params"]["_meta"]) is not dict:
        raise Refused("invalid_request", "params._meta is not an object", known)
    meta = _decode_members(params.pop("_meta"))
    for key in meta:
        if len(key) > NAME_LENGTH or (not key.isprintable() and _CONTROL.search(key)):
            raise Refused("unknown_member", "params._meta has a key with control characters, or a very long one", known)
    return Message(kind, known, method, params, meta)


def _response(whole: dict[str, Any], parts: _Parts | None, ident: Id | None) -> Message:
    if parts is None or ("result" in whole) == ("error" in whole):
        raise Refused("invalid_request", "a message has a method, a result or an error: one of the three", ident)
    if "result" in whole:
        return Message(Kind.RESPONSE, ident, None, result=parts.result)
    if type(whole["error"]) is not dict:
        raise Refused("invalid_request", "error is not an object", ident)
    return Message(Kind.RESPONSE, ident, None, error=parts.error)


@lru_cache(maxsize=1024)
def _is_disguised(key: str) -> bool:
    """Whether a key that MCP does not define could be read as one that it does."""
    return _CONTROL.search(key) is not None or fold(key) in _FOLDED_PARAMS


def text(raw: Raw | None) -> str | None:
    """The string that a value is, None for anything else, and for none."""
    try:
        return None if raw is None else _decode_text(raw)
    except msgspec.MsgspecError:
        return None


_decode_text = msgspec.json.Decoder(str).decode
