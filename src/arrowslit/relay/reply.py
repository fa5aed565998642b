"""Reply: the answer of one exchange as it comes through the tunnel, followed, filtered where policy must, and passed
on.

A JSON answer is held until it is whole (up to 1 MiB), so that a break can still become an error; of a longer one the
end is held until it is known whose answer it is. Server-sent events pass at once and unchanged; they are only looked
at: for this request's answer, for progress, for ids that allow a client to resume. An answer to something else goes
nowhere: it could be a list that nobody filtered. A stream on which nothing happens gets a comment now and then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from arrowslit.errors import Error
from arrowslit.link.breaks import with_breaks
from arrowslit.link.stream import LinkLost, Stream
from arrowslit.protocol import events as ev
from arrowslit.protocol import jsonrpc, lists, sse
from arrowslit.protocol.answers import addressed, answer_id, asks
from arrowslit.protocol.outline import Outline
from arrowslit.protocol.state import Ending
from arrowslit.relay import heads
from arrowslit.relay.sessions import HEADER as SESSION_HEADER
from arrowslit.tunnel import Answer, Headers

HELD = 1 << 20  # bytes of a JSON answer that are held; a longer one is streamed
MAX_RESULT = 64 << 20
AT_ONCE = 1000  # events that are passed on in one go
BEAT = 15.0  # seconds of silence after which a stream shows that it lives; proxies cut after 30 or 60
COMMENT = b":\n\n"  # no event (WHATWG HTML, 9.2.6), so nobody can take it for an answer

Last = ev.StreamEnded | LinkLost


class Reply:
    """Follows one stream. `expects` is the id that an answer must carry, None where none is expected (GET, 202).

    `reads` is shown the answer, `on_change` is called when the server says that its list of tools changed.
    """

    def __init__(
        self,
        answer: Answer,
        *,
        expects: int | str | None,
        filters: lists.Shows | None,
        reads: Callable[[bytes], None] | None,
        on_change: Callable[[], None] | None,
        seal: Callable[[str], str],
        on_answer: Callable[[int | str], None] | None,
    ) -> None:
        self.head_sent = False
        self.answered = False
        self.streams_events = False
        self.resumable = False
        self.status: int | None = None
        self.size = 0
        self.on_progress: Callable[[bytes], None] | None = None
        self._answer = answer
        self._expects = expects
        self._filters = filters
        self._reads = reads
        self._on_change = on_change
        self._seal = seal
        self._on_answer = on_answer
        self._headers: Headers = ()
        self._result_headers: Headers = ()
        self._held: list[bytes] | None = None  # `size` bytes of a body that is not passed on yet
        self._events: sse.Events | None = None
        self._outline: Outline | None = None  # of a JSON answer that is passed on while it comes
        self._behind = b""  # its last piece
        self._silent = True
        self._beat: asyncio.TimerHandle | None = None

    async def follow(self, stream: Stream) -> Last:
        """Pass on what comes until the stream's last event, and return that.

        Raises Error `result_too_large`, `list_unreadable` or `answer_unreadable`, and exchange.Malformed for a
        connector that talks nonsense.
        """
        try:
            return await self._follow(stream)
        finally:
            if self._beat is not None:
                self._beat.cancel()

    async def _follow(self, stream: Stream) -> Last:
        while True:
            event = await stream.next()
            if type(event) is ev.DataArrived:
                self._count(len(event.data))
                if self._events is not None:
                    await self._feed(self._events, event.data)
                else:
                    self._data(event.data)
                if self._held is None:
                    await self._answer.drain()
            elif type(event) is ev.HeadArrived:
                self._head(heads.answered(event.head))
            elif isinstance(event, ev.StreamEnded | LinkLost):
                if self._held and self._filters is not None and _is_complete(event):
                    self._held = [await _filtered(b"".join(self._held), self._filters)]
                return event

    def finish(self) -> None:
        """The stream ended complete: send what was held. Afterwards `answered` says whether the answer was among it.

        An event without its blank line is no event (WHATWG HTML, 9.2.6) and goes nowhere.
        """
        if self._held is not None:
            body = b"".join(self._held)
            if not self._is_answer(body):
                return
            if self._reads is not None:
                self._reads(body)
            assert self.status is not None
            self.head_sent = self.answered = True
            self._answer.whole(self.status, self._result_headers, body)
            return
        if self._outline is not None:
            self.answered = self._expects is None or self._is_expected(self._outline.answers)
            if self.answered:
                self._answer.piece(self._behind)
        if self.answered or self._expects is None:
            self._answer.end()

    def _is_answer(self, body: bytes) -> bool:
        """Whether a whole body may be taken for the answer: what answers another request is nobody's (P5).

        An error of HTTP need not be JSON-RPC, if it cannot be taken for an answer to somebody else.
        """
        if self._expects is None or self._is_expected(answer_id(body)):
            return True
        assert self.status is not None
        kind = next((value for name, value in self._headers if name == "content-type"), "json")
        return self.status >= 400 and ("json" not in kind.lower() or not addressed(body))

    def fail(self, body: bytes) -> None:
        """Say in an answer that has begun that it went wrong: an event of its own, or a body that stays unfinished."""
        if self.streams_events and not self.answered:
            self._answer.piece(sse.encode(body, event="message"))
            self._answer.end()
        else:
            self._answer.abort()

    def close(self) -> None:
        """End an event stream whose answer may come on another one."""
        self._answer.end()

    # ------------------------------------------------------------ head and pieces

    def _head(self, head: heads.Answered) -> None:
        self.status, self.streams_events = head.status, head.streams_events
        if head.refused is not None:
            raise Error("answer_unreadable", head.refused)
        self._headers, self._result_headers = head.headers, head.as_result
        if head.names_session:
            self._headers = [
                (name, self._seal(value) if name == SESSION_HEADER else value) for name, value in head.headers
            ]
            self._result_headers = [*self._headers, heads.AS_RESULT]
        if self.streams_events:
            self._events = sse.Events()
            self._send_head([] if any(name == "x-accel-buffering" for name, _ in self._headers) else [_UNBUFFERED])
            if self._expects is None:
                self._answer.piece(COMMENT)  # some proxies hold a head back until something follows it
            self._beat = asyncio.get_running_loop().call_later(BEAT, self._show_life)
        else:
            self._held = []

    def _data(self, data: bytes) -> None:
        if self._held is not None:
            self._hold(data)
        elif self._outline is not None:
            self._stream(self._outline, data)

    def _stream(self, outline: Outline, data: bytes) -> None:
        """Pass on all but the last piece. That goes once it is known whose answer this is."""
        outline.feed(data)
        self._answer.piece(self._behind)
        self._behind = data

    def _count(self, size: int) -> None:
        self.size += size
        if self.size > MAX_RESULT and self._expects is not None:
            raise Error("result_too_large", f"the result is larger than {MAX_RESULT >> 20} MiB")

    def _show_life(self) -> None:
        """Every event was passed on whole, so a comment may stand here."""
        if self._silent:
            self._answer.piece(COMMENT)
        self._silent = True
        self._beat = asyncio.get_running_loop().call_later(BEAT, self._show_life)

    async def _feed(self, reader: sse.Events, data: bytes) -> None:
        """Pass on the events that `data` completes, together; with breaks, if they are many."""
        self._silent = False
        events, too_long = _read(reader, data)
        passed: list[bytes] = []
        try:
            for number, event in enumerate(events, 1):
                passed.append(await self._event(event))
                if number % AT_ONCE == 0:
                    self._answer.piece(b"".join(passed))
                    passed.clear()
                    await asyncio.sleep(0)
        finally:
            self._answer.piece(b"".join(passed))
        if too_long is not None:
            raise too_long

    async def _event(self, event: sse.Event) -> bytes:
        """What of an event goes on."""
        cleared = _clear(event)
        self._count(max(0, len(cleared.raw) - len(event.raw)))
        self.resumable = self.resumable or bool(event.id)
        data = cleared.data
        if not data:
            return cleared.raw
        answers = answer_id(data)
        if not self._belongs(data, answers):
            return b""
        if self._filters is not None:
            shown = await _filtered(data, self._filters)
            cleared = cleared if shown is data else _rewritten(cleared, shown)
        self._look_at(data, answers)
        return cleared.raw

    def _hold(self, data: bytes) -> None:
        assert self._held is not None
        self._held.append(data)
        if self._filters is not None:
            if self.size > lists.LISTED:
                raise Error("result_too_large", f"a list that is filtered may have {lists.LISTED >> 20} MiB")
        elif self.size > HELD:
            self._send_head([])
            held, self._held, self._outline = self._held, None, Outline()
            for piece in held:
                self._stream(self._outline, piece)

    def _belongs(self, data: bytes, answers: int | str | None) -> bool:
        """Whether it may go on: not the answer to another request (P5), nor what only some readers take for one. A
        stream without a request may replay any answer, and is filtered.
        """
        if self._expects is None:
            return True
        return asks(data) if answers is None else self._is_expected(answers)

    def _is_expected(self, answers: int | str | None) -> bool:
        return answers is not None and answers == self._expects and type(answers) is type(self._expects)

    def _look_at(self, data: bytes, answers: int | str | None) -> None:
        if answers is None:
            if self._on_change is not None and b"list_changed" in data:
                self._on_change()
            if self.on_progress is not None:
                self.on_progress(data)
        else:
            if self._on_answer is not None:
                self._on_answer(answers)
            if self._is_expected(answers):
                self.answered = True
                if self._reads is not None:
                    self._reads(data)

    def _send_head(self, more: list[tuple[str, str]]) -> None:
        assert self.status is not None
        self.head_sent = True
        self._answer.head(self.status, [*self._headers, *more])


_UNBUFFERED = ("x-accel-buffering", "no")  # asks nginx and its like not to hold events back


def _is_complete(last: Last) -> bool:
    return isinstance(last, ev.StreamEnded) and last.ending is Ending.COMPLETE


def _read(reader: sse.Events, data: bytes) -> tuple[list[sse.Event], Error | None]:
    """The events that are complete now, and what follows them if it is too long."""
    try:
        return reader.feed(data), None
    except sse.TooLong as error:
        return error.events, Error("result_too_large", str(error))


async def _filtered(body: bytes, shows: lists.Shows) -> bytes:
    """The body without what may not be seen. A long one is read with breaks, in which others have their turn."""
    try:
        return await with_breaks(lists.filtering(body, shows))
    except jsonrpc.Refused as refused:
        if refused.code != "list_unreadable":
            raise Error(refused.code, refused.message) from refused
        message = f"the server's list cannot be read safely: {refused.message}"
        hint = f"the server must send one JSON object without duplicate keys, at most {lists.MOST_ENTRIES} entries"
        raise Error(refused.code, message, hint=hint) from refused


def _clear(event: sse.Event) -> sse.Event:
    try:
        return sse.clear(event)
    except ValueError as error:
        raise Error("answer_unreadable", f"the server's answer cannot be read safely: {error}") from error


def _rewritten(event: sse.Event, shown: bytes) -> sse.Event:
    """What is sent instead of the event, which is still looked at as it was."""
    try:
        return replace(event, raw=sse.encode(shown, event=event.event, id=event.id, retry=event.retry))
    except ValueError as error:
        raise Error("list_unreadable", f"the server's list cannot be passed on: {error}") from error
