from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import pytest
import pytest_asyncio
from starlette.types import Message, Scope

from arrowslit.agents.sessions.change import Draft
from arrowslit.agents.sessions.follow import MAX_ITEMS
from arrowslit.agents.sessions.frames import Preview
from arrowslit.principal import Scope as KeyScope
from arrowslit.principal import Tenant
from arrowslit.store.open import Store
from arrowslit.work import Worker
from tests.agents.api.serving import Served, SleepyClock, served
from tests.agents.story import bash, model
from tests.support.wire import until

WAIT = 60.0  # seconds that a test waits for anything; a busy machine may take ten times as long as an idle one


@pytest.fixture
def clock() -> SleepyClock:
    return SleepyClock()


@pytest_asyncio.fixture
async def here(store: Store, clock: SleepyClock) -> AsyncIterator[Served]:
    async with served(store, clock) as here:
        yield here


async def begun(here: Served) -> str:
    """The id of a session without events."""
    client = await here.person()
    made = await client.beta.sessions.create(agent=here.agent.id, environment_id=here.environment.id)
    return made.id


def note(words: object = "") -> Draft:
    return Draft("session.updated", {"title": str(words)})


@asynccontextmanager
async def streaming(
    client: anthropic.AsyncAnthropic, session_id: str, **query: Any
) -> AsyncIterator[AsyncIterator[Any]]:
    """The SDK's stream, once the server has answered."""
    async with asyncio.timeout(WAIT):
        async with await client.beta.sessions.events.stream(session_id, **query) as stream:
            yield aiter(stream)


class Raw:
    """A stream read, or not, from a socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, here: Served, session_id: str, key: str, limit: int = 2**16) -> Raw:
        """Ask for it, and read nothing."""
        reader, writer = await asyncio.open_connection("127.0.0.1", here.port, limit=limit)
        path = f"/v1/sessions/{session_id}/events/stream"
        writer.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n\r\n".encode())
        await writer.drain()
        await until(lambda: session_id in here.log._tails)
        return cls(reader, writer)

    async def upto(self, what: bytes) -> bytes:
        """What comes, until `what` has come."""
        async with asyncio.timeout(WAIT):
            return await self.reader.readuntil(what)

    async def end(self) -> None:
        """Return when the server has ended the stream."""
        await self.upto(b"\r\n0\r\n\r\n")
        self.writer.close()

    async def close(self) -> None:
        """Leave."""
        self.writer.transport.abort()


async def test_a_frame_has_a_name_and_one_line_of_json(here: Served) -> None:
    session_id = await begun(here)
    raw = await Raw.open(here, session_id, await here.key())
    head = await raw.upto(b": connected\n\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"content-type: text/event-stream" in head
    assert b"request-id: req_" in head

    await here.relay(session_id, note("a\ndata: forged\n\n\u2028"))

    frame = await raw.upto(b"}\n\n")
    assert b"event: session.updated\ndata: {" in frame
    assert frame.count(b"data: ") == 2  # the second one inside a text
    assert b"\\n" in frame
    await raw.close()


async def test_the_sdk_sees_a_turn_as_it_happens(here: Served) -> None:
    session_id = await begun(here)
    client = await here.person()
    async with streaming(client, session_id) as events:
        await client.beta.sessions.events.send(
            session_id, events=[{"type": "user.message", "content": [{"type": "text", "text": "hello"}]}]
        )
        await here.relay(session_id, bash("sevt_b1"), model())

        seen = [await anext(events) for _ in range(5)]

    assert [event.type for event in seen] == [
        "user.message",
        "session.status_running",
        "agent.tool_use",
        "span.model_request_end",
        "session.status_idle",
    ]
    listed = [event.to_dict() async for event in client.beta.sessions.events.list(session_id)]
    assert [event.to_dict() for event in seen] == listed


async def test_nothing_falls_between_the_head_and_the_first_event(here: Served) -> None:
    """The reader is registered before anything is answered: what happens at the head is in the stream."""
    session_id = await begun(here)
    sent = b""

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError("the reader stays")

    async def send(message: Message) -> None:
        nonlocal sent
        sent += message.get("body", b"")
        if message["type"] == "http.response.start":
            await here.relay(session_id, note("first"), Draft("session.status_terminated"))

    async with asyncio.timeout(WAIT):
        await here.app(_scope(session_id, await here.key()), receive, send)

    assert b'"title":"first"' in sent
    assert b"session.status_terminated" in sent


def _scope(session_id: str, key: str) -> Scope:
    """A request for a stream, as the server hands it over."""
    return {
        "type": "http",
        "method": "GET",
        "path": f"/v1/sessions/{session_id}/events/stream",
        "query_string": b"",
        "headers": [(b"authorization", f"Bearer {key}".encode())],
    }


async def test_text_comes_as_it_is_written_to_those_who_ask(here: Served) -> None:
    session_id = await begun(here)
    client = await here.person()
    async with (
        streaming(client, session_id, event_deltas=["agent.message"]) as asking,
        streaming(client, session_id) as plain,
    ):
        here.log.preview(session_id, Preview("sevt_m"))
        for words in ("Hel", "lo"):
            here.log.preview(session_id, Preview("sevt_m", text=words))
        content = {"content": [{"type": "text", "text": "Hello"}]}
        await here.relay(session_id, Draft("agent.message", content, "sevt_m"))

        start, *deltas, whole = [await anext(asking) for _ in range(4)]
        assert (await anext(plain)).type == "agent.message"

    assert (start.type, start.event.id) == ("event_start", "sevt_m")
    assert [each.delta.content.text for each in deltas] == ["Hel", "lo"]
    assert (whole.id, whole.content[0].text) == ("sevt_m", "Hello")


async def test_an_unknown_kind_of_preview_is_refused(here: Served) -> None:
    session_id = await begun(here)
    client = await here.person()

    with pytest.raises(anthropic.BadRequestError):
        await client.beta.sessions.events.stream(session_id, event_deltas=["agent.dream"])  # type: ignore[list-item]
    with pytest.raises(anthropic.BadRequestError):
        await client.get(f"/v1/sessions/{session_id}/events/stream?from=1", cast_to=object)
    assert here.log._tails == {}


async def test_a_silent_stream_is_kept_alive(here: Served) -> None:
    session_id = await begun(here)
    raw = await Raw.open(here, session_id, await here.key())
    await raw.upto(b": connected\n\n")

    await here.clock.pass_by(16)

    assert b'event: ping\ndata: {"type":"ping"}\n\n' in await raw.upto(b'"ping"}\n\n')
    await raw.close()


@pytest.mark.parametrize("how", ["archive", "delete"])
async def test_a_stream_ends_with_its_session(here: Served, how: str) -> None:
    session_id = await begun(here)
    client = await here.person()
    async with streaming(client, session_id) as events:
        await getattr(client.beta.sessions, how)(session_id)

        types = [event.type async for event in events]

    assert types == [{"archive": "session.status_terminated", "delete": "session.deleted"}[how]]
    assert here.log._tails == {}


async def test_a_stream_of_what_is_over_ends_at_once(here: Served) -> None:
    session_id = await begun(here)
    client = await here.person()
    await client.beta.sessions.archive(session_id)

    async with streaming(client, session_id) as events:
        assert [event.type async for event in events] == []


async def test_a_reader_who_leaves_is_forgotten(here: Served) -> None:
    session_id = await begun(here)
    raw = await Raw.open(here, session_id, await here.key())
    await raw.upto(b": connected\n\n")

    await raw.close()

    await until(lambda: here.log._tails == {})


@pytest.mark.promise("P11")
@pytest.mark.parametrize("how", ["revoked", "expired"])
async def test_a_stream_ends_within_five_seconds_of_its_key(here: Served, how: str) -> None:
    session_id = await begun(here)
    expires_at = here.clock.now() + 2 if how == "expired" else None
    key, text = await here.store.keys.create(
        scopes={KeyScope.INVOKE}, agents={here.agent.id}, tenant=Tenant("acme"), expires_at=expires_at
    )
    raw = await Raw.open(here, session_id, text)
    await raw.upto(b": connected\n\n")

    if how == "revoked":
        await here.store.keys.revoke(key.id)
    await here.clock.pass_by(1 if how == "revoked" else 2)

    await raw.end()
    await here.relay(session_id, note("not for you"))
    assert here.log._tails == {}


@pytest.mark.promise("P11")
async def test_a_worker_whose_item_went_on_hears_no_more(here: Served) -> None:
    session_id = await begun(here)
    token = here.tokens.give(Worker("work_1", here.environment.id, "work_1", session_id, 1))
    raw = await Raw.open(here, session_id, token)
    await raw.upto(b": connected\n\n")

    here.tokens.known[token] = Worker("work_1", here.environment.id, "work_1", session_id, 1, late=True)
    await here.clock.pass_by(1)

    await raw.end()
    with pytest.raises(anthropic.PermissionDeniedError):
        await here.client(token).beta.sessions.events.stream(session_id)


async def test_what_a_worker_is_sent_was_seen(here: Served) -> None:
    session_id = await begun(here)
    async with streaming(here.worker(session_id), session_id) as events:
        await here.relay(session_id, note("a"), note("b"))
        await anext(events)

    assert here.log.seen_by_worker(session_id) == 2


@pytest.mark.promise("P11")
async def test_a_stream_that_nobody_reads_costs_little_and_holds_up_nobody(here: Served) -> None:
    session_id = await begun(here)
    client = await here.person()
    key, text = await here.store.keys.create(scopes={KeyScope.INVOKE}, agents={here.agent.id}, tenant=Tenant("acme"))
    deaf = await Raw.open(here, session_id, text, limit=1024)
    slow = await Raw.open(here, session_id, await here.key(), limit=1024)
    count, words = 1000, "x" * 20_000  # 20 MB: more than the sockets of both ends take
    async with streaming(client, session_id) as events:
        for number in range(count):
            await here.relay(session_id, note(f"{number} {words}"))
            assert (await anext(events)).title.startswith(f"{number} ")

        tail = here.log._tails[session_id]
        assert tail.end - tail.first <= MAX_ITEMS
        assert tail._bytes <= 1024 * 1024

    numbers: list[int] = []
    async with asyncio.timeout(WAIT):
        while len(numbers) < count:
            line = await _line(slow.reader)
            if line.startswith(b"data: "):
                numbers.append(int(line.partition(b'"title":"')[2].partition(b" ")[0]))
    assert numbers == list(range(count))
    await slow.close()

    await here.store.keys.revoke(key.id)
    await here.clock.pass_by(1)
    await until(lambda: here.log._tails == {})  # although its writer waits for a reader that does not read
    await deaf.close()


async def _line(reader: asyncio.StreamReader) -> bytes:
    """A line that may be longer than what the reader holds."""
    line = b""
    while not line.endswith(b"\n"):
        try:
            line += await reader.readuntil(b"\n")
        except asyncio.LimitOverrunError as error:
            line += await reader.readexactly(error.consumed)
    return line


async def test_two_hundred_streams_are_complete_and_in_order(here: Served) -> None:
    made = [await begun(here) for _ in range(20)]
    key, rounds = await here.key(), 10
    streams = [(session_id, await Raw.open(here, session_id, key)) for session_id in made for _ in range(10)]
    for _, stream in streams:
        await stream.upto(b": connected\n\n")

    for number in range(rounds):
        for session_id in made:
            await here.relay(session_id, note(f"{number} of {session_id}"))
    for session_id in made:
        await here.log.delete(session_id)

    for session_id, stream in streams:
        seen = re.findall(rb'"title":"([^"]*)"', await stream.upto(b"0\r\n\r\n"))
        assert [each.decode() for each in seen] == [f"{number} of {session_id}" for number in range(rounds)]
        await stream.close()


async def test_the_end_of_the_process_ends_every_stream(here: Served) -> None:
    session_id = await begun(here)
    client = await here.person()
    async with streaming(client, session_id) as events:
        here.log.close()

        assert [event.type async for event in events] == []
