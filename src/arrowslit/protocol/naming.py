"""PURE: what a request names besides a tool: resources and the prompt that it reads, completes or subscribes to."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
from msgspec import Raw

from arrowslit.protocol.jsonrpc import Message, Refused, text

Named = tuple[tuple[str, ...], str | None, str | None]
"""URIs of resources, a prompt, and anything else that only an extension of MCP can name."""

_NAMES_NOTHING: Named = (), None, None


def named(message: Message) -> Named:
    """What it names, as far as that can be read in one way only. Raises Refused for what is no proper request."""
    names = _NAMING.get(message.method or "")
    return _NAMES_NOTHING if names is None else names(message)


class _Ref(msgspec.Struct, forbid_unknown_fields=True):
    """What `completion/complete` refers to."""

    type: str
    name: str | None = None
    uri: str | None = None
    title: str | None = None


class _Subscribed(msgspec.Struct):
    """What `subscriptions/listen` asks to be told."""

    resourceSubscriptions: list[str] | None = None  # noqa: N815 the name on the wire


def _resource(message: Message) -> Named:
    params = message.params or {}
    uri = text(params["uri"]) if "uri" in params else None
    return (() if uri is None else (uri,)), None, None


def _prompt(message: Message) -> Named:
    params = message.params or {}
    return (), text(params["name"]) if "name" in params else None, None


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

_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_ref = msgspec.json.Decoder(_Ref).decode
_decode_subscribed = msgspec.json.Decoder(_Subscribed).decode
