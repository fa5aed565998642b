"""What a gateway must know of MCP: eras, tool names, header mirrors; the facts it adds, and the lists it filters."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from enum import Enum
from functools import lru_cache
from typing import Never, cast

import msgspec
from msgspec import Raw

from arrowslit.protocol.jsonrpc import Id, Kind, Message, Refused, fold, members_in
from arrowslit.protocol.mirrors import unwrapped

Headers = Sequence[tuple[str, str]]
"""HTTP fields in order: lower-case name, value without surrounding whitespace (RFC 9110, 5.5)."""

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
        return [_text(value) for key, value in (self.message.meta or {}).items() if fold(key) in keys]


_VERSION, _METHOD, _NAME, _SESSION = "mcp-protocol-version", "mcp-method", "mcp-name", "mcp-session-id"
_VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
_DEADLINE_KEY, _DEADLINE_HEADER = "dev.arrowslit/deadline-ms", "arrowslit-deadline-ms"
_NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}  # what the header Mcp-Name repeats

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TOKEN = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MILLISECONDS = re.compile(r"[1-9][0-9]{0,6}")

_encode = msgspec.json.Encoder().encode
_decode_text = msgspec.json.Decoder(str).decode
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
    resources, prompt, unknown = _NAMING[method](message) if method in _NAMING else _NAMES_NOTHING
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


Shows = Callable[[str, str, Raw], bool]
"""Whether an entry of a list may be seen: a key of LISTS, what names the entry, the entry as its server wrote it."""

LISTS = {"tools": "name", "prompts": "name", "resources": "uri", "resourceTemplates": "uriTemplate"}
"""The lists of a result that policy cuts down, and which member names an entry."""


LISTED = 4 << 20  # bytes of a list that must be read to be filtered
MOST_ENTRIES = 10_000  # of one answer: five times what an agent can have pinned of a server
MOST_MEMBERS = 1_000  # of an answer, its result or an entry; each of their names is compared


def filter_lists(body: bytes, shows: Shows) -> bytes:
    """A response with one of LISTS in its result, without the entries that may not be seen; anything else as it is.

    Takes a whole JSON body or the data of one event. Order, and every byte of what stays, is kept; `cacheScope` becomes
    private. Raises Refused `list_unreadable` for a list that clients could read in more than one way, or of too many
    entries, and `result_too_large` for one that is longer than LISTED.
    """
    steps = filtering(body, shows)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return cast(bytes, done.value)


def filtering(body: bytes, shows: Shows) -> Generator[int, None, bytes]:
    """The same in steps, for who has something else to do in between. Yields how many bytes each had to do with."""
    if not _may_hold_a_list(body):
        return body
    yield len(body)
    try:
        body.decode()
        whole = _decode_raw(body)
        if _starts(whole, "["):
            _refuse_lists(_decode_entries(whole))
            return body
        envelope = _members(whole)
        yield from _each_once(whole, envelope)
        result = _members(_only(envelope, "result"))
        yield from _each_once(envelope.get("result"), result)
        lists = _lists(result)
        if lists and len(body) > LISTED:
            raise Refused("result_too_large", f"a list that is filtered may have {LISTED >> 20} MiB")
        for kind in lists:
            result[kind] = Raw((yield from _shown(kind, result[kind], shows)))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        _unsafe("the answer is not JSON in UTF-8")
    if not lists:
        return body
    if "cacheScope" in result:
        result["cacheScope"] = Raw(b'"private"')
    envelope["result"] = Raw(_encode(result))
    return _encode(envelope)


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
    return Page(heard.id, _encode(cursor) if cursor else None)


def progress_token(data: bytes) -> Id | None:
    """The token of a `notifications/progress`, None for anything else. Never raises."""
    if b'"progressToken"' not in data:
        return None
    try:
        heard = _decode_progress(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return heard.params.progressToken if heard.method == "notifications/progress" else None


_FORWARDED = frozenset({"accept", "content-type", "last-event-id", "traceparent", "tracestate", "baggage"})

# A connection's own business (RFC 9110, 7.6.1), what the relay says itself, and what speaks for a whole origin and so
# for every other server behind the same relay.
_NOT_RETURNED = frozenset(
    [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "content-length",
        "date",
        "server",
        "set-cookie",
        "set-cookie2",
        "alt-svc",
        "clear-site-data",
        "strict-transport-security",
    ]
)


def forward(headers: Headers) -> list[tuple[str, str]]:
    """What of a request's headers goes to the target. Never a credential, a cookie, or anything that is ours."""
    return [pair for pair in headers if pair[0] in _FORWARDED or pair[0].startswith("mcp-")]


def returnable(headers: Headers) -> list[tuple[str, str]]:
    """What of a response's headers goes to the caller."""
    dropped = _NOT_RETURNED
    named = [value for name, value in headers if name == "connection"]
    if named:
        dropped |= {token.strip().lower() for value in named for token in value.split(",")}
    return [
        pair for pair in headers if pair[0] not in dropped and not pair[0].startswith(("arrowslit-", "access-control-"))
    ]


@lru_cache(maxsize=64)
def acceptable(accept: str) -> bool:
    """Whether the value of an Accept header leaves room for JSON or for events, the two forms of an answer.

    RFC 9110, 12.5.1; which of the two a server wants to see is its own affair.
    """
    for part in accept.lower().split(","):
        kind, *parameters = (each.strip() for each in part.split(";"))
        if kind in _FORMS and not any(_NO_WEIGHT.fullmatch(each) for each in parameters):
            return True
    return False


_FORMS = frozenset({"application/json", "text/event-stream", "application/*", "text/*", "*/*"})
_NO_WEIGHT = re.compile(r"q=0(\.0{0,3})?")


def _may_be_version(version: str) -> bool:
    """A date since there is MCP, or the name of a draft."""
    return _TOKEN.fullmatch(version) is not None and not (version < "2024-11-05" and _DATE.fullmatch(version))


def _is_modern(version: str) -> bool:
    return _DATE.fullmatch(version) is not None and version >= "2026-07-28"


def _check_mirrors(message: Message, meta: Mapping[str, Raw], routing: Mapping[str, str]) -> None:
    """Headers repeat the body, or Refused `header_mismatch`. They must be there where the body names its version.

    MCP 2026-07-28, Streamable HTTP; the checks of a server of the python SDK (`mcp.shared.inbound`), for every era.
    """
    required = _VERSION_KEY in meta and message.kind is Kind.REQUEST
    if _VERSION_KEY in meta and (required or _VERSION in routing):
        _agree(_VERSION, routing.get(_VERSION), _text(meta[_VERSION_KEY]), message.id)
    if required or _METHOD in routing:
        _agree(_METHOD, routing.get(_METHOD), message.method, message.id)
    member = _NAMED.get(message.method or "")
    if member and message.params and member in message.params and (required or _NAME in routing):
        _agree(_NAME, unwrapped(routing.get(_NAME, "")), _text(message.params[member]), message.id)


def _agree(name: str, header: str | None, body: str | None, ident: Id | None) -> None:
    if header is None or header != body:
        raise Refused("header_mismatch", f"the header {name} does not say what the body says", ident)


def _text(raw: Raw | None) -> str | None:
    try:
        return None if raw is None else _decode_text(raw)
    except msgspec.MsgspecError:
        return None


def _token(raw: Raw) -> Id | None:
    try:
        return _decode_token(raw)
    except msgspec.MsgspecError:
        return None


def _tool(message: Message) -> str:
    params = message.params or {}
    name = _text(params["name"]) if "name" in params else None
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


class _Ref(msgspec.Struct, forbid_unknown_fields=True):
    """What `completion/complete` refers to."""

    type: str
    name: str | None = None
    uri: str | None = None
    title: str | None = None


class _Subscribed(msgspec.Struct):
    """What `subscriptions/listen` asks to be told."""

    resourceSubscriptions: list[str] | None = None  # noqa: N815 the name on the wire


Named = tuple[tuple[str, ...], str | None, str | None]
_NAMES_NOTHING: Named = (), None, None


def _resource(message: Message) -> Named:
    params = message.params or {}
    uri = _text(params["uri"]) if "uri" in params else None
    return (() if uri is None else (uri,)), None, None


def _prompt(message: Message) -> Named:
    params = message.params or {}
    return (), _text(params["name"]) if "name" in params else None, None


def _completed(message: Message) -> Named:
    """The prompt, or the resource, of which an argument is completed."""
    params = message.params or {}
    try:
        ref = _decode_ref(params["ref"]) if "ref" in params else None
    except msgspec.MsgspecError:
        ref = None
    match ref:
        case _Ref(type="ref/resource", uri=str(uri), name=None):
            return (uri,), None, None
        case _Ref(type="ref/prompt", name=str(name), uri=None):
            return (), name, None
        case _:
            return _NAMES_NOTHING


def _subscribed(message: Message) -> Named:
    """The resources of which a modern client wants to hear, and what else that extensions of MCP may understand.

    Raises Refused for notifications that are no object.
    """
    params = message.params or {}
    asked = params.get("notifications")
    try:
        keys = _decode_members(asked) if asked is not None else {}
        uris = _decode_subscribed(asked).resourceSubscriptions if asked is not None else None
    except msgspec.MsgspecError:
        raise Refused("arguments_invalid", "notifications is no object with a list of URIs", message.id) from None
    unknown = [*(key for key in params if key != "notifications"), *(key for key in keys if key not in _NEWS)]
    return tuple(uris or ()), None, unknown[0] if unknown else None


_NEWS = frozenset({"promptsListChanged", "resourceSubscriptions", "resourcesListChanged", "toolsListChanged"})
"""What a client may want to hear of: SubscriptionFilter of MCP 2026-07-28. Extensions add keys, like `taskIds`."""

_NAMING: Mapping[str, Callable[[Message], Named]] = {
    "resources/read": _resource,
    "resources/subscribe": _resource,
    "resources/unsubscribe": _resource,
    "prompts/get": _prompt,
    "completion/complete": _completed,
    "subscriptions/listen": _subscribed,
}


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
    nextCursor: str | None = None  # noqa: N815 the name on the wire


class _PageMessage(msgspec.Struct):
    id: int | str
    result: _PageResult


_decode_page = msgspec.json.Decoder(_PageMessage).decode
_decode_answer = msgspec.json.Decoder(_Heard).decode
_decode_progress = msgspec.json.Decoder(_ProgressMessage).decode
_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_raw = msgspec.json.Decoder(Raw).decode
_decode_entries = msgspec.json.Decoder(list[Raw]).decode
_decode_ref = msgspec.json.Decoder(_Ref).decode
_decode_subscribed = msgspec.json.Decoder(_Subscribed).decode


def _unsafe(why: str) -> Never:
    raise Refused("list_unreadable", why)


def _may_hold_a_list(body: bytes) -> bool:
    """Whether a key of `body` can be one of LISTS for any reader: written plainly, in any case, escaped, or not in
    UTF-8.

    A reader that ignores case takes `ſ` (U+017F) for `s`; no other character beyond ASCII folds to one of the letters.
    """
    start = body.lstrip(_BLANK)[:1]
    if b"!" <= start <= b"~" and start not in b"{[":
        return False  # plain text, an HTML page: not JSON in any encoding
    lower = body.lower()
    return (
        b"tools" in lower
        or b"resource" in lower
        or b"prompts" in lower
        or b"\\u" in body
        or b"\xc5\xbf" in body
        or b"\0" in body
    )


_BLANK = b" \t\r\n"
_FOLDED_LISTS = frozenset(map(fold, LISTS))

Members = dict[str, Raw]


def _starts(value: Raw, bracket: str) -> bool:
    return memoryview(value)[0] == ord(bracket)


def _members(value: Raw | None) -> Members:
    """The members of an object, none of anything else."""
    members = _decode_members(value) if value is not None and _starts(value, "{") else {}
    if len(members) > MOST_MEMBERS:
        _unsafe(f"an object has more than {MOST_MEMBERS} members")
    return members


def _each_once(holder: Raw | None, members: Members) -> Generator[int, None, None]:
    """Raises Refused if a key stands twice in the object `holder`, by any spelling: of those decoding keeps one."""
    if members and holder is not None:
        written = members_in(bytes(holder))
        yield len(memoryview(holder))
        if written != len(members) + members_in(b",".join(map(bytes, members.values()))):
            _unsafe("a key stands twice")
        yield len(memoryview(holder))


def _lists(result: Members) -> list[str]:
    """Those of LISTS that a result has. Raises Refused where readers could disagree about that."""
    if any(key not in LISTS and fold(key[:64]) in _FOLDED_LISTS for key in result):
        _unsafe("the result could be read to have another list")
    return [kind for kind in LISTS if kind in result]


def _shown(kind: str, raw: Raw, shows: Shows) -> Generator[int, None, bytes]:
    """A list without the entries that may not be seen."""
    if not _starts(raw, "["):
        _unsafe(f"result.{kind} is not an array")
    entries = _decode_entries(raw)
    if len(entries) > MOST_ENTRIES:
        _unsafe(f"it has more than {MOST_ENTRIES} entries")
    yield len(memoryview(raw))
    shown: list[Raw] = []
    for entry in entries:
        members = _members(entry)
        for _ in _each_once(entry, members):
            pass
        name = _text(_only(members, LISTS[kind]))
        if name and shows(kind, name, entry):
            shown.append(entry)
        yield len(memoryview(entry)) + ENTRY
    return _encode(shown)


ENTRY = 256  # bytes that an entry of none would be worth in work


def _refuse_lists(parts: Sequence[Raw]) -> None:
    """Raises Refused if one of the messages of a batch holds a list."""
    for part in parts:
        envelope = _members(part)
        result = _members(_only(envelope, "result"))
        for holder, members in ((part, envelope), (envelope.get("result"), result)):
            for _ in _each_once(holder, members):
                pass
        if _lists(result):
            _unsafe("the list is part of a batch")


def _only(members: Members, name: str) -> Raw | None:
    """The value of a member, None where there is none. Raises Refused if it could be there twice."""
    folded = fold(name)
    if any(key != name and fold(key[:64]) == folded for key in members):
        _unsafe(f"an object could be read to have another {name!r}")
    return members.get(name)
