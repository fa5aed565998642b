"""Peer: one end of a link without its I/O. Bytes in, events out; commands in, bytes out. Both ends are this class."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from arrowslit.protocol import events as ev
from arrowslit.protocol.credit import LINK_WINDOW, STREAM_WINDOW, Allowance, ReceiveWindow
from arrowslit.protocol.frames import LINK, Decoder, Flag, Frame, Kind, ProtocolError, encode
from arrowslit.protocol.outbox import Lane, Outbox
from arrowslit.protocol.pings import Pings
from arrowslit.protocol.state import LINK as LINK_TABLE
from arrowslit.protocol.state import REPLY, REQUEST, Ending, LinkState, Reply, Request, Role, Step

_LINK_KINDS = frozenset(kind for kind in Kind if kind < Kind.OPEN)
_OPEN, _HEAD, _DATA = int(Kind.OPEN), int(Kind.HEAD), int(Kind.DATA)
_U32 = struct.Struct(">I")
MOST_CANCELS = 256  # that the other side owes an answer
MOST_CREDIT = 1 << 31  # bytes; a grant past it is a mistake of the other side


class ResetWords(msgspec.Struct, frozen=True):
    """The payload of RESET."""

    ending: Ending
    code: str = ""
    detail: str = ""


_encode_reset = msgspec.json.Encoder().encode
_decode_reset = msgspec.json.Decoder(ResetWords).decode


class _Stream:
    """What a peer remembers of one stream."""

    __slots__ = ("lane", "reply", "request", "window")

    def __init__(self, stream: int) -> None:
        self.request = Request.BODY
        self.reply = Reply.WAITING
        self.lane = Lane(stream)
        self.window = ReceiveWindow()


class Peer:
    """One end of a link.

    `receive` raises ProtocolError, and nothing else, for whatever the other side may send; the link is closed then.
    Commands raise RuntimeError when the table does not permit them: that is a defect of this side.
    """

    def __init__(self, role: Role, allowance: Allowance | None = None) -> None:
        self.role = role
        self._allowance = allowance or Allowance()
        self._usual_window = STREAM_WINDOW  # what the last stream that wanted more has grown to
        self.state = LinkState.GREETING
        self.draining = False  # the other side said so
        self._said_hello = False
        self._decoder = Decoder()
        self._streams: dict[int, _Stream] = {}
        self._last_stream = 0
        self._outbox = Outbox()
        self._ready: list[ev.Event] = []
        self._link_due = 0
        self._link_left = LINK_WINDOW
        self._pings = Pings()
        self._unanswered_cancels = 0

    # ---------------------------------------------------------------- the link

    @property
    def unanswered_pings(self) -> int:
        """How many pings are still without their pong."""
        return self._pings.unanswered

    @property
    def round_trip(self) -> float | None:
        """Seconds that the last answered ping took, None before the first."""
        return self._pings.round_trip

    @property
    def owes_endings(self) -> bool:
        """Whether the connector has left too many cancelled streams without their ending."""
        return self._unanswered_cancels > MOST_CANCELS

    @property
    def streams(self) -> int:
        """How many streams are alive."""
        return len(self._streams)

    def hello(self, payload: bytes) -> None:
        """Say the first words (an Offer or a Hello)."""
        expected = LinkState.GREETING if self.role is Role.RELAY else LinkState.GREETED
        if self.state is not expected or self._said_hello:
            raise RuntimeError(f"hello in state {self.state}")
        self._said_hello = True
        self._outbox.control(encode(Kind.HELLO, LINK, payload))

    def welcome(self, payload: bytes) -> None:
        """Relay: open the link."""
        self._decide(Kind.WELCOME, payload, LinkState.OPEN)

    def refuse(self, payload: bytes) -> None:
        """Relay: there will be no link."""
        self._decide(Kind.REFUSE, payload, LinkState.CLOSED)

    def _decide(self, kind: Kind, payload: bytes, then: LinkState) -> None:
        if self.role is not Role.RELAY or self.state not in (LinkState.GREETING, LinkState.GREETED):
            raise RuntimeError(f"{kind.name} in state {self.state}")
        if kind is Kind.WELCOME and self.state is LinkState.GREETING:
            raise RuntimeError("welcome before the connector's hello")
        self._outbox.control(encode(kind, LINK, payload))
        self.state = then

    def ping(self, now: float) -> None:
        """Ask the other side for a sign of life; `now` in monotonic seconds."""
        self._require_open()
        self._outbox.control(encode(Kind.PING, LINK, self._pings.ask(now)))

    def drain(self) -> None:
        """Tell the other side that no new streams will come (relay) or be taken (connector)."""
        self._require_open()
        self._outbox.control(encode(Kind.DRAIN, LINK))

    def _require_open(self) -> None:
        if self.state is not LinkState.OPEN:
            raise RuntimeError(f"link is {self.state.name}")

    # ---------------------------------------------------------------- streams, outward

    def open(self, head: bytes, body: bytes = b"") -> int:
        """Relay: open a stream with a complete request; returns its id. `head` is at most one frame long."""
        self._require_open()
        if self.role is not Role.RELAY:
            raise RuntimeError("only the relay opens streams")
        self._last_stream += 1
        stream = self._last_stream
        self._streams[stream] = _Stream(stream)
        if body:
            self._outbox.small(encode(Kind.OPEN, stream, head))
            self._outbox.body(self._streams[stream].lane, body, ends=True)
        else:
            self._outbox.small(encode(Kind.OPEN, stream, head, Flag.END))
        _command(self._streams[stream], Step.END)
        return stream

    def head(self, stream: int, head: bytes) -> None:
        """Connector: the response head. `head` is at most one frame long."""
        self._answering(stream, Step.HEAD)
        self._outbox.small(encode(Kind.HEAD, stream, head))

    def data(self, stream: int, data: bytes) -> None:
        """Connector: a piece of the response body."""
        if data:
            own = self._answering(stream, Step.DATA)
            if own.request is not Request.CANCELLED:  # nobody would read it, or grant credit for it
                self._outbox.body(own.lane, data, ends=False)

    def end(self, stream: int) -> None:
        """Connector: the response is complete. What is queued still goes out, then the end."""
        own = self._answering(stream, Step.END)
        if own.request is Request.CANCELLED:
            self._outbox.drop(own.lane)
        if self._outbox.end(own.lane):
            self._gone(stream)

    def reset(self, stream: int, ending: Ending, code: str = "", detail: str = "") -> None:
        """Connector: the stream ends, and not complete. What is queued is dropped."""
        self._answering(stream, Step.RESET)
        words = ResetWords(ending, code[:64], detail[:1024])
        self._outbox.small(encode(Kind.RESET, stream, _encode_reset(words)))
        self._forget(stream)

    def cancel(self, stream: int, reason: str) -> None:
        """Relay: give the stream up. Its StreamEnded is still to come; data that is under way is discarded."""
        own = self._streams.get(stream)
        if own is None or own.request is Request.CANCELLED:
            return
        _command(own, Step.CANCEL)
        self._unanswered_cancels += 1
        self._outbox.drop(own.lane)
        self._outbox.small(encode(Kind.CANCEL, stream, reason.encode()[:64]))

    def consumed(self, stream: int, count: int, now: float) -> bool:
        """The reader took `count` bytes of DATA; grants more when that is due, and says whether it was.

        A stream that is gone is ignored. `now` is when the last of them came, or later.
        """
        own = self._streams.get(stream)
        if own is None or not own.window.consumed(count):
            return False
        if self.role is Role.CONNECTOR and own.request is not Request.BODY:
            return False  # nothing more will come
        grant = own.window.grant(now, self._pings.round_trip, self._allowance, self._usual_window)
        self._usual_window = max(self._usual_window, own.window.size)
        self._outbox.control(encode(Kind.CREDIT, stream, _U32.pack(grant)))
        return True

    def queued(self, stream: int) -> int:
        """Bytes of this stream that wait for credit or for their turn."""
        own = self._streams.get(stream)
        return own.lane.queued if own else 0

    def _answering(self, stream: int, step: Step) -> _Stream:
        """The stream, one step on."""
        own = self._streams.get(stream)
        if own is None or self.role is not Role.CONNECTOR:
            raise RuntimeError(f"no stream {stream} to answer")
        then = REPLY.get((own.reply, step))
        if then is None:
            raise RuntimeError(f"{step.name} in state {own.reply.name}")
        own.reply = then
        return own

    def _gone(self, stream: int) -> _Stream:
        own = self._streams.pop(stream)
        if own.window.size > STREAM_WINDOW:
            self._allowance.give_back(own.window.size - STREAM_WINDOW)
        return own

    def _forget(self, stream: int) -> None:
        own = self._gone(stream)
        self._outbox.drop(own.lane)
        if own.request is Request.CANCELLED and self.role is Role.RELAY:
            self._unanswered_cancels -= 1

    # ---------------------------------------------------------------- bytes, outward

    @property
    def has_bytes(self) -> bool:
        """Whether `bytes_to_send` would return any."""
        return self._outbox.has_bytes

    def bytes_to_send(self) -> bytes:
        """What should leave now, as one message. Call again while `has_bytes`, and let the loop turn in between: new
        small frames then pass the large ones.
        """
        data = self._outbox.take()
        for lane in self._outbox.take_emptied():
            if lane.ends and self.role is Role.CONNECTOR:
                self._gone(lane.stream)
            else:
                self._ready.append(ev.SendReady(lane.stream))
        return data

    def take_events(self) -> list[ev.Event]:
        """Events that sending caused. Empty most of the time."""
        ready, self._ready = self._ready, []
        return ready

    # ---------------------------------------------------------------- bytes, inward

    def receive(self, data: bytes | memoryview, now: float) -> list[ev.Event]:
        """What these bytes mean, in order; `now` in monotonic seconds. Raises ProtocolError."""
        if self.state is LinkState.CLOSED:
            raise ProtocolError("after_close", "bytes after the link was closed")
        out: list[ev.Event] = []
        try:
            for frame in self._decoder.feed(data):
                self._receive(frame, now, out)
        except ProtocolError:
            self.state = LinkState.CLOSED
            raise
        if self._link_due * 4 >= LINK_WINDOW:
            self._outbox.control(encode(Kind.CREDIT, LINK, _U32.pack(self._link_due)))
            self._link_left += self._link_due
            self._link_due = 0
        return out

    def _receive(self, frame: Frame, now: float, out: list[ev.Event]) -> None:
        kind = frame.kind
        if kind == _DATA:  # most of them
            self._receive_data(frame, now, out)
        elif kind == _OPEN:
            self._receive_open(frame, out)
        elif kind == _HEAD:
            own = self._theirs(frame, Role.RELAY)
            if own is not None:
                self._receive_head(frame, own, out)
        else:
            self._receive_seldom(frame, now, out)

    def _receive_seldom(self, frame: Frame, now: float, out: list[ev.Event]) -> None:
        match frame.kind:
            case Kind.RESET:
                own = self._theirs(frame, Role.RELAY)
                if own is not None:
                    self._receive_reset(frame, own, out)
            case Kind.CANCEL:
                own = self._theirs(frame, Role.CONNECTOR)
                if own is not None:
                    self._receive_cancel(frame, own, out)
            case Kind.CREDIT if frame.stream != LINK:
                self._receive_stream_credit(frame)
            case kind if kind in _LINK_KINDS:
                self._receive_link(Kind(kind), frame, now, out)
            case _:
                return  # unknown, and flagged as one that may be skipped (the decoder saw to that)

    def _receive_link(self, kind: Kind, frame: Frame, now: float, out: list[ev.Event]) -> None:
        then = LINK_TABLE.get((self.role, self.state, kind))
        if then is None or frame.stream != LINK:
            raise ProtocolError("kind_unexpected", f"{kind.name} in state {self.state.name}")
        self.state = then
        match kind:
            case Kind.HELLO:
                out.append(ev.Greeted(frame.payload))
            case Kind.WELCOME:
                if not self._said_hello:
                    raise ProtocolError("kind_unexpected", "WELCOME before this side said hello")
                out.append(ev.Welcomed(frame.payload))
            case Kind.REFUSE:
                out.append(ev.Refused(frame.payload))
            case Kind.PING:
                self._outbox.control(encode(Kind.PONG, LINK, self._pings.asked(frame.payload, now)))
            case Kind.PONG:
                if (round_trip := self._pings.answered(frame.payload, now)) is not None:
                    out.append(ev.Ponged(round_trip))
            case Kind.CREDIT:
                if not self._outbox.granted_to_link(_grant(frame)):
                    raise ProtocolError("frame_malformed", "more link credit than was used")
            case _:
                self.draining = True
                out.append(ev.Draining())

    def _receive_open(self, frame: Frame, out: list[ev.Event]) -> None:
        if self.role is not Role.CONNECTOR or self.state is not LinkState.OPEN:
            raise ProtocolError("kind_unexpected", f"OPEN in state {self.state.name}")
        if frame.stream <= self._last_stream:
            raise ProtocolError("stream_reused", f"stream {frame.stream} after {self._last_stream}")
        self._last_stream = frame.stream
        own = self._streams[frame.stream] = _Stream(frame.stream)
        ended = bool(frame.flags & Flag.END)
        if ended:
            own.request = Request.ENDED
        out.append(ev.StreamOpened(frame.stream, frame.payload, ended))

    def _receive_data(self, frame: Frame, now: float, out: list[ev.Event]) -> None:
        size = len(frame.payload)
        if not size and not frame.flags & Flag.END:
            raise ProtocolError("frame_malformed", "DATA that says nothing")
        self._link_left -= size
        self._link_due += size
        if self._link_left < 0:
            raise ProtocolError("credit_exceeded", "link")
        own = self._streams.get(frame.stream) or self._theirs(frame, None)  # there are none on a link that is not open
        if own is None:
            return
        if not own.window.arrived(size, now):
            raise ProtocolError("credit_exceeded", f"stream {frame.stream}")
        ended = bool(frame.flags & Flag.END)
        if self.role is Role.RELAY:
            self._receive_reply_data(frame, own, ended, out)
            return
        own.request = _step(REQUEST, own.request, Step.DATA, frame)
        if size:
            out.append(ev.DataArrived(frame.stream, frame.payload))
        if ended:
            own.request = _step(REQUEST, own.request, Step.END, frame)
            out.append(ev.RequestEnded(frame.stream))

    def _receive_reply_data(self, frame: Frame, own: _Stream, ended: bool, out: list[ev.Event]) -> None:
        own.reply = _step(REPLY, own.reply, Step.DATA, frame)
        if frame.payload and own.request is not Request.CANCELLED:
            out.append(ev.DataArrived(frame.stream, frame.payload))
        if ended:
            own.reply = _step(REPLY, own.reply, Step.END, frame)
            self._forget(frame.stream)
            out.append(ev.StreamEnded(frame.stream, Ending.COMPLETE, "", ""))

    def _receive_head(self, frame: Frame, own: _Stream, out: list[ev.Event]) -> None:
        own.reply = _step(REPLY, own.reply, Step.HEAD, frame)
        out.append(ev.HeadArrived(frame.stream, frame.payload))
        if frame.flags & Flag.END:
            own.reply = _step(REPLY, own.reply, Step.END, frame)
            self._forget(frame.stream)
            out.append(ev.StreamEnded(frame.stream, Ending.COMPLETE, "", ""))

    def _receive_reset(self, frame: Frame, own: _Stream, out: list[ev.Event]) -> None:
        own.reply = _step(REPLY, own.reply, Step.RESET, frame)
        try:
            words = _decode_reset(frame.payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise ProtocolError("frame_malformed", f"RESET: {error}") from error
        if words.ending is Ending.COMPLETE:
            raise ProtocolError("frame_malformed", "RESET with the ending of END")
        self._forget(frame.stream)
        out.append(ev.StreamEnded(frame.stream, words.ending, words.code, words.detail))

    def _receive_cancel(self, frame: Frame, own: _Stream, out: list[ev.Event]) -> None:
        own.request = _step(REQUEST, own.request, Step.CANCEL, frame)
        if own.reply is Reply.ENDED:  # the answer was complete and only waited for credit
            self._forget(frame.stream)
            self._outbox.small(encode(Kind.DATA, frame.stream, b"", Flag.END))
        else:
            out.append(ev.StreamCancelled(frame.stream, frame.payload.decode("utf-8", "replace")))

    def _receive_stream_credit(self, frame: Frame) -> None:
        grant = _grant(frame)
        own = self._theirs(frame, None)
        if own is None:
            return
        self._outbox.granted(own.lane, grant)
        if own.lane.credit > MOST_CREDIT:
            raise ProtocolError("frame_malformed", "more credit than anybody needs")

    def _theirs(self, frame: Frame, receiver: Role | None) -> _Stream | None:
        """The stream of a frame; None if it is over already (such frames were under way). Raises ProtocolError."""
        if receiver not in (None, self.role) or self.state is not LinkState.OPEN:
            raise ProtocolError("kind_unexpected", f"{Kind(frame.kind).name} in state {self.state.name}")
        own = self._streams.get(frame.stream)
        if own is None and not LINK < frame.stream <= self._last_stream:
            raise ProtocolError("stream_unknown", f"stream {frame.stream}")
        return own


_Half = TypeVar("_Half", Request, Reply)


def _step(table: Mapping[tuple[_Half, Step], _Half], state: _Half, step: Step, frame: Frame) -> _Half:
    """One step of the other side. Raises ProtocolError where the table has none."""
    then = table.get((state, step))
    if then is None:
        raise ProtocolError("kind_unexpected", f"{step.name} on stream {frame.stream} in state {state.name}")
    return then


def _command(own: _Stream, step: Step) -> None:
    """One step of the relay's half. Raises RuntimeError where the table has none: a defect here."""
    then = REQUEST.get((own.request, step))
    if then is None:
        raise RuntimeError(f"{step.name} in state {own.request.name}")
    own.request = then


def _grant(frame: Frame) -> int:
    if len(frame.payload) != _U32.size:
        raise ProtocolError("frame_malformed", "CREDIT of the wrong length")
    grant: int = _U32.unpack(frame.payload)[0]
    return grant
