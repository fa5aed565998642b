"""A response body with lists in it, cut down as it passes: JSON bodies whole, events one by one."""

from __future__ import annotations

from arrowslit.protocol import lists, media, sse
from arrowslit.protocol.jsonrpc import Refused


class Listing:
    """Feed it a body, send on what it gives back. `shows` says which entries may be seen.

    Both methods raise Refused for a list that cannot be read safely; then nothing more of the body may be sent.
    """

    def __init__(self, content_type: str | None, shows: lists.Shows) -> None:
        self._shows = shows
        self._held = bytearray()
        self._events = sse.Events(limit=lists.LISTED) if media.is_events(content_type) else None

    def feed(self, data: bytes) -> bytes:
        """What of the body may go on now."""
        if self._events is None:
            self._held += data
            if len(self._held) > lists.LISTED:
                raise Refused("result_too_large", f"a list that is filtered may have {lists.LISTED >> 20} MiB")
            return b""
        try:
            events = self._events.feed(data)
        except sse.TooLong as too_long:
            raise Refused("result_too_large", "the server sent an event that is too long") from too_long
        try:
            return b"".join(self.filtered(sse.clear(event)) for event in events)
        except ValueError as error:
            raise Refused("list_unreadable", f"an event cannot be passed on: {error}") from error

    def end(self) -> bytes:
        """The body is complete: what is left of it."""
        if self._events is None:
            return lists.filter_lists(bytes(self._held), self._shows)
        return b""  # an event without its blank line is no event

    def filtered(self, event: sse.Event) -> bytes:
        """One event, the bytes it came in unless something had to be taken out of it."""
        if not event.data:
            return event.raw
        data = lists.filter_lists(event.data, self._shows)
        return event.raw if data is event.data else sse.encode(data, event=event.event, id=event.id, retry=event.retry)
