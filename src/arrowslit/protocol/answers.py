"""PURE: what a message of a server is, told from as little of it as will do: an answer, a page of a list, progress."""

from __future__ import annotations

import msgspec
from msgspec import Raw

from arrowslit.protocol.jsonrpc import Id, fold, text


def answer_id(data: bytes) -> Id | None:
    """The id that a JSON-RPC response answers, None for anything else. Never raises; reads no more than it must."""
    try:
        heard = _decode_answer(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return heard.id if not heard.method and (heard.result or heard.error) else None


def asks(data: bytes) -> bool:
    """Whether it is a request or a notification, and cannot be taken for an answer as well. Never raises."""
    try:
        heard = _decode_answer(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return bool(heard.method) and not heard.result and not heard.error


def addressed(data: bytes) -> bool:
    """Whether some reader could take it for an answer to somebody: what names an id, a batch, and what is no JSON.

    Never raises. An error of HTTP mostly has a body that is not.
    """
    try:
        members = _decode_members(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return bool(data.strip())
    ids = [name for name in members if fold(name[:64]) == "id"]
    return bool(ids) and (ids != ["id"] or bytes(members["id"]) != b"null")


class Page(msgspec.Struct, frozen=True):
    """One page of a list, without what is on it. `next` is the cursor of the page after it, in JSON; None for none."""

    id: Id
    next: bytes | None


def page(data: bytes) -> Page | None:
    """The page that a JSON-RPC response is, None for anything else. Never raises."""
    try:
        heard = _decode_page(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    cursor = heard.result.nextCursor
    said = text(cursor) if bytes(cursor) else ""
    if said is None:
        return Page(heard.id, None if bytes(cursor) == b"null" else bytes(cursor))
    return Page(heard.id, _encode(said) if said else None)


def progress_token(data: bytes) -> Id | None:
    """The token of a `notifications/progress`, None for anything else. Never raises."""
    if b'"progressToken"' not in data:
        return None
    try:
        heard = _decode_progress(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return heard.params.progressToken if heard.method == "notifications/progress" else None


class _Heard(msgspec.Struct):
    """What tells an answer from the other messages of a stream."""

    id: int | str | None = None
    method: Raw = Raw()  # empty where there is none
    result: Raw = Raw()
    error: Raw = Raw()


class _Progress(msgspec.Struct):
    progressToken: int | str  # noqa: N815 the name on the wire


class _ProgressMessage(msgspec.Struct):
    method: str
    params: _Progress


class _PageResult(msgspec.Struct):
    nextCursor: Raw = Raw()  # noqa: N815 the name on the wire; text, but what is none says as well that there is more


class _PageMessage(msgspec.Struct):
    id: int | str
    result: _PageResult


_encode = msgspec.json.Encoder().encode
_decode_page = msgspec.json.Decoder(_PageMessage).decode
_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_answer = msgspec.json.Decoder(_Heard).decode
_decode_progress = msgspec.json.Decoder(_ProgressMessage).decode
