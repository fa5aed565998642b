"""Two links, one pipe between them: in simulated time, with the shipped Peer at both ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest

from arrowslit.connector.offer import Offer
from arrowslit.connector.serve import Server
from arrowslit.link.link import PING_EVERY, Link
from arrowslit.link.pipe import MAX_MESSAGE, CloseCode, PipeListener
from arrowslit.link.stream import HIGH_WATER, LinkLost, Stream, StreamEvent
from arrowslit.policy.ceiling import OPEN
from arrowslit.protocol import events as ev
from arrowslit.protocol import exchange
from arrowslit.protocol.credit import STREAM_WINDOW
from arrowslit.protocol.frames import Decoder, Frame, Kind, encode
from arrowslit.protocol.state import Ending, Role
from arrowslit.testing.loop import SimClock, run
from tests.support.target import FakeTarget


class End:
    """One end of a pipe in memory. `sent` is what was written to it; `lost` drops everything from there on."""

    def __init__(self) -> None:
        self.other: End | None = None
        self.sent: list[bytes] = []
        self.closed_with: tuple[CloseCode, str] | None = None
        self.open = True
        self.mute = False
        self._listener: PipeListener | None = None

    def attach(self, listener: PipeListener) -> None:
        self._listener = listener

    def send(self, message: bytes) -> bool:
        if not self.open:
            return False
        assert 0 < len(message) <= MAX_MESSAGE
        self.sent.append(message)
        if not self.mute:
            assert self.other is not None
            asyncio.get_running_loop().call_soon(self.other.arrive, message)
        return True

    def close(self, code: CloseCode, reason: str = "") -> None:
        if self.open:
            self.open = False
            self.closed_with = (code, reason)
            assert self.other is not None
            asyncio.get_running_loop().call_soon(self.other.lose, reason)

    def arrive(self, message: bytes) -> None:
        """Bytes come in, even if this end was closed a moment ago: they were in a buffer."""
        assert self._listener is not None
        self._listener.message(memoryview(message))

    def lose(self, reason: str = "connection lost") -> None:
        self.open = False
        assert self._listener is not None
        self._listener.closed(reason)

    def full(self, yes: bool) -> None:
        assert self._listener is not None
        self._listener.writable(not yes)

    def frames(self, since: int = 0) -> list[Frame]:
        """Everything that was sent from the message of that number on."""
        decoder = Decoder()
        return [frame for message in self.sent[since:] for frame in decoder.feed(message)]


@dataclass
class Tunnel:
    """Two links that have greeted each other. `arrived` are the connector's streams."""

    relay_end: End = field(default_factory=End)
    connector_end: End = field(default_factory=End)
    arrived: list[Stream] = field(default_factory=list)
    clock: SimClock = field(default_factory=SimClock)

    def __post_init__(self) -> None:
        self.relay_end.other, self.connector_end.other = self.connector_end, self.relay_end
        self.on_stream: Callable[[Stream], None] = self.arrived.append
        self.relay = Link(self.relay_end, Role.RELAY, self.clock)
        self.connector = Link(self.connector_end, Role.CONNECTOR, self.clock, self._begin)

    def _begin(self, stream: Stream) -> None:
        self.on_stream(stream)

    async def opened(self) -> Tunnel:
        """Go through the greetings."""
        self.relay.hello(b"offer")
        assert await self.connector.greeting() == ev.Greeted(b"offer")
        self.connector.hello(b"hello")
        assert await self.relay.greeting() == ev.Greeted(b"hello")
        assert not usable(self.relay)
        self.relay.welcome(b"welcome")
        assert await self.connector.greeting() == ev.Welcomed(b"welcome")
        assert usable(self.relay)
        assert usable(self.connector)
        return self

    async def stream(self, body: bytes = b"") -> tuple[Stream, Stream]:
        """A stream, at both ends."""
        count = len(self.arrived)
        stream = self.relay.open(b"head", body)
        await settled()
        assert len(self.arrived) == count + 1
        return stream, self.arrived[-1]


def simulated(story: Callable[[Tunnel], Coroutine[Any, Any, None]]) -> None:
    """Run a story in a world of its own."""

    async def main() -> None:
        async with asyncio.timeout(3600):
            await story(await Tunnel().opened())

    run(0, main, shuffle=False)


def usable(link: Link) -> bool:
    """Whether a stream may be opened on it now."""
    return link.usable


async def settled() -> None:
    """Let everything happen that is about to."""
    await asyncio.sleep(0.001)


async def everything(stream: Stream) -> list[StreamEvent]:
    """All events of a stream, to its last."""
    events: list[StreamEvent] = []
    while True:
        events.append(await stream.next())
        if isinstance(events[-1], ev.StreamEnded | LinkLost):
            return events


async def ending(stream: Stream) -> Ending | LinkLost:
    """How it ended."""
    last = (await everything(stream))[-1]
    assert isinstance(last, ev.StreamEnded | LinkLost)
    return last if isinstance(last, LinkLost) else last.ending


# ---------------------------------------------------------------- what leaves, and when


def test_frames_of_one_tick_leave_as_one_message() -> None:
    async def story(tunnel: Tunnel) -> None:
        before = len(tunnel.relay_end.sent)
        streams = [tunnel.relay.open(b"head", b"body %d" % number) for number in range(10)]
        tunnel.relay.drain()
        await settled()
        assert len(tunnel.relay_end.sent) == before + 1
        assert [stream.id for stream in tunnel.arrived] == [stream.id for stream in streams]
        before = len(tunnel.connector_end.sent)
        for stream in tunnel.arrived:
            stream.answer(b"head")
            stream.send(b"one")
            stream.send(b"two")
            stream.end()
        await settled()
        assert len(tunnel.connector_end.sent) == before + 1
        assert [type(each) for each in await everything(streams[9])] == [
            ev.HeadArrived,
            ev.DataArrived,
            ev.DataArrived,
            ev.StreamEnded,
        ]

    simulated(story)


def test_small_messages_and_control_go_before_large_ones() -> None:
    async def story(tunnel: Tunnel) -> None:
        _, large = await tunnel.stream()
        fast, small = await tunnel.stream()
        before = len(tunnel.connector_end.sent)
        large.answer(b"head")
        large.send(b"x" * 200_000)
        small.answer(b"head")
        small.send(b"small")
        small.end()
        tunnel.connector.drain()
        assert await ending(fast) is Ending.COMPLETE
        order = [(frame.kind, frame.stream) for frame in tunnel.connector_end.frames(before)]
        assert order[0] == (Kind.DRAIN, 0)
        bulk = order.index((Kind.DATA, large.id))
        assert all(order.index(each) < bulk for each in [(Kind.HEAD, small.id), (Kind.DATA, small.id)])
        assert order.count((Kind.DATA, large.id)) < 7, "it was answered long before the large one was through"

    simulated(story)


def test_a_full_pipe_is_sent_nothing_until_it_has_room() -> None:
    async def story(tunnel: Tunnel) -> None:
        before = len(tunnel.relay_end.sent)
        tunnel.relay_end.full(True)
        tunnel.relay.open(b"head", b"body")
        await settled()
        assert len(tunnel.relay_end.sent) == before
        tunnel.relay_end.full(False)
        await settled()
        assert len(tunnel.arrived) == 1

    simulated(story)


def test_a_writer_waits_for_its_reader_and_for_nobody_elses() -> None:
    async def story(tunnel: Tunnel) -> None:
        slow, writer = await tunnel.stream()
        writer.answer(b"head")
        sent = 0

        async def write() -> None:
            nonlocal sent
            while sent < 4 * 1024 * 1024:
                writer.send(b"x" * 32_768)
                sent += 32_768
                await writer.drain()
            writer.end()

        writing = asyncio.create_task(write())
        await asyncio.sleep(10)
        assert sent <= STREAM_WINDOW + HIGH_WATER + 2 * 32_768

        other, its = await tunnel.stream()
        its.answer(b"head")
        its.send(b"y" * 100_000)
        its.end()
        assert await ending(other) is Ending.COMPLETE

        pieces = [each.data for each in await everything(slow) if isinstance(each, ev.DataArrived)]
        assert sum(map(len, pieces)) == sent == 4 * 1024 * 1024
        await writing
        await writer.drain()  # on a stream that is over it returns at once

    simulated(story)


def test_a_listener_hears_what_waited_and_then_each_event_from_the_message_that_brought_it() -> None:
    async def story(tunnel: Tunnel) -> None:
        stream, its = await tunnel.stream()
        its.answer(b"head")
        its.send(b"one")
        await settled()
        heard: list[StreamEvent] = []
        stream.listen(heard.append)
        assert heard == [ev.HeadArrived(stream.id, b"head"), ev.DataArrived(stream.id, b"one")]
        tunnel.connector_end.mute = True
        its.send(b"two")
        its.end()
        await asyncio.sleep(0)  # the message leaves
        (message,) = tunnel.connector_end.sent[-1:]
        tunnel.relay_end.arrive(message)
        assert heard[2:] == [
            ev.DataArrived(stream.id, b"two"),
            ev.StreamEnded(stream.id, Ending.COMPLETE, "", ""),
        ]

    simulated(story)


def test_a_listener_is_sent_no_more_than_a_window_until_it_says_that_it_took_some() -> None:
    async def story(tunnel: Tunnel) -> None:
        slow, writer = await tunnel.stream()
        held = 0

        def hear(event: StreamEvent) -> None:
            nonlocal held
            held += len(event.data) if isinstance(event, ev.DataArrived) else 0

        slow.listen(hear)
        rooms: list[bool] = []
        writer.on_room = lambda: rooms.append(writer.full)
        writer.answer(b"head")
        writer.send(b"x" * (2 * STREAM_WINDOW + HIGH_WATER + 1))
        assert writer.full
        await asyncio.sleep(10)
        assert held == STREAM_WINDOW
        assert rooms == []
        taken = 0
        for _ in range(3):
            slow.consumed(held - taken)
            taken = held
            await asyncio.sleep(10)
        assert held == 2 * STREAM_WINDOW + HIGH_WATER + 1
        assert rooms == [False]

    simulated(story)


def test_a_listener_that_fails_disturbs_no_other(caplog: pytest.LogCaptureFixture) -> None:
    async def story(tunnel: Tunnel) -> None:
        def fail(event: StreamEvent) -> None:
            raise RuntimeError("a defect in the relay")

        (bad, its_bad), (good, its_good) = await tunnel.stream(), await tunnel.stream()
        bad.listen(fail)
        for each in (its_bad, its_good):
            each.answer(b"head")
            each.end()
        assert await ending(good) is Ending.COMPLETE
        assert "a defect in the relay" in caplog.text

    simulated(story)


# ---------------------------------------------------------------- a link that is lost


def test_every_stream_that_is_alive_hears_that_its_link_is_lost_and_no_other() -> None:
    async def story(tunnel: Tunnel) -> None:
        done, its = await tunnel.stream()
        its.answer(b"head")
        its.end()
        forgotten, _ = await tunnel.stream()
        _, full = await tunnel.stream()
        full.answer(b"head")
        full.send(b"x" * (STREAM_WINDOW + 2 * HIGH_WATER))
        draining = asyncio.create_task(full.drain())
        waiting, theirs = await tunnel.stream()
        answering, its = await tunnel.stream(b"body")
        its.answer(b"head")
        its.send(b"half")
        await settled()
        tunnel.relay.forget(forgotten)
        reasons: list[str] = []
        theirs.on_cancel = reasons.append

        tunnel.relay_end.lose("cut")
        tunnel.connector_end.lose("cut")

        assert await ending(done) is Ending.COMPLETE
        assert await everything(waiting) == [LinkLost(True, "cut")]
        assert [type(each) for each in await everything(answering)] == [ev.HeadArrived, ev.DataArrived, LinkLost]
        assert reasons == [theirs.cancelled] == ["link_lost"]
        assert await theirs.next() == ev.RequestEnded(theirs.id)
        assert await theirs.next() == LinkLost(True, "cut")
        await draining
        await _nothing(forgotten)
        for late in (its.send, its.answer):
            late(b"too late")
        its.end()
        waiting.cancel("too late")
        await its.drain()

    simulated(story)


async def _nothing(stream: Stream) -> None:
    """Nothing is heard on it."""
    waiting = asyncio.create_task(stream.next())
    await settled()
    assert not waiting.done()
    waiting.cancel()


def test_a_request_is_said_to_have_stayed_only_if_no_byte_of_it_was_sent() -> None:
    async def in_the_same_tick(tunnel: Tunnel) -> None:
        sent, _ = await tunnel.stream()
        fresh = tunnel.relay.open(b"head", b"body")
        tunnel.relay_end.lose("cut")
        assert (await ending(sent), await ending(fresh)) == (LinkLost(True, "cut"), LinkLost(False, "cut"))

    async def in_a_full_pipe(tunnel: Tunnel) -> None:
        tunnel.relay_end.full(True)
        fresh = tunnel.relay.open(b"head", b"body")
        await settled()
        tunnel.relay.close(CloseCode.GOING_AWAY, "enough")
        assert await ending(fresh) == LinkLost(False, "enough")

    async def in_a_pipe_that_was_closed_before_anybody_noticed(tunnel: Tunnel) -> None:
        sent, _ = await tunnel.stream()
        tunnel.relay_end.open = False
        fresh = tunnel.relay.open(b"head", b"body")
        assert (await ending(sent), await ending(fresh)) == (
            LinkLost(True, "connection lost"),
            LinkLost(False, "connection lost"),
        )

    async def but_not_when_a_part_of_it_is_out(tunnel: Tunnel) -> None:
        large = tunnel.relay.open(b"head", b"x" * 200_000)
        await asyncio.sleep(0)
        tunnel.relay_end.full(True)
        assert len(tunnel.relay_end.frames()) < 9
        tunnel.relay_end.lose("cut")
        assert await ending(large) == LinkLost(True, "cut")

    for story in (
        in_the_same_tick,
        in_a_full_pipe,
        in_a_pipe_that_was_closed_before_anybody_noticed,
        but_not_when_a_part_of_it_is_out,
    ):
        simulated(story)


def test_a_link_that_is_lost_is_not_usable_and_its_run_says_why() -> None:
    async def story(tunnel: Tunnel) -> None:
        running = asyncio.create_task(tunnel.relay.run())
        await settled()
        tunnel.relay_end.lose("cut")
        assert not tunnel.relay.usable
        assert await running == "cut"

    simulated(story)


def test_whoever_waits_for_a_greeting_hears_of_the_end() -> None:
    async def story(tunnel: Tunnel) -> None:
        tunnel.connector_end.lose("cut")
        assert await tunnel.connector.greeting() is None

    simulated(story)


# ---------------------------------------------------------------- signs of life


def test_two_unanswered_pings_end_a_link() -> None:
    async def story(tunnel: Tunnel) -> None:
        stream, _ = await tunnel.stream()
        tunnel.connector_end.mute = True
        began = tunnel.clock.monotonic()
        running = asyncio.create_task(tunnel.relay.run())
        await asyncio.sleep(PING_EVERY / 2)
        assert usable(tunnel.relay)
        await asyncio.sleep(PING_EVERY)
        assert not usable(tunnel.relay), "no new call is sent into the dark"
        assert await running == "two pings were not answered"
        assert tunnel.clock.monotonic() - began == pytest.approx(2 * PING_EVERY, abs=0.01)
        assert tunnel.relay_end.closed_with == (CloseCode.GOING_AWAY, "two pings were not answered")
        assert await ending(stream) == LinkLost(True, "two pings were not answered")

    simulated(story)


def test_a_link_on_which_pings_are_answered_stays() -> None:
    async def story(tunnel: Tunnel) -> None:
        ponged: list[float] = []
        tunnel.relay.on_ponged = lambda: ponged.append(tunnel.clock.monotonic())
        running = asyncio.create_task(tunnel.relay.run())
        await asyncio.sleep(10 * PING_EVERY - 1)
        assert len(ponged) == 10
        assert tunnel.relay.heard_at == ponged[-1]
        assert tunnel.relay.peer.round_trip is not None
        assert usable(tunnel.relay)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert tunnel.relay_end.closed_with == (CloseCode.GOING_AWAY, "closing")
        assert not usable(tunnel.relay)

    simulated(story)


def test_a_ping_that_is_due_when_the_link_ends_harms_nobody() -> None:
    async def story(tunnel: Tunnel) -> None:
        loop = asyncio.get_running_loop()
        loop.call_at(loop.time() + PING_EVERY, tunnel.relay_end.arrive, encode(99, 0))
        assert "kind_unknown" in await tunnel.relay.run()

    simulated(story)


# ---------------------------------------------------------------- drain


def test_a_drained_link_takes_no_new_streams_and_finishes_those_it_has() -> None:
    async def from_the_relay(tunnel: Tunnel) -> None:
        stream, its = await tunnel.stream()
        heard: list[bool] = []
        tunnel.connector.on_draining = lambda: heard.append(True)
        tunnel.relay.drain()
        tunnel.relay.drain()
        assert not tunnel.relay.usable
        await settled()
        assert heard == [True, True]
        assert tunnel.connector.draining
        its.answer(b"head")
        its.end()
        assert await ending(stream) is Ending.COMPLETE
        assert tunnel.relay.streams == 0
        tunnel.relay.close(CloseCode.GOING_AWAY, "done")
        tunnel.relay.drain()

    async def from_the_connector(tunnel: Tunnel) -> None:
        stream, its = await tunnel.stream()
        tunnel.connector.drain()
        await settled()
        assert tunnel.relay.draining
        assert not tunnel.relay.usable
        its.reset(Ending.LOST)
        assert await ending(stream) is Ending.LOST

    simulated(from_the_relay)
    simulated(from_the_connector)


# ---------------------------------------------------------------- giving up


def test_a_stream_that_is_given_up_before_its_task_began_never_reaches_the_target() -> None:
    async def story(tunnel: Tunnel) -> None:
        target = FakeTarget()
        server = Server([Offer(target, OPEN)])
        head = exchange.encode(exchange.RequestHead("POST", [], "call_1"))
        async with asyncio.TaskGroup() as tasks:

            def begin(stream: Stream) -> None:
                server.begin(stream, tasks)

            tunnel.on_stream = begin
            early = tunnel.relay.open(head, b"{}")
            early.cancel("caller_left")
            assert await ending(early) is Ending.NOT_STARTED
            assert target.requests == []

            target.hangs = True
            late = tunnel.relay.open(head, b"{}")
            await settled()
            assert len(target.requests) == 1
            late.cancel("deadline")
            late.cancel("deadline")
            assert await ending(late) is Ending.LOST
            assert [str(each) for each in target.cancelled] == ["deadline"]

    simulated(story)


def test_what_is_under_way_to_a_stream_that_was_given_up_is_dropped() -> None:
    async def story(tunnel: Tunnel) -> None:
        stream, its = await tunnel.stream()
        its.answer(b"head")
        await settled()
        stream.cancel("caller_left")
        its.send(b"x" * 100_000)  # has not heard it yet
        its.reset(Ending.LOST)
        assert [type(each) for each in await everything(stream)] == [ev.HeadArrived, ev.StreamEnded]
        assert tunnel.relay.streams == 0

    simulated(story)


# ---------------------------------------------------------------- one breaks, the others go on


@pytest.mark.parametrize(
    "said", [b"\xff" * 12, encode(Kind.WELCOME, 0), encode(Kind.DATA, 99, b"x"), b"\x12\0\xff\xff" + b"\0" * 8]
)
def test_whoever_breaks_the_protocol_loses_the_link(said: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def story(tunnel: Tunnel) -> None:
        running = asyncio.create_task(tunnel.relay.run())
        stream, _ = await tunnel.stream()
        tunnel.relay_end.arrive(said)
        reason = await running
        assert tunnel.relay_end.closed_with == (CloseCode.PROTOCOL_ERROR, reason)
        assert await ending(stream) == LinkLost(True, reason)
        assert reason in caplog.text

    simulated(story)


def test_nothing_is_heard_on_a_link_that_was_closed() -> None:
    """A request that still stood in a buffer would be carried out, and nobody could get its answer."""

    async def story(tunnel: Tunnel) -> None:
        tunnel.relay.open(b"head", b"body")
        await asyncio.sleep(0)
        (message,) = tunnel.relay_end.sent[-1:]
        tunnel.connector.close(CloseCode.GOING_AWAY, "enough")
        tunnel.connector_end.arrive(message)
        await settled()
        assert tunnel.arrived == []

    simulated(story)


def test_a_stream_whose_owner_fails_disturbs_no_other(caplog: pytest.LogCaptureFixture) -> None:
    async def story(tunnel: Tunnel) -> None:
        def begin(stream: Stream) -> None:
            if stream.head == b"bad":
                raise RuntimeError("a defect in the connector")
            tunnel.arrived.append(stream)

        tunnel.on_stream = begin
        first, bad, last = [tunnel.relay.open(head, b"body") for head in (b"first", b"bad", b"last")]
        assert await ending(bad) is Ending.NOT_STARTED
        for stream in tunnel.arrived:
            assert await stream.next() == ev.DataArrived(stream.id, b"body")
            stream.answer(b"head")
            stream.end()
        assert (await ending(first), await ending(last)) == (Ending.COMPLETE, Ending.COMPLETE)
        assert "a defect in the connector" in caplog.text

    simulated(story)


@pytest.mark.parametrize("how", ["cancel", "cut"])
def test_a_stream_that_cannot_be_given_up_disturbs_no_other(how: str, caplog: pytest.LogCaptureFixture) -> None:
    async def story(tunnel: Tunnel) -> None:
        def fail(reason: str) -> None:
            raise RuntimeError("a defect in the connector")

        pairs = [await tunnel.stream() for _ in range(3)]
        heard: list[str] = []
        pairs[0][1].on_cancel, pairs[1][1].on_cancel, pairs[2][1].on_cancel = heard.append, fail, heard.append
        if how == "cut":
            tunnel.connector_end.lose("cut")
        else:
            for stream, _ in pairs:
                stream.cancel("deadline")
        await settled()
        assert heard == ["link_lost" if how == "cut" else "deadline"] * 2
        assert "could not be told" in caplog.text

    simulated(story)


# ---------------------------------------------------------------- greetings


def test_a_refusal_arrives_before_the_end() -> None:
    async def story() -> None:
        tunnel = Tunnel()
        tunnel.relay.hello(b"offer")
        assert await tunnel.connector.greeting() == ev.Greeted(b"offer")
        tunnel.relay.refuse(b"why", CloseCode.UNAUTHENTICATED, "unauthenticated")
        assert tunnel.relay_end.closed_with == (CloseCode.UNAUTHENTICATED, "unauthenticated")
        assert await tunnel.connector.greeting() == ev.Refused(b"why")
        assert await tunnel.connector.greeting() is None
        tunnel.relay.refuse(b"again", CloseCode.NORMAL, "")

    run(0, story, shuffle=False)
