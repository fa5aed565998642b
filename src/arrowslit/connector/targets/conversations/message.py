"""Reads and rewrites JSON-RPC messages on both sides of the façade, and never touches arguments or results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from msgspec import Raw

RequestId = int | str

VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES_KEY = "io.modelcontextprotocol/clientCapabilities"
CLIENT_KEY = "io.modelcontextprotocol/clientInfo"
LOG_LEVEL_KEY = "io.modelcontextprotocol/logLevel"
SUBSCRIPTION_KEY = "io.modelcontextprotocol/subscriptionId"

# What msgspec raises for bytes that are no message; ValueError stands for text that is not UTF-8.
_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)

_Members = dict[str, Raw]
_NO_MEMBERS: Mapping[str, Raw] = {}
_members = msgspec.json.Decoder(_Members)
_text = msgspec.json.Decoder(str)
_request_id: msgspec.json.Decoder[RequestId] = msgspec.json.Decoder(RequestId)
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Posted:
    """A message that a client posted: a request (method and id), a notification (method), or else a response.

    `members` are its top-level members as bytes, `params` and `meta` (of `params._meta`) likewise, empty if absent.
    """

    body: bytes
    members: Mapping[str, Raw]
    id: RequestId | None
    method: str | None
    params: Mapping[str, Raw]
    meta: Mapping[str, Raw]

    @property
    def token(self) -> RequestId | None:
        """Its progress token."""
        return _id(self.meta.get("progressToken"))


class Unreadable(Exception):
    """A message of the server that looked well and cannot be rewritten."""


class Said(msgspec.Struct, frozen=True):
    """A line of the server: a request or notification (`method`), or the answer to `id` (`result` or `error`)."""

    id: RequestId | None = None
    method: str | None = None
    params: Raw = Raw()
    result: Raw = Raw()
    error: Raw = Raw()

    @property
    def answers(self) -> bool:
        """Whether it is an answer to a request that had an id."""
        return self.method is None and self.id is not None and bool(self.result or self.error)


class About(msgspec.Struct, frozen=True):
    """What the params of a notification say about where it belongs."""

    meta: dict[str, Raw] = msgspec.field(name="_meta", default_factory=dict)
    progress_token: RequestId | None = msgspec.field(name="progressToken", default=None)
    request_id: RequestId | None = msgspec.field(name="requestId", default=None)

    @property
    def subscription(self) -> RequestId | None:
        """The id of the `subscriptions/listen` request that it belongs to."""
        return _id(self.meta.get(SUBSCRIPTION_KEY))


class _Error(msgspec.Struct, frozen=True):
    code: int


_said = msgspec.json.Decoder(Said)
_about = msgspec.json.Decoder(About)
_error = msgspec.json.Decoder(_Error)


def read_posted(body: bytes) -> Posted:
    """A body that was read strictly before, taken apart three levels deep. Raises ValueError for anything else."""
    try:
        members = _members.decode(body)
        method = members.get("method")
        params = _object(members.get("params"))
        return Posted(
            body,
            members,
            _request_id.decode(members["id"]) if "id" in members else None,
            None if method is None else _text.decode(method),
            params,
            _object(params.get("_meta")),
        )
    except _UNREADABLE as error:
        raise ValueError(str(error)) from None


def read_said(line: bytes) -> Said | None:
    """A line of the server; None if it is no JSON-RPC message (a log line, say)."""
    try:
        said = _said.decode(line)
    except _UNREADABLE:
        return None
    return said if said.method is not None or said.result or said.error else None


def about(said: Said) -> About:
    """What a notification belongs to; nothing, if its params do not say or are no object."""
    try:
        return _about.decode(said.params) if said.params else About()
    except _UNREADABLE:
        return About()


def error_code(said: Said) -> int | None:
    """The code of an error answer, None for a result; 0 if it is an error without a readable code."""
    if not said.error:
        return None
    try:
        return _error.decode(said.error).code
    except _UNREADABLE:
        return 0


def one_line(body: bytes) -> bytes:
    """The same JSON without line ends. In JSON they stand only between tokens, so each may become a space."""
    if b"\n" in body or b"\r" in body:
        return body.replace(b"\n", b" ").replace(b"\r", b" ")
    return body


def request_line(posted: Posted, own: int, *, own_token: bool) -> bytes:
    """A client's request with an id of ours, and with that as its progress token too if `own_token` is set."""
    members: dict[str, object] = dict(posted.members)
    members["id"] = own
    if own_token and "progressToken" in posted.meta:
        meta: dict[str, object] = dict(posted.meta)
        meta["progressToken"] = own
        members["params"] = {**posted.params, "_meta": meta}
    return one_line(_encode(members))


def question_line(own: int, method: str, params: object) -> bytes:
    """A request of our own; `params` may be or hold Raw."""
    return one_line(_encode({"jsonrpc": "2.0", "id": own, "method": method, "params": params}))


def notice_line(method: str, params: object | None = None) -> bytes:
    """A notification of our own."""
    return _encode({"jsonrpc": "2.0", "method": method} | ({} if params is None else {"params": params}))


def cancelled_line(posted: Posted, own: int) -> bytes:
    """A client's `notifications/cancelled` with our id of the request that it means."""
    return one_line(_encode({**posted.members, "params": {**posted.params, "requestId": own}}))


def cancelled_id(posted: Posted) -> RequestId | None:
    """The client's id of the request that a `notifications/cancelled` means."""
    return _id(posted.params.get("requestId"))


def answer_body(said: Said, client_id: RequestId, *, subscription: bool = False) -> bytes:
    """The server's answer under the client's id. `subscription`: its `_meta` names the request's id as well.

    Raises Unreadable if that cannot be replaced.
    """
    kind, content = (b'"error":', said.error) if said.error else (b'"result":', said.result)
    if subscription and said.result:
        content = _in_meta(said.result, SUBSCRIPTION_KEY, client_id)
    return b"".join((b'{"jsonrpc":"2.0","id":', _encode(client_id), b",", kind, content, b"}"))


def progress_body(line: bytes, said: Said, token: RequestId) -> bytes:
    """A progress notification with the client's token in place of ours. Raises Unreadable."""
    try:
        params = _members.decode(said.params)
        return _encode({**_members.decode(line), "params": {**params, "progressToken": token}})
    except _UNREADABLE as error:
        raise Unreadable(str(error)) from None


def subscription_body(line: bytes, said: Said, client_id: RequestId) -> bytes:
    """A notification of a subscription with the client's request id in place of ours. Raises Unreadable."""
    return _encode({**_members.decode(line), "params": _in_meta(said.params, SUBSCRIPTION_KEY, client_id)})


def error_body(request_id: RequestId | None, code: int, message: str) -> bytes:
    """A JSON-RPC error answer of our own."""
    return _encode({"jsonrpc": "2.0", "id": request_id, "error": {"code": code, "message": message}})


def _in_meta(content: Raw, key: str, value: object) -> Raw:
    """An object with one entry of its `_meta` replaced. Raises Unreadable for anything else."""
    try:
        members = _members.decode(content)
        return Raw(_encode({**members, "_meta": {**_object(members.get("_meta")), key: value}}))
    except _UNREADABLE as error:
        raise Unreadable(str(error)) from None


def _object(raw: Raw | None) -> Mapping[str, Raw]:
    """The members of a JSON object; none for anything else."""
    if raw is None:
        return _NO_MEMBERS
    try:
        return _members.decode(raw)
    except msgspec.ValidationError:
        return _NO_MEMBERS


def text(raw: Raw | None) -> str | None:
    """A JSON string, None if absent or of another type."""
    try:
        return None if raw is None else _text.decode(raw)
    except _UNREADABLE:
        return None


def _id(raw: Raw | None) -> RequestId | None:
    """An id or token, None if absent or of another type."""
    if raw is None:
        return None
    try:
        request_id: RequestId = _request_id.decode(raw)
    except _UNREADABLE:
        return None
    return request_id
