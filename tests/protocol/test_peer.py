"""Two peers talk to each other, in both directions at once, and a liar talks to one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arrowslit.protocol import events as ev
from arrowslit.protocol import peer as peer_module
from arrowslit.protocol.credit import ALLOWANCE, LINK_WINDOW, MAX_STREAM_WINDOW, SHORT, STREAM_WINDOW
from arrowslit.protocol.frames import LINK, MAX_PAYLOAD, REASONS, Decoder, Flag, Frame, Kind, ProtocolError, encode
from arrowslit.protocol.peer import Peer
from arrowslit.protocol.state import Ending, LinkState, Role


class Pair:
    """A relay's and a connector's peer, and the wire between them cut into pieces of a chosen size."""

    def __init__(self, slice_size: int = 1 << 20) -> None:
        self.relay, self.connector = Peer(Role.RELAY), Peer(Role.CONNECTOR)
        self.at_relay: list[ev.Event] = []
        self.at_connector: list[ev.Event] = []
        self.now = 0.0
        self._slice = slice_size

    def opened(self) -> Pair:
        """Go through the greetings."""
        self.relay.hello(b"offer")
        self.carry()
        self.connector.hello(b"hello")
        self.carry()
        self.relay.welcome(b"welcome")
        self.carry()
        self.at_relay.clear()
        self.at_connector.clear()
        return self

    def carry(self, messages: int = 10_000) -> None:
        """Carry what both want to send until neither wants to (or so many messages have passed)."""
        for _ in range(messages):
            if not self._one(self.relay, self.connector, self.at_connector, self.at_relay) and not self._one(
                self.connector, self.relay, self.at_relay, self.at_connector
            ):
                return

    def _one(self, source: Peer, sink: Peer, heard: list[ev.Event], own: list[ev.Event]) -> bool:
        if not source.has_bytes:
            return False
        data = source.bytes_to_send()
        assert len(data) < 1 << 20
        own += source.take_events()
        for at in range(0, len(data), self._slice):
            heard += sink.receive(data[at : at + self._slice], self.now)
        return True


def body(events: list[ev.Event], stream: int) -> bytes:
    """All DATA of a stream."""
    return b"".join(e.data for e in events if isinstance(e, ev.DataArrived) and e.stream == stream)


def endings(events: list[ev.Event]) -> list[tuple[int, Ending]]:
    """Which streams ended, and how."""
    return [(e.stream, e.ending) for e in events if isinstance(e, ev.StreamEnded)]


@pytest.mark.parametrize("slice_size", [1, 5, 12, 13, 1 << 20])
def test_a_request_and_its_answer_pass_whatever_the_slicing(slice_size: int) -> None:
    pair = Pair(slice_size).opened()
    stream = pair.relay.open(b"head", b"request body")
    pair.carry()
    assert pair.at_connector == [
        ev.StreamOpened(stream, b"head", False),
        ev.DataArrived(stream, b"request body"),
        ev.RequestEnded(stream),
    ]
    pair.connector.head(stream, b"200")
    pair.connector.data(stream, b"answer")
    pair.connector.end(stream)
    pair.carry()
    assert pair.at_relay == [
        ev.HeadArrived(stream, b"200"),
        ev.DataArrived(stream, b"answer"),
        ev.StreamEnded(stream, Ending.COMPLETE, "", ""),
    ]
    assert pair.relay.streams == pair.connector.streams == 0


def test_a_body_larger_than_its_credit_waits_for_the_reader() -> None:
    pair = Pair().opened()
    stream = pair.relay.open(b"head")
    pair.carry()
    pair.connector.head(stream, b"200")
    large = bytes(range(256)) * 4096
    pair.connector.data(stream, large)
    pair.connector.end(stream)
    pair.carry()
    assert len(body(pair.at_relay, stream)) == STREAM_WINDOW
    assert not endings(pair.at_relay)
    taken = 0
    while taken < len(large):
        arrived = len(body(pair.at_relay, stream)) - taken
        assert arrived, "the sender was never granted more"
        pair.relay.consumed(stream, arrived, pair.now)
        taken += arrived
        pair.carry()
    assert body(pair.at_relay, stream) == large
    assert endings(pair.at_relay) == [(stream, Ending.COMPLETE)]
    assert pair.connector.streams == 0


@pytest.mark.promise("P15")
def test_a_small_answer_passes_between_the_pieces_of_a_large_one() -> None:
    pair = Pair().opened()
    large, small = pair.relay.open(b"l"), pair.relay.open(b"s")
    pair.carry()
    pair.connector.head(large, b"200")
    pair.connector.data(large, b"x" * STREAM_WINDOW)
    pair.relay.receive(pair.connector.bytes_to_send(), 0.0)  # the first pieces have left
    pair.connector.head(small, b"200")
    pair.connector.data(small, b"small")
    pair.connector.end(small)
    events = pair.relay.receive(pair.connector.bytes_to_send(), 0.0)
    assert endings(events) == [(small, Ending.COMPLETE)]
    assert body(events, small) == b"small"


@pytest.mark.promise("P15")
def test_streams_whose_readers_stopped_do_not_stop_another() -> None:
    pair = Pair().opened()
    stuck = [pair.relay.open(b"stuck") for _ in range(64)]  # 64 x 256 KiB: far more than the window of the link
    pair.carry()
    for stream in stuck:
        pair.connector.head(stream, b"200")
        pair.connector.data(stream, b"x" * 2 * STREAM_WINDOW)
    pair.carry()
    lively = pair.relay.open(b"lively")
    pair.carry()
    pair.connector.head(lively, b"200")
    pair.connector.data(lively, b"y" * STREAM_WINDOW)
    pair.connector.end(lively)
    pair.carry()
    assert body(pair.at_relay, lively) == b"y" * STREAM_WINDOW
    assert endings(pair.at_relay) == [(lively, Ending.COMPLETE)]


def test_large_bodies_leave_link_credit_to_small_messages() -> None:
    pair = Pair().opened()
    streams = [pair.relay.open(b"h") for _ in range(32)]
    pair.carry()
    for stream in streams[:-1]:
        pair.connector.head(stream, b"200")
        pair.connector.data(stream, b"x" * STREAM_WINDOW)
    while pair.connector.has_bytes:  # nobody at the other end grants anything
        pair.connector.bytes_to_send()
    pair.connector.head(streams[-1], b"200")
    pair.connector.data(streams[-1], b"small")
    assert b"small" in pair.connector.bytes_to_send()


class Download:
    """A large answer on a stream of a pair, and its reader."""

    def __init__(self, pair: Pair, size: int) -> None:
        self._pair = pair
        self._seen = 0
        self.stream = pair.relay.open(b"h")
        pair.carry()
        pair.connector.head(self.stream, b"200")
        pair.connector.data(self.stream, bytes(size))
        pair.connector.end(self.stream)

    def take(self) -> int:
        """Read what has arrived; how much that was."""
        news, self._seen = self._pair.at_relay[self._seen :], len(self._pair.at_relay)
        arrived = len(body(news, self.stream))
        self._pair.relay.consumed(self.stream, arrived, self._pair.now)
        return arrived


def far_apart(seconds: float = 0.05) -> Pair:
    """A pair whose relay has measured that time there and back."""
    pair = Pair().opened()
    pair.relay.ping(pair.now)
    pair.connector.receive(pair.relay.bytes_to_send(), 0.0)
    pair.now = seconds
    assert pair.relay.receive(pair.connector.bytes_to_send(), pair.now) == [ev.Ponged(seconds)]
    return pair


def passes(pair: Pair, seconds: float, *downloads: Download) -> int:
    """What is under way arrives after that time, and is read; how much that was."""
    pair.carry()
    pair.now += seconds
    return sum(download.take() for download in downloads)


def test_a_window_does_not_grow_on_a_short_way() -> None:
    pair = far_apart(SHORT)
    download = Download(pair, 4 << 20)
    assert {passes(pair, SHORT, download) for _ in range(9)} == {STREAM_WINDOW}


def test_a_window_grows_when_the_round_trip_is_what_limits_it() -> None:
    pair = far_apart()
    download = Download(pair, 16 << 20)
    rounds = [passes(pair, 0.05, download) for _ in range(9)]
    assert rounds[:5] == [STREAM_WINDOW << number for number in range(5)]
    assert sum(rounds) == 16 << 20
    assert max(rounds) == MAX_STREAM_WINDOW

    download = Download(pair, 8 << 20)
    assert passes(pair, 0.05, download) == STREAM_WINDOW, "nobody has seen yet that it is read"
    assert passes(pair, 0.05, download) == MAX_STREAM_WINDOW, "as the last one needed it"


@pytest.mark.promise("P15")
def test_a_slow_reader_gets_no_larger_window_and_gives_back_one_that_it_has() -> None:
    pair = far_apart()
    slow = Download(pair, 8 << 20)
    assert max(passes(pair, 1.0, slow) for _ in range(8)) == STREAM_WINDOW

    pair = far_apart()
    tired = Download(pair, 64 << 20)
    assert max(passes(pair, 0.05, tired) for _ in range(6)) == MAX_STREAM_WINDOW
    later = [passes(pair, 5.0, tired) for _ in range(8)]
    assert later[-1] == STREAM_WINDOW, later


@pytest.mark.promise("P15")
def test_what_windows_grow_by_is_bounded_for_all_streams_together_and_comes_back() -> None:
    pair = far_apart()
    downloads = [Download(pair, 12 << 20) for _ in range(6)]
    assert max(passes(pair, 0.05, *downloads) for _ in range(6)) == 6 * STREAM_WINDOW + ALLOWANCE
    for each in downloads:
        pair.relay.cancel(each.stream, "caller_left")
    pair.carry()
    assert pair.relay.streams == 0

    alone = Download(pair, 12 << 20)
    assert max(passes(pair, 0.05, alone) for _ in range(6)) == MAX_STREAM_WINDOW


def test_no_credit_is_granted_for_a_request_that_has_come_whole() -> None:
    pair = Pair().opened()
    stream = pair.relay.open(b"h", b"x" * STREAM_WINDOW)
    pair.carry()
    assert pair.at_connector[-1] == ev.RequestEnded(stream)
    assert not pair.connector.consumed(stream, STREAM_WINDOW, pair.now)
    assert not pair.connector.has_bytes


def test_a_cancelled_stream_still_says_how_it_ended() -> None:
    pair = Pair().opened()
    stream = pair.relay.open(b"h")
    pair.carry()
    pair.relay.cancel(stream, "deadline")
    pair.relay.cancel(stream, "again")
    pair.carry()
    assert pair.at_connector[-1] == ev.StreamCancelled(stream, "deadline")
    pair.connector.reset(stream, Ending.NOT_STARTED, "queue", "was still waiting")
    pair.carry()
    assert pair.at_relay == [ev.StreamEnded(stream, Ending.NOT_STARTED, "queue", "was still waiting")]
    assert pair.relay.streams == pair.connector.streams == 0


def test_a_cancel_that_meets_a_complete_answer_ends_it() -> None:
    pair = Pair().opened()
    stream = pair.relay.open(b"h")
    pair.carry()
    pair.connector.head(stream, b"200")
    pair.connector.data(stream, b"x" * 2 * STREAM_WINDOW)
    pair.connector.end(stream)
    pair.carry()
    pair.relay.cancel(stream, "caller_left")
    pair.carry()
    assert endings(pair.at_relay) == [(stream, Ending.COMPLETE)]
    assert not [e for e in pair.at_connector if isinstance(e, ev.StreamCancelled)]
    assert pair.connector.streams == 0


def test_an_answer_that_goes_on_after_a_cancel_does_not_wait_for_credit() -> None:
    pair = Pair().opened()
    stream = pair.relay.open(b"h")
    pair.carry()
    pair.connector.head(stream, b"200")
    pair.relay.cancel(stream, "caller_left")
    pair.carry()
    pair.connector.data(stream, b"x" * 2 * STREAM_WINDOW)
    pair.connector.end(stream)
    pair.carry()
    assert endings(pair.at_relay) == [(stream, Ending.COMPLETE)]
    assert pair.connector.streams == pair.relay.streams == 0


def test_a_connector_that_never_ends_what_was_cancelled_is_noticed() -> None:
    pair = Pair().opened()
    owed = []
    for _ in range(peer_module.MOST_CANCELS + 1):
        pair.relay.cancel(pair.relay.open(b"h"), "deadline")
        owed.append(pair.relay.owes_endings)
    assert owed == [False] * peer_module.MOST_CANCELS + [True]
    pair.carry()
    for event in pair.at_connector:
        if isinstance(event, ev.StreamCancelled):
            pair.connector.reset(event.stream, Ending.LOST)
    pair.carry()
    assert not pair.relay.owes_endings
    assert pair.relay.streams == 0


def test_pings_now_and_then_are_no_flood() -> None:
    pair = Pair().opened()
    for second in range(200):
        assert pair.relay.receive(encode(Kind.PING, LINK, bytes(8)), float(second)) == []
        assert pair.relay.bytes_to_send()


def test_an_early_answer_ends_a_request_whose_body_is_still_under_way() -> None:
    pair = Pair().opened()
    stream = pair.relay.open(b"h", b"x" * 4 * STREAM_WINDOW)
    pair.carry()
    pair.connector.head(stream, b"413")
    pair.connector.end(stream)
    pair.carry()
    assert endings(pair.at_relay) == [(stream, Ending.COMPLETE)]
    after = pair.relay.open(b"next")
    pair.carry()
    assert ev.StreamOpened(after, b"next", True) in pair.at_connector


def test_pings_are_counted_until_they_are_answered() -> None:
    pair = Pair().opened()
    pair.relay.ping(1.0)
    pair.relay.ping(9.0)
    assert pair.relay.unanswered_pings == 2
    pair.now = 9.5
    pair.carry()
    assert pair.relay.unanswered_pings == 0
    assert pair.relay.round_trip == 0.5


def test_a_refused_link_is_closed_at_both_ends() -> None:
    pair = Pair()
    pair.relay.hello(b"offer")
    pair.relay.refuse(b"no")
    pair.carry()
    assert pair.at_connector == [ev.Greeted(b"offer"), ev.Refused(b"no")]
    assert pair.relay.state is pair.connector.state is LinkState.CLOSED


def test_many_small_frames_of_one_tick_stay_below_the_message_limit() -> None:
    pair = Pair().opened()
    streams = [pair.relay.open(b"h" * MAX_PAYLOAD) for _ in range(200)]
    pair.carry()  # asserts the size of each message
    assert [e.stream for e in pair.at_connector if isinstance(e, ev.StreamOpened)] == streams


DEFECTS = [
    lambda p: p.connector.open(b"h"),
    lambda p: p.relay.head(1, b"200"),
    lambda p: p.connector.data(7, b"x"),
    lambda p: p.relay.welcome(b"again"),
    lambda p: p.connector.hello(b"again"),
]


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_command_that_the_table_does_not_permit_is_a_defect_of_this_side(defect: object) -> None:
    with pytest.raises(RuntimeError):
        defect(Pair().opened())  # type: ignore[operator]


LIES = [
    ("kind_unexpected", [encode(Kind.OPEN, 1, b"")]),
    ("kind_unexpected", [encode(Kind.HELLO, LINK, b"{}")]),
    ("kind_unexpected", [encode(Kind.WELCOME, LINK, b"{}")]),
    ("kind_unexpected", [encode(Kind.PING, 3, b"")]),
    ("kind_unexpected", [encode(Kind.DATA, 1, b"x")]),  # before the head
    ("kind_unexpected", [encode(Kind.HEAD, 1, b""), encode(Kind.HEAD, 1, b"")]),
    ("kind_unexpected", [encode(Kind.CANCEL, 1, b"")]),
    ("stream_unknown", [encode(Kind.HEAD, 2, b"")]),
    ("stream_unknown", [encode(Kind.DATA, LINK, b"x")]),
    ("stream_unknown", [encode(Kind.CREDIT, 9, b"\0\0\0\1")]),
    ("frame_malformed", [encode(Kind.CREDIT, 1, b"\0")]),
    ("frame_malformed", [encode(Kind.CREDIT, LINK, b"\0\0\0\1")]),
    ("frame_malformed", [encode(Kind.PONG, LINK, b"short")]),
    ("frame_malformed", [encode(Kind.HEAD, 1, b""), encode(Kind.DATA, 1, b"")]),
    ("flood", [encode(Kind.PING, LINK, bytes(8))] * 33),
    ("frame_malformed", [encode(Kind.RESET, 1, b"{}")]),
    ("frame_malformed", [encode(Kind.RESET, 1, b'{"ending":"complete"}')]),
    ("kind_unknown", [encode(99, LINK, b"")]),
    ("frame_too_long", [b"\x12\x00\xff\xff" + bytes(8)]),
    ("credit_exceeded", [encode(Kind.HEAD, 1, b"")] + [encode(Kind.DATA, 1, b"x" * MAX_PAYLOAD)] * 9),
]


@pytest.mark.parametrize(("reason", "frames"), LIES)
def test_the_relay_names_what_a_lying_connector_did(reason: str, frames: list[bytes]) -> None:
    pair = Pair().opened()
    pair.relay.open(b"h")
    pair.carry()
    with pytest.raises(ProtocolError) as caught:
        pair.relay.receive(b"".join(frames), 0.0)
    assert caught.value.reason == reason
    assert pair.relay.state is LinkState.CLOSED
    with pytest.raises(ProtocolError, match="after_close"):
        pair.relay.receive(b"", 0.0)


def test_a_stream_id_is_used_once() -> None:
    pair = Pair().opened()
    pair.relay.open(b"h")
    pair.carry()
    with pytest.raises(ProtocolError, match="stream_reused"):
        pair.connector.receive(encode(Kind.OPEN, 1, b"h"), 0.0)


def test_link_credit_that_was_not_given_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair().opened()
    monkeypatch.setattr(peer_module, "LINK_WINDOW", 1 << 40)  # this relay never grants the link anything
    stream = pair.relay.open(b"h")
    pair.carry()
    pair.relay.receive(encode(Kind.HEAD, stream, b""), 0.0)
    piece = encode(Kind.DATA, stream, b"x" * MAX_PAYLOAD)
    for _ in range(LINK_WINDOW // MAX_PAYLOAD):
        pair.relay.receive(piece, 0.0)
        pair.relay.consumed(stream, MAX_PAYLOAD, 0.0)
        pair.relay.bytes_to_send()
    with pytest.raises(ProtocolError, match="credit_exceeded: link"):
        pair.relay.receive(piece, 0.0)


def test_an_unknown_kind_that_is_flagged_ignorable_is_skipped() -> None:
    pair = Pair().opened()
    assert pair.relay.receive(encode(99, 5, b"future", Flag.IGNORABLE), 0.0) == []
    assert pair.relay.state is LinkState.OPEN


frames = st.builds(
    encode,
    st.one_of(st.sampled_from(list(Kind)), st.integers(0, 255)),
    st.integers(0, 4) | st.integers(0, 2**64 - 1),
    st.binary(max_size=64) | st.just(b'{"ending":"lost"}') | st.just(b"\0\0\1\0"),
    st.sampled_from([0, 1, 0x80, 0x81, 0xFF]),
)


@pytest.mark.parametrize("role", list(Role))
@settings(max_examples=300, deadline=None)
@given(nonsense=st.lists(frames, max_size=40), cuts=st.integers(1, 50))
def test_wellframed_nonsense_ends_in_nothing_but_a_protocol_error(role: Role, nonsense: list[bytes], cuts: int) -> None:
    pair = Pair().opened()
    victim = pair.relay if role is Role.RELAY else pair.connector
    pair.relay.open(b"one", b"body")
    pair.relay.open(b"two")
    pair.carry()
    data = b"".join(nonsense)
    caught: ProtocolError | None = None
    try:
        for at in range(0, len(data), cuts):
            victim.receive(data[at : at + cuts], 0.0)
            while victim.has_bytes:
                victim.bytes_to_send()
    except ProtocolError as error:
        caught = error
    assert (caught is None) == (victim.state is LinkState.OPEN)
    assert caught is None or caught.reason in REASONS


@given(data=st.binary(max_size=200), cuts=st.integers(1, 20))
def test_the_decoder_reads_the_same_whatever_the_slicing(data: bytes, cuts: int) -> None:
    def outcome(pieces: Iterator[bytes]) -> tuple[list[Frame], str | None]:
        decoder, got = Decoder(), list[Frame]()
        try:
            for piece in pieces:
                got += decoder.feed(piece)
        except ProtocolError as error:
            return [], error.reason
        return got, None

    framed = encode(Kind.DATA, 1, data) + data
    whole = outcome(iter([framed]))
    sliced = outcome(framed[at : at + cuts] for at in range(0, len(framed), cuts))
    assert whole == sliced


steps = st.lists(
    st.tuples(st.sampled_from(["open", "data", "end", "reset", "cancel", "consume", "carry"]), st.integers(0, 400_000)),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(steps=steps)
def test_whatever_two_honest_peers_do_every_stream_ends_once_and_nothing_is_lost_or_mixed(
    steps: list[tuple[str, int]],
) -> None:
    pair, alive, cancelled = Pair().opened(), list[int](), set[int]()
    sent: dict[int, bytes] = {}
    consumed: dict[int, int] = {}
    for number, (step, size) in enumerate(steps):
        stream = alive[size % len(alive)] if alive else None
        if step == "open":
            opened = pair.relay.open(b"h", bytes([number % 256]) * size)
            pair.carry()
            pair.connector.head(opened, b"200")
            sent[opened], consumed[opened] = b"", 0
            alive.append(opened)
        elif step == "carry":
            pair.carry(3)
        elif stream is None:
            continue
        elif step == "data":
            piece = bytes([number % 256]) * size
            pair.connector.data(stream, piece)
            sent[stream] += piece
        elif step in ("end", "reset"):
            if step == "end":
                pair.connector.end(stream)
            else:
                pair.connector.reset(stream, Ending.LOST)
            alive.remove(stream)
        elif step == "cancel":
            pair.relay.cancel(stream, "x")
            cancelled.add(stream)
        else:
            arrived = len(body(pair.at_relay, stream))
            pair.relay.consumed(stream, arrived - consumed[stream], 0.0)
            consumed[stream] = arrived
    for stream in alive:
        pair.connector.end(stream)
    for _ in range(1000):
        pair.carry()
        behind = {s: len(body(pair.at_relay, s)) for s in sent if len(body(pair.at_relay, s)) > consumed[s]}
        if not behind:
            break
        for stream, arrived in behind.items():
            pair.relay.consumed(stream, arrived - consumed[stream], 0.0)
            consumed[stream] = arrived
    ended = endings(pair.at_relay)
    assert sorted(s for s, _ in ended) == sorted(sent)
    for stream, ending in ended:
        got = body(pair.at_relay, stream)
        assert sent[stream].startswith(got)
        if ending is Ending.COMPLETE and stream not in cancelled:
            assert got == sent[stream]
