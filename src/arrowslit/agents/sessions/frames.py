"""How an event looks outside: the official JSON, and the frame of an event stream. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from arrowslit.clock import rfc3339
from arrowslit.session import Event

CONNECTED = b": connected\n\n"
PING = b'event: ping\ndata: {"type":"ping"}\n\n'


@dataclass(frozen=True, slots=True)
class Preview:
    """A piece of an event that is still being made; never stored. `text` is the next piece of its block `index`, None
    for the announcement that comes first.

    `event_id` is the id that the whole event will have, `event_type` is `agent.message` or `agent.thinking`.
    """

    event_id: str
    event_type: str = "agent.message"
    text: str | None = None
    index: int = 0

    @property
    def type(self) -> str:
        """The official name."""
        return "event_start" if self.text is None else "event_delta"


def shown(event: Event) -> Mapping[str, object]:
    """The event as the API has it."""
    at = event.processed_at
    return {"id": event.id, "type": event.type, "processed_at": None if at is None else rfc3339(at), **event.body}


def frame(content: Event | Preview) -> bytes:
    """One server-sent event. The SDK drops a frame without an `event:` line."""
    data = shown(content) if isinstance(content, Event) else _shown_preview(content)
    return b"event: %s\ndata: %s\n\n" % (content.type.encode(), msgspec.json.encode(data))


def _shown_preview(preview: Preview) -> Mapping[str, object]:
    if preview.text is None:
        return {"type": preview.type, "event": {"type": preview.event_type, "id": preview.event_id}}
    content = {"type": "text", "text": preview.text}
    delta = {"type": "content_delta", "index": preview.index, "content": content}
    return {"type": preview.type, "event_id": preview.event_id, "delta": delta}
