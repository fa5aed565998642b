"""What a request to /v1 says, read strictly: a body of known fields, a query of known values, one page of a list."""

from __future__ import annotations

import base64
import binascii
import json
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import NoReturn, TypeVar

import msgspec
from starlette.datastructures import QueryParams
from starlette.requests import Request

from arrowslit.errors import Error

T = TypeVar("T")
Label = TypeVar("Label", str, str | None)

MAX_BODY = 1024 * 1024  # bytes; an agent with 100,000 characters of instructions and 256 tools stays far below
MAX_DEPTH = 32

Position = tuple[float, str]
"""Where an entry stands in a list: newest first, so by falling numbers, then by id."""


async def read_body(request: Request, shape: type[T]) -> T:
    """The JSON object in the body as a `shape` (a msgspec Struct that forbids unknown fields). No body is `{}`.

    Raises Error `payload_too_large`, `media_type_unsupported`, `parse_error`, `duplicate_key`, `encoding_invalid`,
    `depth_exceeded`, `unknown_field` or `validation_error`.
    """
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY:
            raise Error("payload_too_large", "the body is larger than 1 MiB")
    if not body:
        return to_shape({}, shape)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Error("media_type_unsupported", "the body is not JSON", hint="send content-type: application/json")
    return to_shape(parse(bytes(body)), shape)


def parse(body: bytes) -> object:
    """One strict reading of JSON: no duplicate names, no NaN, valid text, bounded depth."""
    try:
        value = json.loads(body.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise Error("encoding_invalid", "the body is not valid UTF-8") from error
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:
        raise Error("parse_error", "the body is not valid JSON") from error
    for text in _texts(value, MAX_DEPTH):
        if any("\ud800" <= character <= "\udfff" or character == "\0" for character in text):
            raise Error("encoding_invalid", "a text holds a lone surrogate or a NUL character")
    return value


def to_shape(value: object, shape: type[T]) -> T:
    """`value`, made of JSON's types, as a `shape`. Raises Error `unknown_field` or `validation_error`."""
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        text = str(error)
        code = "unknown_field" if "contains unknown field" in text else "validation_error"
        raise Error(code, text, hint="see the fields of this request in the API's documentation") from error


def check_label(text: Label, what: str) -> Label:
    """`text` if it can stand on one line of a terminal or a log, else Error `validation_error`."""
    if any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in text or ""):
        raise Error("validation_error", f"the {what} holds control characters", hint="use one line of plain text")
    return text


def flag(query: QueryParams, name: str) -> bool:
    """A boolean of the query string, false if absent."""
    text = query.get(name, "false")
    if text not in ("true", "false"):
        _refuse(name, "true or false")
    return text == "true"


def whole_number(query: QueryParams, name: str, default: int, maximum: int) -> int:
    """A number between 1 and `maximum` of the query string."""
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= maximum):
        _refuse(name, f"a number from 1 to {maximum}")
    return int(text)


def moment(query: QueryParams, name: str) -> float | None:
    """A point in time of the query string (RFC 3339, with a zone) in Unix seconds, None if absent."""
    text = query.get(name)
    if text is None:
        return None
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        _refuse(name, "a time such as 2026-11-22T10:00:00Z")
    if parsed.tzinfo is None:
        _refuse(name, "a time with a zone, such as 2026-11-22T10:00:00Z")
    return parsed.timestamp()


def page(
    query: QueryParams,
    entries: Sequence[T],
    position: Callable[[T], Position],
    show: Callable[[T], object],
    maximum: int,
) -> Mapping[str, object]:
    """One page of `entries`, which come newest first: `{"data": […], "next_page": …}`.

    An entry that is added or removed between two pages neither repeats nor hides another one.
    """
    limit = whole_number(query, "limit", 20, maximum)
    after = query.get("page")
    if after:
        last = _read_cursor(after)
        entries = [entry for entry in entries if position(entry) < last]
    shown, more = entries[:limit], len(entries) > limit
    return {"data": [show(entry) for entry in shown], "next_page": _cursor(position(shown[-1])) if more else None}


def _cursor(position: Position) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).decode().rstrip("=")


def _read_cursor(text: str) -> Position:
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        number, entry_id = msgspec.json.decode(raw, type=tuple[float, str])
    except (binascii.Error, ValueError):
        _refuse("page", "the next_page of an earlier answer")
    return number, entry_id


def _refuse(name: str, expected: str) -> NoReturn:
    raise Error("validation_error", f"the query parameter {name} is not {expected}")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise Error("duplicate_key", "an object names a field twice", hint="name each field once")
    return result


def _no_constant(name: str) -> NoReturn:
    raise Error("parse_error", f"{name} is not JSON")


def _texts(value: object, depth: int) -> Iterator[str]:
    """Every text in `value`, names of fields included."""
    if depth < 0:
        raise _too_deep()
    match value:
        case str():
            yield value
        case list():
            for each in value:
                yield from _texts(each, depth - 1)
        case dict():
            for name, each in value.items():
                yield name
                yield from _texts(each, depth - 1)


def _too_deep() -> Error:
    return Error("depth_exceeded", f"the body is nested more than {MAX_DEPTH} deep")
