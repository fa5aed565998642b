"""An event store for servers that let a client resume a stream: everything that was sent, kept in memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from mcp.server.streamable_http import EventCallback, EventId, EventMessage, EventStore, StreamId
from mcp_types import JSONRPCMessage


@dataclass
class Events(EventStore):
    """The id of an event is its place in `sent`; a message of None opens a stream and is not sent again."""

    sent: list[tuple[StreamId, JSONRPCMessage | None]] = field(default_factory=list)

    async def store_event(self, stream_id: StreamId, message: JSONRPCMessage | None) -> EventId:
        """See EventStore."""
        self.sent.append((stream_id, message))
        return str(len(self.sent) - 1)

    async def replay_events_after(self, last_event_id: EventId, send_callback: EventCallback) -> StreamId | None:
        """See EventStore."""
        if not last_event_id.isdecimal() or int(last_event_id) >= len(self.sent):
            return None
        seen = int(last_event_id)
        stream = self.sent[seen][0]
        for number, (stream_id, message) in enumerate(self.sent[seen + 1 :], start=seen + 1):
            if stream_id == stream and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream
