"""Gathering: an Answer that keeps what a server said to one request, and hands on what else it says meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec
from msgspec import Raw

from arrowslit.protocol import sse
from arrowslit.protocol.answers import answer_id
from arrowslit.protocol.media import is_events
from arrowslit.tunnel import Headers

LIMIT = 4 << 20  # bytes of one message: as long as a list may be. The relay itself lets 64 MiB of an answer pass

log = logging.getLogger(__name__)


class Aside(msgspec.Struct):
    """What a server says besides: a notification, or with an `id` a question of its own."""

    method: str
    id: int | str | None = None
    params: Raw = Raw()


_decode_aside = msgspec.json.Decoder(Aside).decode
UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)


class Gathering:
    """Fulfils Answer. `said` is the JSON-RPC response to `expects`, or the whole body of an answer that is no stream.

    Past LIMIT nothing is kept, and what follows is let go: the exchange runs to its end, so that its outcome is certain
    and in the ledger. `broken` says that the answer was cut off. `outcome` is the relay's own word in the head.
    `last_event` is the id of the last event, `retry` the ms after which the server wants to be asked on.
    """

    def __init__(self, expects: int | None = None, on_aside: Callable[[Aside], None] = lambda _: None) -> None:
        self.status: int | None = None
        self.session: str | None = None
        self.outcome: str | None = None
        self.said: bytes | None = None
        self.too_large = False
        self.broken = False
        self.last_event: str | None = None
        self.retry: int | None = None
        self._expects = expects
        self._on_aside = on_aside
        self._body = bytearray()
        self._events: sse.Events | None = None

    @property
    def streams(self) -> bool:
        """Whether the answer comes as events."""
        return self._events is not None

    @property
    def unsaid(self) -> bool:
        """Whether a stream has ended, so far in order, without the answer."""
        return self.streams and self.said is None and not self.too_large and not self.broken

    def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """See Answer."""
        self.head(status, headers)
        self.piece(body)
        self.end()

    def head(self, status: int, headers: Headers) -> None:
        """See Answer."""
        fields = dict(headers)
        self.status = status
        self.session = fields.get("mcp-session-id")
        self.outcome = fields.get("arrowslit-outcome")
        if is_events(fields.get("content-type")):
            self._events = sse.Events(LIMIT)

    def piece(self, data: bytes) -> None:
        """See Answer."""
        if self.too_large or self.said is not None:
            return
        if self._events is not None:
            self._feed(self._events, data)
            return
        self._body += data
        if len(self._body) > LIMIT:
            self._give_up()

    def end(self) -> None:
        """See Answer."""
        if self._events is None and not self.too_large:
            self.said = bytes(self._body)

    def abort(self) -> None:
        """See Answer."""
        self.broken = True

    async def drain(self) -> None:
        """See Answer: nobody here reads slowly."""

    def _feed(self, reader: sse.Events, data: bytes) -> None:
        try:
            events, too_long = reader.feed(data), False
        except sse.TooLong as error:
            events, too_long = error.events, True
        for event in events:
            self.last_event = event.id or self.last_event
            self.retry = event.retry if event.retry is not None else self.retry
            if self.said is None and event.data:
                self._hear(event.data)
        if too_long and self.said is None:
            self._give_up()

    def _hear(self, data: bytes) -> None:
        answers = answer_id(data)
        if answers is not None:
            if answers == self._expects and type(answers) is type(self._expects):
                self.said = data
            return
        try:
            aside = _decode_aside(data)
        except UNREADABLE:
            return  # nothing that anybody could act on
        try:
            self._on_aside(aside)
        except Exception:  # whoever listens must not be able to spoil the call
            log.exception("an aside of a server could not be taken: %s", aside.method[:128])

    def _give_up(self) -> None:
        self.too_large = True
        self._body.clear()
