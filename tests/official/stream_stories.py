"""Stories of a worker and a session's events: streams that break, lists that fail, results that do not arrive."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import anthropic
import pytest
from anthropic.lib.sessions import accumulate_managed_agents_event

from tests.official.ground import (
    ACK,
    BEAT,
    LIST,
    ONCE,
    SEND,
    STOP,
    STREAM,
    Ground,
    Stage,
    answers,
    bash,
    hurry,
    is_over,
    is_waiting,
)
from tests.official.message import Message, said
from tests.official.place import words
from tests.official.proxy import Does, Fault

# ---------------------------------------------------------------- the stream


async def noevent(ground: Ground) -> None:
    """Of frames without an event's name a worker sees nothing: it does what the list tells, and stays for ever."""

    def nameless(frame: bytes) -> bytes:
        return re.sub(rb"^event:.*\n", b"", frame)

    async with ground.stage(hurry(), Fault(STREAM, Does(frame=nameless))) as stage:
        session = await stage.session(bash(ONCE))
        await stage.until(session, is_waiting)
        async with stage.worker():
            stage.finished(await stage.over(session))
            await stage.proxy.until(BEAT, len(stage.proxy.of(BEAT)) + 2)
            assert not stage.proxy.of(STOP)


async def drop(ground: Ground) -> None:
    """A worker whose stream breaks comes again, reads the list, and does nothing twice."""
    async with ground.stage(Fault(STREAM, Does(cut_after=2), last=1)) as stage:
        session = await stage.session(bash(ONCE))
        await stage.until(session, is_waiting)
        async with stage.worker():
            stage.finished(await stage.over(session))
            await stage.proxy.until(STOP, status=200)

        assert len(stage.proxy.of(STREAM)) == len(stage.proxy.of(LIST)) == 2
        assert len(stage.proxy.of(SEND)) == 1


async def stream403(ground: Ground) -> None:
    await _ends(ground, 403)


async def stream404(ground: Ground) -> None:
    await _ends(ground, 404)


async def _ends(ground: Ground, status: int) -> None:
    """The worker stops the item; as its session is not served, another follows."""
    async with ground.stage(Fault(STREAM, Does(answer=said(status)), last=1)) as stage:
        stage.finished(await stage.served(bash(ONCE)))

        assert len({each.asked.line for each in stage.proxy.of(ACK)}) == 2


async def stream500(ground: Ground) -> None:
    """The worker tries again, longer than the SDK does on its own."""
    async with ground.stage(Fault(STREAM, Does(answer=said(500)), last=4)) as stage:
        stage.finished(await stage.served(bash(ONCE)))

        assert len(stage.proxy.of(ACK)) == 1


async def futurestop(ground: Ground) -> None:
    """A reason to be idle that the SDK does not know ends the turn too."""

    def unknown(frame: bytes) -> bytes:
        return frame.replace(b'"end_turn"', b'"from_the_future"')

    async with ground.stage(Fault(STREAM, Does(frame=unknown))) as stage:
        stage.finished(await stage.served(bash(ONCE)))


async def stream(ground: Ground) -> None:
    """The synchronous client follows text as it grows, and is told of an error in the middle."""
    async with ground.stage(Fault(STREAM, Does(frame=_broken_at("agent.message")), first=2)) as stage:
        session = await stage.session()
        whole = await asyncio.to_thread(_follow, stage, session)
        assert whole == "(scripted model) (obedient) the quick brown fox jumps over the lazy dog"
        (asked,) = stage.proxy.of(STREAM)
        assert asked.asked.query == {"event_deltas[]": ["agent.message"]}
        assert sum(b"event_delta" in frame for frame in asked.frames) > 1

        with pytest.raises(anthropic.APIStatusError, match="broken"):
            await asyncio.to_thread(_follow, stage, session)


def _follow(stage: Stage, session: str) -> str:
    """Ask for a sentence, and follow it as an application does: its deltas are the start of the whole."""
    with anthropic.Anthropic(base_url=stage.proxy.url, api_key=stage.ground.key) as client:
        events = client.beta.sessions.events
        with events.stream(session, event_deltas=["agent.message"]) as following:
            text: Any = {"type": "text", "text": "say: the quick brown fox jumps over the lazy dog"}
            events.send(session, events=[{"type": "user.message", "content": [text]}])
            growing: Any = None
            for event in following:
                if event.type in ("event_start", "event_delta", "agent.message"):
                    before = "" if growing is None else words(growing)
                    growing = accumulate_managed_agents_event(growing, event)
                    assert words(growing).startswith(before)
                if event.type == "agent.message":
                    return words(growing)
    raise AssertionError("the stream ended")


def _broken_at(type: str) -> Callable[[bytes], bytes]:
    """In the place of that event, an error."""
    error = {"type": "error", "error": {"type": "api_error", "message": "broken"}}

    def broken(frame: bytes) -> bytes:
        return f"event: error\ndata: {json.dumps(error)}".encode() if f"event: {type}\n".encode() in frame else frame

    return broken


# ---------------------------------------------------------------- the list


async def pages(ground: Ground) -> None:
    """The history comes in many pages, and none is missed."""

    def small(asked: Message) -> Message:
        return replace(asked, start=asked.start.replace("limit=1000", "limit=2"))

    async with ground.stage(Fault(LIST, Does(ask=small))) as stage:
        session = await stage.session(bash(ONCE))
        await stage.until(session, is_waiting)
        async with stage.worker():
            stage.finished(await stage.over(session))

        listed = [each.theirs.json["data"] for each in stage.proxy.of(LIST) if each.theirs]
        assert len(listed) >= 3
        assert all(0 < len(page) <= 2 for page in listed)


async def list500(ground: Ground) -> None:
    """A worker that cannot read the history runs nothing, until its stream breaks and it reads again."""
    async with ground.stage(Fault(LIST, Does(answer=said(500)), last=3)) as stage:
        session = await stage.session(bash(ONCE))
        await stage.until(session, is_waiting)
        async with stage.worker():
            await stage.proxy.until(LIST, 3)
            assert stage.ran == 0
            stage.proxy.cut()
            stage.finished(await stage.over(session))

        assert len(stage.proxy.of(LIST)) == 4


# ---------------------------------------------------------------- results


async def send500(ground: Ground) -> None:
    """Tried again until it arrives."""
    async with ground.stage(Fault(SEND, Does(answer=said(500)), last=4)) as stage:
        stage.finished(await stage.served(bash(ONCE)))

        assert len(stage.proxy.of(SEND)) == 5


async def send409(ground: Ground) -> None:
    async with ground.stage(Fault(SEND, Does(answer=said(409)), last=1)) as stage:
        stage.finished(await stage.served(bash(ONCE)))

        assert len(stage.proxy.of(SEND)) == 2


async def send400(ground: Ground) -> None:
    """The worker gives up, and the session waits for that result until somebody interrupts it."""
    async with ground.stage(hurry(), Fault(SEND, Does(answer=said(400)), last=1)) as stage:
        session = await stage.session(bash(ONCE))
        async with stage.worker():
            await stage.proxy.until(SEND)
            await stage.proxy.until(BEAT, len(stage.proxy.of(BEAT)) + 2)
            assert is_waiting(await stage.events(session))
            assert len(stage.proxy.of(SEND)) == 1
            await stage.send(session, "user.interrupt")
            await stage.proxy.until(STOP, status=200)

        events = await stage.events(session)
        assert is_over(events)
        ((told, is_error),) = answers(events)
        assert (told.partition(":")[0], is_error) == ("interrupted", True)
        assert stage.ran == 1


async def send_answer_lost(ground: Ground) -> None:
    """A result that arrived and whose answer did not is sent again, and stands in the session once."""
    async with ground.stage(Fault(SEND, Does(lose=True), last=1)) as stage:
        stage.finished(await stage.served(bash(ONCE)))

        first, second = stage.proxy.of(SEND)
        assert first.theirs is not None
        assert second.theirs is not None
        assert first.theirs.json == second.theirs.json


async def beat_answer_lost(ground: Ground) -> None:
    """A heartbeat that arrived and whose answer did not is sent again with the old expectation, and is believed."""
    async with ground.stage(hurry(), Fault(BEAT, Does(lose=True), first=2, last=2)) as stage:
        session = await stage.session(bash(ONCE), agent="asking")
        async with stage.worker():
            await stage.proxy.until(BEAT, 3, status=200)
            await stage.confirm(session, "allow")
            stage.finished(await stage.over(session))

        _, lost, again, *_ = stage.proxy.of(BEAT)
        assert lost.asked.query == again.asked.query
