"""The heads of one HTTP exchange as they travel in OPEN and HEAD frames: JSON, read strictly at both ends."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import msgspec

SHORT = 1024  # bytes of a head
METHODS = frozenset({"POST", "GET", "DELETE"})
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]{1,128}")  # token, RFC 9110 5.6.2, in lower case
_VALUE = re.compile(r"[\x20-\x7e\x80-\xff\t]{0,8192}")  # field-value, RFC 9110 5.5: no CR, LF or NUL can be smuggled


class Malformed(Exception):
    """A head that is not one. The text is for the log."""


class RequestHead(msgspec.Struct, frozen=True, forbid_unknown_fields=False, omit_defaults=True):
    """Relay to connector. `call` is the call id, `target` the name of one of several servers that the connector offers;
    the body follows as DATA.
    """

    method: str
    headers: Sequence[tuple[str, str]]
    call: str
    target: str | None = None


class ResponseHead(msgspec.Struct, frozen=True, forbid_unknown_fields=False):
    """Connector to relay. `status` is a final HTTP status."""

    status: int
    headers: list[tuple[str, str]]


class _RequestHead(msgspec.Struct, frozen=True):
    """A RequestHead whose headers are not read."""

    method: str
    headers: msgspec.Raw
    call: str
    target: str | None = None


encode = msgspec.json.Encoder().encode
_request, _response = msgspec.json.Decoder(_RequestHead).decode, msgspec.json.Decoder(ResponseHead).decode
_headers = msgspec.json.Decoder(tuple[tuple[str, str], ...]).decode


def request(payload: bytes) -> RequestHead:
    """Read a request head. Raises Malformed: the other side is not believed.

    Headers in a short head are remembered: a caller sends the same with each request.
    """
    try:
        head = _request(payload)
        fields = (_read_short_headers if len(payload) <= SHORT else _read_headers)(bytes(head.headers))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"request head: {error}") from error
    if head.method not in METHODS:
        raise Malformed(f"method {head.method!r}")
    return RequestHead(head.method, fields, head.call, head.target)


def _read_headers(written: bytes) -> tuple[tuple[str, str], ...]:
    fields = _headers(written)
    check_headers(fields)
    return fields


_read_short_headers = lru_cache(maxsize=256)(_read_headers)


def response(payload: bytes) -> ResponseHead:
    """Read a response head. Raises Malformed. A short one is remembered: a server sends the same with each answer."""
    return _read_short(payload) if len(payload) <= SHORT else _read_response(payload)


def _read_response(payload: bytes) -> ResponseHead:
    try:
        head = _response(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"response head: {error}") from error
    if not 200 <= head.status <= 599:
        raise Malformed(f"status {head.status}")
    check_headers(head.headers)
    return head


_read_short = lru_cache(maxsize=256)(_read_response)


def check_headers(headers: Sequence[tuple[str, str]]) -> None:
    """Raises Malformed unless every one may travel."""
    for name, value in headers:
        if not may_travel(name, value):
            raise Malformed(f"header {name!r}")


@lru_cache(maxsize=1024)
def may_travel(name: str, value: str) -> bool:
    """Whether the name is a token in lower case, and the value at most 8 KiB without control characters."""
    return bool(_NAME.fullmatch(name) and _VALUE.fullmatch(value))
