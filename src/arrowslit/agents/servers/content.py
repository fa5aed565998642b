"""MCP content → content blocks of a session's event, without I/O (reference of the Managed Agents API, section 5).

What comes out is fit for a model whatever a server sends: known kinds only, media types that models take, base64 that
is base64, no empty text, and at most KEPT bytes of all together. What is left out is said in words.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from arrowslit.agents.servers.tool import Block, text

KEPT = 1 << 20  # bytes of content of one result that a session keeps and a model is shown
_PER_BLOCK = 64  # bytes that a block counts besides its content, so that a million empty ones are not free
_TITLE = 256  # characters

_IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})  # what the Messages API takes
_PDF = "application/pdf"


def blocks(result: Mapping[str, Any]) -> tuple[Block, ...]:
    """The blocks of a result of `tools/call`.

    Structured content is shown where there is no other: a server repeats it as text (MCP 2025-06-18, tools). A result
    that is none of MCP's is shown as it is.
    """
    content = result.get("content")
    if isinstance(content, list) and content:
        return tuple(_bounded(_blocks(content)))
    structured = result.get("structuredContent")
    if structured is not None:
        return tuple(_bounded([text(_json(structured))]))
    if isinstance(content, list):
        return ()
    shown = {name: value for name, value in result.items() if name not in ("_meta", "isError", "resultType")}
    return tuple(_bounded([text(_json(shown))])) if shown else ()


def _blocks(content: Sequence[object]) -> Iterator[Block]:
    for each in content:
        if not isinstance(each, dict):
            yield text(_json(each))
            continue
        match each:
            case {"type": "text", "text": str(words)}:
                yield text(words)
            case {"type": "image", "mimeType": str(media), "data": str(data)}:
                yield _binary(media, data) or _left_out("image", media, data)
            case {"type": "resource", "resource": dict(resource)}:
                yield _resource(resource)
            case _:
                yield text(_json(_without_bulk(each)))


def _resource(resource: Mapping[str, Any]) -> Block:
    uri, media = resource.get("uri"), resource.get("mimeType")
    title = uri[:_TITLE] if isinstance(uri, str) else ""
    match resource:
        case {"text": str(words)} if words:
            source = {"type": "text", "media_type": "text/plain", "data": words}
            return {"type": "document", "source": source, **({"title": title} if title else {})}
        case {"blob": str(data)} if isinstance(media, str):
            found = _binary(media, data)
            if found is None:
                return _left_out("resource", f"{media} {title}".strip(), data)
            return {**found, "title": title} if title and found["type"] == "document" else found
        case _:
            return text(_json(_without_bulk(resource)))


def _binary(media: str, data: str) -> Block | None:
    """An image, or a document of pages; None for what no model takes."""
    media = media.partition(";")[0].strip().lower()
    if (media not in _IMAGES and media != _PDF) or not _is_base64(data):
        return None
    source = {"type": "base64", "media_type": media, "data": data}
    return {"type": "document" if media == _PDF else "image", "source": source}


def _is_base64(data: str) -> bool:
    try:
        return bool(base64.b64decode(data, validate=True))
    except (binascii.Error, ValueError):
        return False


def _left_out(what: str, about: str, data: str) -> Block:
    return text(f"[{what} not shown: {about[:_TITLE]}, {len(data)} characters of base64]")


def _without_bulk(block: Mapping[str, Any]) -> Mapping[str, Any]:
    """A block of a kind that models do not know: what describes it, and not the bytes themselves."""
    return {
        name: f"[not shown: {len(value)} characters]" if name in ("data", "blob") and isinstance(value, str) else value
        for name, value in block.items()
        if name not in ("_meta", "annotations")
    }


def _bounded(found: Iterable[Block]) -> Iterator[Block]:
    """As many blocks as there is room for. A text is cut, anything else is there as a whole or not at all."""
    room = KEPT
    for block in found:
        size = _size(block)
        if not size:
            continue
        if room <= _PER_BLOCK:
            yield text(f"[cut: a result may have {KEPT} bytes; further content was left out]")
            return
        if size > room - _PER_BLOCK:
            block = _cut(block, room - _PER_BLOCK)
            size = min(_size(block), room)
        room -= size + _PER_BLOCK
        yield block


def _size(block: Block) -> int:
    match block:
        case {"text": str(words)} | {"source": {"data": str(words)}}:
            return len(words) if words.isascii() else len(words.encode())
        case _:
            return 0


def _cut(block: Block, room: int) -> Block:
    match block:
        case {"text": str(words)}:
            return text(_beginning(words, room))
        case {"source": {"type": "text", "data": str(words)}}:
            source = {"type": "text", "media_type": "text/plain", "data": _beginning(words, room)}
            return {**block, "source": source}
        case _:
            return text(f"[{block['type']} not shown: {_size(block)} characters of base64, a result may have {KEPT}]")


def _beginning(words: str, room: int) -> str:
    kept = words.encode()[:room].decode(errors="ignore")
    return f"{kept}\n[cut: {len(words) - len(kept)} more characters; a result may have {KEPT} bytes]"


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
