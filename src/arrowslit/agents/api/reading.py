"""What a request to /v1 says, read strictly: a body of known fields, a query of known parameters."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import NoReturn, TypeVar

import msgspec
from msgspec import UnsetType
from starlette.requests import Request

from arrowslit.errors import Error

T = TypeVar("T")
Label = TypeVar("Label", str, str | None)

MAX_BODY = 1024 * 1024  # bytes; an agent with 100,000 characters of instructions and 256 tools stays far below
MAX_DEPTH = 32

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


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


def read_query(request: Request, shape: type[T]) -> T:
    """The query string as a `shape` (a Strict with the parameters' names; a list of values is a field `NAME[]`).

    Raises Error `unknown_field`, `encoding_invalid` or `validation_error`.
    """
    query = request.query_params
    values: dict[str, object] = {}
    for name in query:
        given = query.getlist(name)
        if len(given) > 1 and not name.endswith("[]"):
            raise Error("validation_error", f"the query parameter {name!r} is given twice", hint="give it once")
        if any(unicodedata.category(character) == "Cc" for character in "".join(given)):
            raise Error("encoding_invalid", "a query parameter holds control characters", hint="send plain text")
        values[name] = given if name.endswith("[]") else given[0]
    return to_shape(values, shape, strict=False)


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
        if _UNSTORABLE.search(text):
            raise Error("encoding_invalid", "a text holds a lone surrogate or a NUL character")
    return value


def to_shape(value: object, shape: type[T], *, strict: bool = True) -> T:
    """`value`, made of JSON's types (if not `strict`, of texts), as a `shape`.

    Raises Error `unknown_field` or `validation_error`.
    """
    try:
        return msgspec.convert(value, shape, strict=strict)
    except msgspec.ValidationError as error:
        text = str(error)
        code = "unknown_field" if "contains unknown field" in text else "validation_error"
        raise Error(code, text, hint="see the fields of this request in the API's documentation") from error


def check_label(text: Label, what: str) -> Label:
    """`text` if it can stand on one line of a terminal or a log, else Error `validation_error`."""
    if any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in text or ""):
        raise Error("validation_error", f"the {what} holds control characters", hint="use one line of plain text")
    return text


def patched(
    before: Mapping[str, str], patch: Mapping[str, str | None] | UnsetType | None, *, empty_deletes: bool = False
) -> Mapping[str, str]:
    """Metadata after a patch, in which null deletes a pair, as does "" with `empty_deletes`; null itself clears all.

    Raises Error `validation_error` for more than 16 pairs of 64 and 512 characters, as officially.
    """
    if isinstance(patch, UnsetType):
        return before
    if patch is None:
        return {}
    merged = {**before, **patch}
    kept = {name: value for name, value in merged.items() if value is not None and (value or not empty_deletes)}
    if len(kept) > 16 or any(len(name) > 64 or len(value) > 512 for name, value in kept.items()):
        raise Error("validation_error", "metadata holds at most 16 pairs, names of 64 and values of 512 characters")
    return kept


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
