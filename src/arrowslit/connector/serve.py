"""One stream at the private end: ask the ceiling, then the target, and send the answer back as it comes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from functools import lru_cache

from arrowslit.connector.offer import MAX_CALLS, Offer, Offers
from arrowslit.connector.targets.target import Cancel, Lost, NotStarted, Request, TooLarge
from arrowslit.link.link import Stream
from arrowslit.policy.ceiling import Ceiling
from arrowslit.policy.decide import LIST_METHODS, Deny, may_see
from arrowslit.protocol import events as ev
from arrowslit.protocol import exchange, jsonrpc, mcp
from arrowslit.protocol.frames import MAX_PAYLOAD
from arrowslit.protocol.listing import Listing
from arrowslit.protocol.state import Ending
from arrowslit.tunnel import Headers

log = logging.getLogger(__name__)

MAX_BODY = 5 * 1024 * 1024  # what the relay takes at its door (4 MiB), and what it writes into it
MAX_LISTENERS = 1024  # streams that only listen, which take no place away from calls


class _Denied(Exception):
    """The ceiling said no."""


class StreamReply:
    """The Reply of one stream."""

    def __init__(self, stream: Stream) -> None:
        self.cancel: Cancel | None = None
        self.started = False
        self.shows: mcp.Shows | None = None
        self._stream = stream
        self._filter: Listing | None = None

    def dispatched(self) -> None:
        """See Reply."""
        self.started = True

    def head(self, status: int, headers: Headers) -> None:
        """See Reply. Raises Lost for a head that does not fit into a frame."""
        if self.shows is not None:
            kind = next((value for name, value in headers if name == "content-type"), None)
            self._filter = Listing(kind, self.shows)
        head = _head(status, tuple(headers))
        if len(head) > MAX_PAYLOAD:
            raise Lost("the target's response head is too long")
        self._stream.answer(head)

    def piece(self, data: bytes) -> None:
        """See Reply."""
        self._stream.send(data if self._filter is None else self._filtered(self._filter.feed, data))

    async def drain(self) -> None:
        """See Reply."""
        await self._stream.drain()

    def end(self) -> None:
        """The body is complete."""
        if self._filter is not None:
            self._stream.send(self._filtered(self._filter.end))
        self._stream.end()

    def _filtered(self, step: Callable[..., bytes], *data: bytes) -> bytes:
        try:
            return step(*data)
        except jsonrpc.Refused as refused:
            raise Lost(refused.message) from refused


class Server:
    """Serves the streams of all links of this connector. `offers` may be replaced while it runs: what began with a
    target ends with it.
    """

    def __init__(self, offers: Iterable[Offer]) -> None:
        self.offers = Offers(offers)
        self._running = 0
        self.listening = 0  # of them, GET streams, which stay open for as long as their clients do
        self.outcomes: dict[str, int] = {}

    async def stream(self, stream: Stream) -> None:
        """Answer one stream. Raises CancelledError when it was given up."""
        reply = StreamReply(stream)
        task = asyncio.current_task()
        assert task is not None

        def give_up(reason: str) -> None:
            reply.cancel = Cancel(reason) if reason in _REASONS else Cancel.CALLER_LEFT
            task.cancel()

        stream.on_cancel = give_up
        self._running += 1
        try:
            if stream.cancelled is not None:
                raise NotStarted("given up before it began")
            await self._serve(stream, reply)
            self._count(Ending.COMPLETE)
        except asyncio.CancelledError:
            self._reset(stream, Ending.LOST if reply.started else Ending.NOT_STARTED, f"given up: {reply.cancel}")
            if reply.cancel is None:
                raise
        except _Denied as denied:
            self._reset(stream, Ending.DENIED, str(denied))
        except exchange.Malformed as error:
            self._reset(stream, Ending.NOT_STARTED, str(error))
        except NotStarted as error:
            self._reset(stream, Ending.NOT_STARTED, _told(error))
        except TooLarge as error:
            self._reset(stream, Ending.TOO_LARGE, str(error))
        except Lost as error:
            self._reset(stream, Ending.LOST, _told(error))
        except Exception:
            log.exception("a call failed inside the connector")
            self._reset(stream, Ending.LOST if reply.started else Ending.NOT_STARTED, "the connector failed")
        finally:
            stream.on_cancel = None
            self._running -= 1

    async def _serve(self, stream: Stream, reply: StreamReply) -> None:
        if self._running - self.listening > MAX_CALLS:
            raise NotStarted(f"this connector answers {MAX_CALLS} requests at once")
        head = exchange.request(stream.head)
        body = await _body(stream)
        if body and head.method != "POST":
            raise NotStarted(f"a {head.method} has no body")  # which nobody would have decided about
        offer = self.offers.find(head.target)
        if offer.ceiling.limits:
            _ask_ceiling(offer.ceiling, head, body, reply)
        request = Request(head.method, head.headers, body, head.call)
        listens = head.method == "GET"
        if not listens and offer.calls >= offer.most:
            raise NotStarted(f"this target answers {offer.most} requests at once")
        if listens and self.listening >= MAX_LISTENERS:
            raise NotStarted(f"this connector holds {MAX_LISTENERS} event streams open at once")
        self.listening += listens
        offer.enter(listens=listens)
        try:
            await offer.target.exchange(request, reply)
        finally:
            offer.leave(listens=listens)
            self.listening -= listens
        reply.end()

    def _reset(self, stream: Stream, ending: Ending, detail: str) -> None:
        self._count(ending)
        stream.reset(ending, "", detail)

    def _count(self, ending: Ending) -> None:
        self.outcomes[ending.value] = self.outcomes.get(ending.value, 0) + 1


@lru_cache(maxsize=64)
def _head(status: int, headers: tuple[tuple[str, str], ...]) -> bytes:
    """As it travels. A server sends the same head with each of its answers, for a second at least."""
    fields = [field for field in mcp.returnable(headers) if exchange.may_travel(*field)]
    return exchange.encode(exchange.ResponseHead(status, fields))


_REASONS = frozenset(Cancel)


def _told(error: NotStarted | Lost) -> str:
    """What leaves this machine of an error; the whole of it is in our own log."""
    if error.told != str(error):
        log.warning("a call had no answer: %s", error)
    return error.told


def _ask_ceiling(ceiling: Ceiling, head: exchange.RequestHead, body: bytes, reply: StreamReply) -> None:
    """The owner of this machine decides by what the server would read, and not by what the relay says about it."""

    def shows(kind: str, name: str, _: object) -> bool:
        return may_see(ceiling, kind, name)

    if head.method != "POST":
        reply.shows = shows
        return
    try:
        asked = mcp.peek(jsonrpc.read(body), head.headers)
    except jsonrpc.Refused as refused:
        raise _Denied(refused.message) from refused
    verdict = ceiling.decide(asked)
    if isinstance(verdict, Deny):
        raise _Denied(verdict.message)
    if asked.method in LIST_METHODS:
        reply.shows = shows


async def _body(stream: Stream) -> bytes:
    """The whole request body: what it may do is decided from it, so none of it goes on before all of it is here."""
    pieces: list[bytes] = []
    size = 0
    while True:
        event = await stream.next()
        if isinstance(event, ev.RequestEnded):
            return b"".join(pieces)
        if not isinstance(event, ev.DataArrived):
            raise NotStarted("the link was lost before the request was complete")
        size += len(event.data)
        if size > MAX_BODY:
            raise NotStarted(f"the request is larger than {MAX_BODY} bytes")
        pieces.append(event.data)
