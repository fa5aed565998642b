from __future__ import annotations

from arrowslit.connector.targets.conversations.outbox import Outbox
from arrowslit.connector.targets.conversations.streams import Streams
from arrowslit.protocol import sse


def event(written: bytes) -> sse.Event:
    (read,) = sse.Events().feed(written)
    return read


def test_a_stream_that_is_primed_begins_with_an_id_and_when_to_come_back() -> None:
    first = event(Streams("aa").open(Outbox(), primes=True).opening())
    assert (first.id, first.data, first.retry) == ("aa-1-1", b"", 1000)


def test_a_stream_for_older_clients_begins_with_a_comment() -> None:
    stream = Streams("aa").open(Outbox(), primes=False)
    assert (stream.opening(), event(stream.event(b"{}")).id) == (b":\n\n", "aa-1-1")


def test_a_client_gets_what_it_missed_and_what_is_new_of_the_stream_that_it_had() -> None:
    streams = Streams("aa")
    stream, other = streams.open(Outbox(), primes=True), streams.open(Outbox(), primes=True)
    primed = event(stream.opening()).id
    other.event(b"other")
    stream.event(b"1")

    resumed = streams.resume(primed or "", primes=True)
    assert resumed is not None
    assert resumed.stream is stream
    assert [(read.id, read.data) for read in sse.Events().feed(resumed.again())] == [("aa-1-3", b"1")]

    streams.close(stream)
    over = streams.resume(primed or "", primes=True)
    assert over is not None
    assert (over.stream, over.again()) == (None, resumed.again())


def test_nothing_is_made_up_for_a_stream_of_which_nothing_is_left() -> None:
    streams = Streams("aa")
    stream = streams.open(Outbox(), primes=True)
    last = event(stream.event(b"answer")).id
    streams.close(stream)
    for unknown in (last or "", "aa-9-0", "bb-1-0", "5", ""):
        assert streams.resume(unknown, primes=True) is None


def test_the_sessions_own_stream_goes_on_also_after_an_earlier_life() -> None:
    streams = Streams("aa")
    fresh = streams.resume("bb-0-7", primes=True)
    assert fresh is not None
    assert (fresh.missed, fresh.stream) == ([], streams.own)

    own = streams.own
    assert own is not None
    seen = event(own.opening()).id
    own.event(b"news")
    again = streams.resume(seen or "", primes=True)
    assert again is not None
    assert ([sent.message for sent in again.missed], again.stream) == ([b"news"], own)

    own.outbox.end()
    after_its_end = streams.resume(seen or "", primes=True)
    assert after_its_end is not None
    assert after_its_end.stream not in (own, None)


def test_those_who_left_are_forgotten_and_those_who_read_are_not() -> None:
    streams = Streams("aa")
    left, read = streams.open(Outbox(), primes=True), streams.open(Outbox(), primes=True)
    own = streams.open_own(primes=True)
    for stream in (left, own):
        stream.opening()
        stream.outbox.reader().leave()
    assert streams.abandoned == [left]

    streams.forget()

    assert (streams.own, streams.abandoned, streams.resume("aa-1-0", primes=True)) == (None, [], None)
    resumed = streams.resume("aa-2-0", primes=True)
    assert resumed is not None
    assert resumed.stream is read
