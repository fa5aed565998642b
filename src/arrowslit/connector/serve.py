"""One stream at the private end: ask the ceiling, then the target, and send the answer back as it comes."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from functools import lru_cache

from arrowslit.connector.offer import MAX_CALLS, Offer, Offers
from arrowslit.connector.targets.target import Cancel, Exchange, Lost, NotStarted, Request, TooLarge
from arrowslit.link.stream import Stream, StreamEvent
from arrowslit.policy.ceiling import Ceiling
from arrowslit.policy.decide import LIST_METHODS, Deny, may_see
from arrowslit.protocol import events as ev
from arrowslit.protocol import exchange, jsonrpc, lists, mcp
from arrowslit.protocol.fields import returnable
from arrowslit.protocol.frames import MAX_PAYLOAD
from arrowslit.protocol.listing import Listing
from arrowslit.protocol.state import Ending
from arrowslit.tunnel import Headers

log = logging.getLogger(__name__)

MAX_BODY = 5 * 1024 * 1024  # what the relay takes at its door (4 MiB), and what it writes into it
MAX_LISTENERS = 1024  # streams that only listen, which take no place away from calls


class _Denied(Exception):
    """The ceiling said no."""


class Server:
    """Serves the streams of all links of this connector. `offers` may be replaced while it runs: what began with a
    target ends with it.
    """

    def __init__(self, offers: Iterable[Offer]) -> None:
        self.offers = Offers(offers)
        self.running = 0
        self.listening = 0  # of them, GET streams, which stay open for as long as their clients do
        self.outcomes: Counter[str] = Counter()

    def begin(self, stream: Stream, tasks: asyncio.TaskGroup) -> None:
        """Answer one stream, as soon as its request is whole. What has to be waited for runs in `tasks`."""
        _Serving(self, stream, tasks).begin()

    def admit(self, head: exchange.RequestHead) -> Offer:
        """The offer that is asked for. Raises NotStarted if there is none, or too much runs."""
        if self.running - self.listening > MAX_CALLS:
            raise NotStarted(f"this connector answers {MAX_CALLS} requests at once")
        offer = self.offers.find(head.target)
        if head.method != "GET":
            if offer.calls >= offer.most:
                raise NotStarted(f"this target answers {offer.most} requests at once")
        elif self.listening >= MAX_LISTENERS:
            raise NotStarted(f"this connector holds {MAX_LISTENERS} event streams open at once")
        return offer

    def count(self, ending: Ending) -> None:
        """A stream ended like that."""
        self.outcomes[ending] += 1


class _Serving:
    """One stream from its request to its ending; the Asker of its target."""

    __slots__ = (
        "_body",
        "_cancel",
        "_exchange",
        "_filter",
        "_listens",
        "_offer",
        "_over",
        "_server",
        "_shows",
        "_size",
        "_started",
        "_stream",
        "_tasks",
    )

    def __init__(self, server: Server, stream: Stream, tasks: asyncio.TaskGroup) -> None:
        self._server = server
        self._stream = stream
        self._tasks = tasks
        self._body: list[bytes] = []
        self._size = 0
        self._offer: Offer | None = None
        self._listens = False
        self._exchange: Exchange | None = None
        self._started = False
        self._cancel: Cancel | None = None
        self._over = False
        self._shows: lists.Shows | None = None
        self._filter: Listing | None = None

    # ------------------------------------------------------------ the request

    def begin(self) -> None:
        """Wait for the whole of it: what it may do is decided from it, so none of it goes on before that."""
        self._server.running += 1
        self._stream.on_cancel = self._give_up
        self._stream.listen(self._hear)

    def _hear(self, event: StreamEvent) -> None:
        if type(event) is ev.DataArrived:
            self._body.append(event.data)
            self._size += len(event.data)
            if self._size > MAX_BODY:
                self.over(NotStarted(f"the request is larger than {MAX_BODY} bytes"))
            else:
                self._stream.consumed(len(event.data))
        elif type(event) is ev.RequestEnded:
            self._ask(b"".join(self._body))
        elif self._offer is None:
            self.over(NotStarted("the link was lost before the request was complete"))

    def _ask(self, body: bytes) -> None:
        try:
            head = exchange.request(self._stream.head)
            if body and head.method != "POST":
                raise NotStarted(f"a {head.method} has no body")  # which nobody would have decided about
            offer = self._server.admit(head)
            if offer.ceiling.limits:
                self._shows = _ask_ceiling(offer.ceiling, head, body)
            self._enter(offer, listens=head.method == "GET")
            begun = offer.target.begin(Request(head.method, head.headers, body, head.call), self, self._tasks)
        except Exception as error:
            self.over(error)
            return
        if not self._over:
            self._exchange = begun
            self._body.clear()

    def _enter(self, offer: Offer, *, listens: bool) -> None:
        self._offer = offer
        self._listens = listens
        self._server.listening += listens
        offer.enter(listens=listens)

    def _give_up(self, reason: str) -> None:
        self._cancel = Cancel(reason) if reason in _REASONS else Cancel.CALLER_LEFT
        if self._exchange is not None:
            self._exchange.cancel(self._cancel)
        else:
            self.over(NotStarted("given up before it began"))

    # ------------------------------------------------------------ the answer

    def dispatched(self) -> None:
        """See Asker."""
        self._started = True

    def head(self, status: int, headers: Headers) -> None:
        """See Asker. Raises Lost for a head that does not fit into a frame."""
        if self._shows is not None:
            kind = next((value for name, value in headers if name == "content-type"), None)
            self._filter = Listing(kind, self._shows)
        head = _head(status, tuple(headers))
        if len(head) > MAX_PAYLOAD:
            raise Lost("the target's response head is too long")
        self._stream.answer(head)

    def piece(self, data: bytes) -> None:
        """See Asker. Raises Lost for a list that cannot be filtered."""
        self._stream.send(data if self._filter is None else _filtered(self._filter.feed, data))

    @property
    def full(self) -> bool:
        """See Asker."""
        if not self._stream.full:
            return False
        self._stream.on_room = self._room
        return True

    def _room(self) -> None:
        if self._exchange is not None:
            self._exchange.resume()

    def over(self, error: BaseException | None = None) -> None:
        """See Asker."""
        if self._over:
            return
        self._over = True
        self._exchange = None  # which holds this one
        self._server.running -= 1
        if self._offer is not None:
            self._offer.leave(listens=self._listens)
            self._server.listening -= self._listens
        if error is None:
            error = self._finish()
        if error is not None:
            ending, detail = self._judge(error)
            self._server.count(ending)
            self._stream.reset(ending, "", detail)

    def _finish(self) -> Lost | None:
        """The body is complete, unless there is a list in it that cannot be filtered."""
        if self._filter is not None:
            try:
                self._stream.send(_filtered(self._filter.end))
            except Lost as error:
                return error
        self._server.count(Ending.COMPLETE)
        self._stream.end()
        return None

    def _judge(self, error: BaseException) -> tuple[Ending, str]:
        """How the stream ends, and what the relay is told of it."""
        in_doubt = Ending.LOST if self._started else Ending.NOT_STARTED
        match error:
            case asyncio.CancelledError():
                return in_doubt, f"given up: {self._cancel}"
            case _Denied():
                return Ending.DENIED, str(error)
            case exchange.Malformed():
                return Ending.NOT_STARTED, str(error)
            case NotStarted():
                return Ending.NOT_STARTED, _told(error)
            case TooLarge():
                return Ending.TOO_LARGE, str(error)
            case Lost():
                return Ending.LOST, _told(error)
            case _:
                log.error("a call failed inside the connector", exc_info=error)
                return in_doubt, "the connector failed"


def _filtered(step: Callable[..., bytes], *data: bytes) -> bytes:
    try:
        return step(*data)
    except jsonrpc.Refused as refused:
        raise Lost(refused.message) from refused


@lru_cache(maxsize=64)
def _head(status: int, headers: tuple[tuple[str, str], ...]) -> bytes:
    """As it travels. A server sends the same head with each of its answers, for a second at least."""
    fields = [field for field in returnable(headers) if exchange.may_travel(*field)]
    return exchange.encode(exchange.ResponseHead(status, fields))


_REASONS = frozenset(Cancel)


def _told(error: NotStarted | Lost) -> str:
    """What leaves this machine of an error; the whole of it is in our own log."""
    if error.told != str(error):
        log.warning("a call had no answer: %s", error)
    return error.told


def _ask_ceiling(ceiling: Ceiling, head: exchange.RequestHead, body: bytes) -> lists.Shows | None:
    """The owner of this machine decides by what the server would read, and not by what the relay says about it.

    Returns what of the answer may be seen, if it is a list. Raises _Denied.
    """

    def shows(kind: str, name: str, _: object) -> bool:
        return may_see(ceiling, kind, name)

    if head.method != "POST":
        return shows
    try:
        asked = mcp.peek(jsonrpc.read(body), head.headers)
    except jsonrpc.Refused as refused:
        raise _Denied(refused.message) from refused
    verdict = ceiling.decide(asked)
    if isinstance(verdict, Deny):
        raise _Denied(verdict.message)
    may_bring_any = asked.message.kind is not jsonrpc.Kind.REQUEST  # nobody waits for what answers it
    return shows if may_bring_any or asked.method in LIST_METHODS else None
