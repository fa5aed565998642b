"""Looking: the list of tools that the relay makes itself, in the caller's place, before a call of a tool that it has
not seen.

It shows the relay what it may have to refuse, and decides nothing beside that: where no list can be had, nobody was
shown a definition either, and what becomes of the call is for the call to find out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from arrowslit.outcome import Effect, Outcome
from arrowslit.protocol import jsonrpc, mcp, media, sse
from arrowslit.relay.carriage import Conclusion, Ticket
from arrowslit.tunnel import Answer, Headers

PATIENCE = 10.0  # seconds, but never more than half of what the call has
MOST_PAGES = 100
KEPT = 4 << 20  # bytes of one page

Carry = Callable[[Ticket, Answer], Awaitable[Conclusion]]
Facts = Callable[[str], Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a server's tools, for the call of `ticket`.

    `new_id` makes the ids of its requests, `facts` what the relay says in a request of that id, `shows` takes note of
    what is listed. Whoever `carry`s must give up what it carries when it is cancelled.
    """

    ticket: Ticket
    asked: mcp.Asked
    shows: mcp.Shows
    carry: Carry
    new_id: Callable[[], str]
    facts: Facts
    aliases: Mapping[str, str]

    async def run(self) -> bool:
        """Look through all pages, within the time there is. False if it is worth another look before the next call."""
        now = asyncio.get_running_loop().time
        left = PATIENCE if self.ticket.seconds is None else self.ticket.began + self.ticket.seconds - now()
        until = now() + min(PATIENCE, left / 2)
        cursor: bytes | None = None
        for _ in range(MOST_PAGES):
            kept = _Kept()
            page = self._page(cursor, max(0.001, until - now()))
            conclusion = await self.carry(page, kept)
            if conclusion.outcome in (Outcome.DENIED, Outcome.NOT_DELIVERED) or kept.status not in (None, 200):
                return False  # another caller, or the same one later, may be answered
            cursor = kept.next_cursor(page.expects)
            if cursor is None or conclusion.outcome is not Outcome.RESULT:
                break
        return True

    def _page(self, cursor: bytes | None, seconds: float) -> Ticket:
        ident = self.new_id()
        meta = {name: raw for name, raw in (self.asked.message.meta or {}).items() if name != "progressToken"}
        params = {} if cursor is None else {"cursor": msgspec.Raw(cursor)}
        message = jsonrpc.Message(jsonrpc.Kind.REQUEST, ident, "tools/list", params, meta)
        return msgspec.structs.replace(
            self.ticket,
            call_id=ident,
            headers=_of_a_list(self.ticket.headers),
            body=jsonrpc.write(mcp.stamp(message, self.facts(ident), self.aliases)),
            began=asyncio.get_running_loop().time(),
            seconds=seconds,
            effect=Effect.READ_ONLY,
            tool=None,
            expects=ident,
            progress_token=None,
            filters=self.shows,
            takes_turn=False,
        )


def _of_a_list(headers: Headers) -> Headers:
    """The headers of a call, with those that repeat its body saying what this body says."""
    return [
        (name, "tools/list" if name == "mcp-method" else value)
        for name, value in headers
        if name != "mcp-name" and not name.startswith("mcp-param-")
    ]


@dataclass(slots=True)
class _Kept:
    """An Answer of which the beginning is kept."""

    status: int | None = None
    events: bool = False
    body: bytearray = field(default_factory=bytearray)

    def head(self, status: int, headers: Headers) -> None:
        """See Answer."""
        self.status = status
        self.events = media.is_events(dict(headers).get("content-type"))

    def piece(self, data: bytes) -> None:
        """See Answer."""
        self.body += data[: KEPT - len(self.body)]

    def end(self) -> None:
        """See Answer."""

    def abort(self) -> None:
        """See Answer."""

    async def drain(self) -> None:
        """See Answer."""

    def next_cursor(self, ident: jsonrpc.Id | None) -> bytes | None:
        """Where the list goes on, None if it does not."""
        pages = (mcp.page(data) for data in self._messages())
        return next((page.next for page in pages if page is not None and page.id == ident), None)

    def _messages(self) -> Iterator[bytes]:
        if not self.events:
            yield bytes(self.body)
            return
        yield from (event.data for event in sse.Events(limit=KEPT + 1).feed(bytes(self.body)) if event.data)
