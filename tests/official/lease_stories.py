"""Stories of a worker and its lease: heartbeats that are refused or lost, and what becomes of a call in the middle."""

from __future__ import annotations

import asyncio

import anthropic

from tests.official.ground import (
    ACK,
    BEAT,
    HELLO,
    LIST,
    MID,
    ONCE,
    POLL,
    SEND,
    SESSION,
    STOP,
    STREAM,
    Ground,
    Stage,
    answers,
    bash,
    hurry,
    is_waiting,
)
from tests.official.message import said
from tests.official.proxy import Does, Fault

# ---------------------------------------------------------------- heartbeats


async def hb_lost(ground: Ground) -> None:
    """The worker lets the item go, and does not stop what is somebody else's."""
    async with ground.stage(hurry()) as stage:
        await stage.session(bash(ONCE), agent="asking")
        async with stage.worker():
            await stage.proxy.until(LIST)
            await _another_holds_it(stage)
            await stage.proxy.until(BEAT, status=412)
            await stage.proxy.until(POLL, 2)

        assert not stage.proxy.of(STOP)
        assert (await stage.item()).state == "active"


async def hb_stopping(ground: Ground) -> None:
    async with ground.stage(hurry()) as stage:
        await stage.session(bash(ONCE), agent="asking")
        async with stage.worker():
            await stage.proxy.until(LIST)
            await _ask_to_stop(stage)
            await stage.proxy.until(STOP, status=200)
            await stage.proxy.until(POLL, 2)

        assert (await stage.item()).state == "stopped"


async def hb_500(ground: Ground) -> None:
    """For as long as its lease may last the worker tries again; then it lets go, and does not stop the item."""
    patient = hurry(6)  # a busy machine answers the second within three seconds, before the lease may have ended
    async with ground.stage(patient, Fault(BEAT, Does(answer=said(500)), first=2, last=2)) as stage:
        session = await stage.session(bash(MID))
        async with stage.worker():
            await stage.proxy.until(BEAT, status=500)
            await stage.proxy.until(BEAT, 2, status=200)
            (stage.workdir / "go").touch()
            stage.finished(await stage.over(session))
    async with ground.stage(hurry(), Fault(BEAT, Does(answer=said(500)), first=2)) as stage:
        await stage.session(bash(ONCE), agent="asking")
        async with stage.worker():
            await stage.proxy.until(POLL, 2)

        assert not stage.proxy.of(STOP)


async def hb_404(ground: Ground) -> None:
    async with ground.stage(hurry(), Fault(BEAT, Does(answer=said(404)), first=2)) as stage:
        await stage.session(bash(ONCE), agent="asking")
        async with stage.worker():
            await stage.proxy.until(STOP, status=200)
            await stage.proxy.until(POLL, 2)

        assert len(stage.proxy.of(BEAT)) == 2
        assert (await stage.item()).state == "stopped"


# ---------------------------------------------------------------- in the middle of a call


async def stopmid(ground: Ground) -> None:
    """The call that runs is finished and told; what is behind it is left to the next worker."""
    async with ground.stage(hurry()) as stage:
        session = await stage.session(bash(MID), bash("echo second"))
        async with stage.worker():
            await stage.exists("began")
            await _ask_to_stop(stage)
            await stage.proxy.until(BEAT, says=b"stopping")
            (stage.workdir / "go").touch()
            events = await stage.over(session)

        assert answers(events) == [*HELLO, ("second", False)]
        assert stage.ran == 1
        assert _order(stage, ACK, SEND, STOP)[:5] == ["ack", "events", "stop", "ack", "events"]


async def lostmid(ground: Ground) -> None:
    """The call that runs is finished and told, and nothing is stopped."""
    async with ground.stage(hurry()) as stage:
        session = await stage.session(bash(MID))
        async with stage.worker():
            await stage.exists("began")
            await _another_holds_it(stage)
            await stage.proxy.until(BEAT, status=412)
            (stage.workdir / "go").touch()
            stage.finished(await stage.over(session))
            await stage.proxy.until(POLL, 2)

        assert _order(stage, ACK, SEND, STOP) == ["ack", "events"]


async def termmid(ground: Ground) -> None:
    """What a worker says of a session that is over is taken, and changes nothing."""
    async with ground.stage(hurry()) as stage:
        session = await stage.session(bash(MID))
        async with stage.worker():
            await stage.exists("began")
            await stage.app.beta.sessions.archive(session)
            (stage.workdir / "go").touch()
            await stage.proxy.until(STOP, status=200)

        assert [each.answered.status for each in stage.proxy.of(SEND) if each.answered] == [200]
        events = await stage.events(session)
        assert answers(events) == [("the session was archived", True)]
        assert events[-1].type == "session.status_terminated"
        assert (await stage.app.beta.sessions.retrieve(session)).status == "terminated"


# ---------------------------------------------------------------- sessions that are over


async def term(ground: Ground) -> None:
    """A worker that holds a call for somebody's confirmation leaves when the session is archived."""
    async with ground.stage() as stage:
        session = await stage.session(bash(ONCE), agent="asking")
        async with stage.worker():
            await stage.proxy.until(LIST)
            await stage.until(session, is_waiting)
            await stage.app.beta.sessions.archive(session)
            await stage.proxy.until(STOP, status=200)

        assert not stage.proxy.of(SEND)
        assert stage.ran == 0


async def terminated_before(ground: Ground) -> None:
    """A session that ended before its worker came costs one look."""
    archived = asyncio.Event()
    async with ground.stage(Fault(SESSION, Does(hold=archived))) as stage:
        session = await stage.session(bash(ONCE))
        async with stage.worker():
            await stage.proxy.until(ACK)
            await stage.until(session, is_waiting)
            await stage.app.beta.sessions.archive(session)
            archived.set()
            await stage.proxy.until(STOP, status=200)

        assert not stage.proxy.of(STREAM)
        assert stage.ran == 0


async def _another_holds_it(stage: Stage) -> None:
    """Somebody else beats for the item, as a worker does that took it over."""
    await stage.proxy.until(BEAT)
    async with anthropic.AsyncAnthropic(base_url=stage.ground.url, auth_token=stage.key) as client:
        item = await stage.item()
        await client.beta.environments.work.heartbeat(item.id, environment_id=stage.environment)


async def _ask_to_stop(stage: Stage) -> None:
    """An operator wants the worker to leave."""
    await stage.proxy.until(BEAT)
    work, item = stage.app.beta.environments.work, await stage.item()
    assert (await work.stop(item.id, environment_id=stage.environment)).state == "stopping"


def _order(stage: Stage, *fits: str) -> list[str]:
    """The last words of their paths, in the order in which they were asked."""
    return [each.asked.line.rpartition("/")[2] for each in stage.proxy.of("|".join(fits))]
