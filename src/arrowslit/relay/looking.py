"""Looking: the list of tools that the relay makes itself, in the caller's place, before a call of a tool that it has
not seen.

It shows the relay what it may have to refuse. Where no list can be had, nobody was shown a definition either, and what
becomes of the call is for the call to find out. A list that begins and does not end may define the tool further on than
anybody has looked: then only what stood before that is called.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import msgspec

from arrowslit.errors import Error
from arrowslit.outcome import Effect, Outcome
from arrowslit.policy.decide import echo
from arrowslit.protocol import answers, jsonrpc, lists, mcp
from arrowslit.relay.carriage import Conclusion, Ticket
from arrowslit.tunnel import Answer, Headers

PATIENCE = 10.0  # seconds, but never more than half of what the call has
MOST_PAGES = 100

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
    shows: lists.Shows
    carry: Carry
    new_id: Callable[[], str]
    facts: Facts
    aliases: Mapping[str, str]

    async def run(self) -> bool:
        """Look through all pages, within the time there is. False if it is worth another look before the next call.

        Raises Error `definition_refused` if the list went on further than this could look, and the tool was not found.
        """
        now = asyncio.get_running_loop().time
        left = PATIENCE if self.ticket.seconds is None else self.ticket.began + self.ticket.seconds - now()
        until = now() + min(PATIENCE, left / 2)
        cursor: bytes | None = None
        found: set[str] = set()
        for _ in range(MOST_PAGES):
            heard = _Heard()
            page = self._page(cursor, max(0.001, until - now()), found, heard)
            conclusion = await self.carry(page, heard)
            if conclusion.error is not None or heard.status != 200 or heard.page is None:
                if cursor is not None:
                    break
                refused = conclusion.outcome in (Outcome.DENIED, Outcome.NOT_DELIVERED)
                return not refused and heard.status in (None, 200)  # another caller, or a later one, may be answered
            cursor = heard.page.next
            if cursor is None:
                return True
        if self.asked.tool not in found:
            raise _not_found(self.asked.tool)
        return False

    def _page(self, cursor: bytes | None, seconds: float, found: set[str], heard: _Heard) -> Ticket:
        def shows(kind: str, name: str, entry: msgspec.Raw) -> bool:
            if kind == "tools" and name == self.asked.tool:
                found.add(name)
            return self.shows(kind, name, entry)

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
            filters=shows,
            reads=heard.read,
            takes_turn=False,
        )


def _not_found(tool: str | None) -> Error:
    message = f"the server's list of tools did not come to an end, and {echo(tool or '')} was not in it so far"
    hint = f"let the server list its tools on fewer pages than {MOST_PAGES}, and within {PATIENCE:.0f} s"
    return Error("definition_refused", message, hint=hint)


def _of_a_list(headers: Headers) -> Headers:
    """The headers of a call, with those that repeat its body saying what this body says."""
    return [
        (name, "tools/list" if name == "mcp-method" else value)
        for name, value in headers
        if name != "mcp-name" and not name.startswith("mcp-param-")
    ]


@dataclass(slots=True)
class _Heard:
    """An Answer, of which the status is kept, and whether it is a page and where the list goes on."""

    status: int | None = None
    page: answers.Page | None = None

    def read(self, answer: bytes) -> None:
        """Take note of what has passed."""
        self.page = answers.page(answer)

    def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """See Answer."""
        self.head(status, headers)
        self.piece(body)
        self.end()

    def head(self, status: int, headers: Headers) -> None:
        """See Answer."""
        self.status = status

    def piece(self, data: bytes) -> None:
        """See Answer."""

    def end(self) -> None:
        """See Answer."""

    def abort(self) -> None:
        """See Answer."""

    async def drain(self) -> None:
        """See Answer."""
