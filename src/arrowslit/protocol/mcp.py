"""PURE: what a message of a client asks for, in every era of MCP, and the facts that a gateway adds to it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import Enum
from functools import lru_cache

import msgspec
from msgspec import Raw

from arrowslit.protocol.fields import Headers
from arrowslit.protocol.jsonrpc import Id, Kind, Message, Refused, fold, text
from arrowslit.protocol.mirrors import unwrapped
from arrowslit.protocol.naming import named

NAMESPACE = "dev.arrowslit/"
"""The prefix of our keys in `params._meta`. What a client writes under it never reaches a server."""

MAX_DEADLINE_MS = 3_600_000  # one hour


class Era(Enum):
    """Which kind of MCP a request speaks; decided for each request anew."""

    LEGACY = "legacy"  # 2024-11-05 to 2025-11-25: a handshake, sessions
    MODERN = "modern"  # from 2026-07-28: each request carries version and capabilities, and closing the stream cancels


class Asked(msgspec.Struct, frozen=True):
    """What a message asks for. `method` is None for a posted response.

    `tool` is set for `tools/call` alone. `resources` are the URIs that a request for resources names, `prompt` is the
    prompt of a request for one; empty and None where it names none, or none that can be read in one way only. `unknown`
    is a thing that `subscriptions/listen` wants to hear of and MCP's own part of the method does not know.
    """

    message: Message
    era: Era
    method: str | None
    tool: str | None = None
    deadline_ms: int | None = None
    progress_token: Id | None = None
    resources: tuple[str, ...] = ()
    prompt: str | None = None
    unknown: str | None = None

    @property
    def tenants(self) -> list[str | None]:
        """Everything in `_meta` that a server could take for the tenant: ours or the bare alias, in any spelling."""
        keys = (NAMESPACE + "tenant", "tenant")
        return [text(value) for key, value in (self.message.meta or {}).items() if fold(key) in keys]


_VERSION, _METHOD, _NAME, _SESSION = "mcp-protocol-version", "mcp-method", "mcp-name", "mcp-session-id"
_VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
_DEADLINE_KEY, _DEADLINE_HEADER = "dev.arrowslit/deadline-ms", "arrowslit-deadline-ms"
_NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}  # what the header Mcp-Name repeats

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TOKEN = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MILLISECONDS = re.compile(r"[1-9][0-9]{0,6}")

_encode = msgspec.json.Encoder().encode
_decode_whole_number = msgspec.json.Decoder(int).decode
_tokens: msgspec.json.Decoder[Id] = msgspec.json.Decoder(Id)
_decode_token = _tokens.decode


def routing_headers(headers: Headers, ident: Id | None = None) -> Mapping[str, str]:
    """The headers that mean something to MCP or us, by name. Raises Refused `header_ambiguous` if one stands twice."""
    found, twice = _routing(tuple(headers))
    if twice is not None:
        raise Refused("header_ambiguous", f"the header {twice} stands twice", ident)
    return found


@lru_cache(maxsize=512)
def _routing(headers: tuple[tuple[str, str], ...]) -> tuple[Mapping[str, str], str | None]:
    found: dict[str, str] = {}
    for name, value in headers:
        if name[:4] == "mcp-" or name[:10] == "arrowslit-" or name == "last-event-id":
            if name in found:
                return found, name
            found[name] = value
    return found, None


def check_version(routing: Mapping[str, str], ident: Id | None = None) -> None:
    """Raises Refused `unsupported_protocol_version` for a header that can name none.

    Whether it serves a version is the server's to say: it names those that it does.
    """
    version = routing.get(_VERSION)
    if version is not None and not _may_be_version(version):
        raise Refused("unsupported_protocol_version", f"the header {_VERSION} names no version of MCP", ident)


def peek(message: Message, headers: Headers) -> Asked:
    """What `message` asks for. Everything is decided from the body; headers that repeat it have to agree with it.

    Raises Refused for a request without an id, a notification with one, arguments that are no object, a deadline that
    is none, a header that contradicts the body or stands twice, and a response to nobody's question.
    """
    routing = routing_headers(headers, message.id)
    method = message.method
    if method is None:
        if _SESSION not in routing or _is_modern(routing.get(_VERSION, "")):
            raise Refused(
                "unexpected_response", "no server asked this client anything outside of a session", message.id
            )
        return Asked(message, Era.LEGACY, None)
    if method.startswith("notifications/") != (message.kind is Kind.NOTIFICATION):
        if message.kind is Kind.REQUEST:
            raise Refused("invalid_request", "a notification has no id", message.id)
        raise Refused("id_required", "a request needs an id")
    meta = message.meta or {}
    _check_mirrors(message, meta, routing)
    check_version(routing, message.id)
    resources, prompt, unknown = named(message)
    return Asked(
        message,
        Era.MODERN if _VERSION_KEY in meta or _is_modern(routing.get(_VERSION, "")) else Era.LEGACY,
        method,
        _tool(message) if method == "tools/call" else None,
        _deadline(meta.get(_DEADLINE_KEY), routing.get(_DEADLINE_HEADER), message.id),
        _token(meta["progressToken"]) if "progressToken" in meta else None,
        resources,
        prompt,
        unknown,
    )


def stamp(message: Message, facts: Mapping[str, str], aliases: Mapping[str, str]) -> Message:
    """The message as the server shall see it: a request says our `facts` (`tenant`, `call-id`) in `_meta`.

    `aliases` are further keys, alias → fact. Every key of the client's that could be taken for one of ours or for an
    alias is removed from `_meta`, from notifications too, whether or not there is a fact to write.
    """
    meta = _without_ours(message.meta, aliases) if message.meta else {}
    if message.kind is Kind.REQUEST and facts:
        for name, value in facts.items():
            meta[NAMESPACE + name] = Raw(_encode(value))
        for alias, name in aliases.items():
            if name in facts:
                meta[alias] = meta[NAMESPACE + name]
    elif message.meta is None:
        return message
    return Message(message.kind, message.id, message.method, message.params or {}, meta)


@lru_cache(maxsize=64)
def _may_be_version(version: str) -> bool:
    """A date since there is MCP, or the name of a draft."""
    return _TOKEN.fullmatch(version) is not None and not (version < "2024-11-05" and _DATE.fullmatch(version))


@lru_cache(maxsize=64)
def _is_modern(version: str) -> bool:
    return _DATE.fullmatch(version) is not None and version >= "2026-07-28"


def _check_mirrors(message: Message, meta: Mapping[str, Raw], routing: Mapping[str, str]) -> None:
    """Headers repeat the body, or Refused `header_mismatch`. They must be there where the body names its version.

    MCP 2026-07-28, Streamable HTTP; the checks of a server of the python SDK (`mcp.shared.inbound`), for every era.
    """
    required = _VERSION_KEY in meta and message.kind is Kind.REQUEST
    if _VERSION_KEY in meta and (required or _VERSION in routing):
        _agree(_VERSION, routing.get(_VERSION), text(meta[_VERSION_KEY]), message.id)
    if required or _METHOD in routing:
        _agree(_METHOD, routing.get(_METHOD), message.method, message.id)
    member = _NAMED.get(message.method or "")
    if member and message.params and member in message.params and (required or _NAME in routing):
        _agree(_NAME, unwrapped(routing.get(_NAME, "")), text(message.params[member]), message.id)


def _agree(name: str, header: str | None, body: str | None, ident: Id | None) -> None:
    if header is None or header != body:
        raise Refused("header_mismatch", f"the header {name} does not say what the body says", ident)


def _token(raw: Raw) -> Id | None:
    try:
        return _decode_token(raw)
    except msgspec.MsgspecError:
        return None


def _tool(message: Message) -> str:
    params = message.params or {}
    name = text(params["name"]) if "name" in params else None
    if name is None:
        raise Refused("arguments_invalid", "tools/call needs the name of a tool, a string", message.id)
    if "arguments" in params and memoryview(params["arguments"])[0] != 0x7B:
        raise Refused("arguments_invalid", "the arguments of a tool are an object", message.id)
    return name


def _deadline(raw: Raw | None, header: str | None, ident: Id | None) -> int | None:
    """Milliseconds, from the body rather than from the header; None if neither names a deadline."""
    if raw is not None:
        try:
            milliseconds = _decode_whole_number(raw)
        except msgspec.MsgspecError:
            milliseconds = 0
    elif header is not None:
        milliseconds = int(header) if _MILLISECONDS.fullmatch(header) else 0
    else:
        return None
    if not 1 <= milliseconds <= MAX_DEADLINE_MS:
        raise Refused("deadline_invalid", f"a deadline is a whole number of ms, 1 to {MAX_DEADLINE_MS}", ident)
    return milliseconds


def _without_ours(meta: Mapping[str, Raw], aliases: Iterable[str]) -> dict[str, Raw]:
    folded = frozenset(map(fold, aliases))
    return {
        key: value
        for key, value in meta.items()
        if (seen := fold(key)) not in folded and not seen.startswith(NAMESPACE)
    }
