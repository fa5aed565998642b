"""What a server says through the official SDK when it does not do what it was asked to, as our Error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from anthropic import APIError, APIStatusError

from arrowslit.errors import CODES, Error

PASSING = frozenset({408, 409, 429})  # of the statuses below 500 those after which the SDK tries again, and so do we

UNREADABLE = (AttributeError, LookupError, RecursionError, TypeError, ValueError, msgspec.DecodeError)
"""What reading an answer raises that is something else than was asked for, or is made to be more than one can read."""


@contextmanager
def said() -> Iterator[None]:
    """Raises Error for what the SDK raises."""
    try:
        yield
    except APIStatusError as error:
        raise _refusal(error) from error
    except APIError as error:
        why = first(error.__cause__ or error)
        raise Error("relay_unreachable", f"no answer from {error.request.url.host}: {why}") from error
    except UNREADABLE as error:
        raise Error("relay_unreachable", "the server answered with something else than was asked for") from error


def _refusal(error: APIStatusError) -> Error:
    """An answer that is a refusal, with the relay's code for it: retryable exactly where the SDK would try again."""
    status = error.status_code
    code, message, hint = _told(error)
    said = f"the server answers {status}: {message}"
    if status >= 500 or status in PASSING:
        return Error("relay_unreachable", said)
    if code is None or code not in CODES or CODES[code].retryable:
        code = _USUAL.get(status, "validation_error")
    return Error(code, said, hint=hint)


_USUAL = {401: "unauthenticated", 403: "forbidden", 404: "not_found", 405: "method_not_supported"}
"""Codes for the answers of a server that has none of ours."""


def _told(error: APIStatusError) -> tuple[str | None, str, str | None]:
    """The code, the message and the hint of an error in the official envelope, as far as they are there."""
    said: Any = error.body
    try:
        message = str(said["error"]["message"])
        details = said["error"].get("details") or {}
        return details.get("error_code"), message, details.get("hint")
    except (TypeError, KeyError, AttributeError):
        return None, "without saying why", None


def first(error: BaseException) -> BaseException:
    """The first of those in a group."""
    return first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


@contextmanager
def where_supported() -> Iterator[None]:
    """For what only our relay has: what another server says about a path that it does not know is `not_supported`."""
    try:
        yield
    except Error as error:
        if error.code in ("not_found", "method_not_supported"):
            raise Error("not_supported", error.message) from error
        raise
