"""Stories of a worker and its items: acks, stops and health checks, and which item comes when."""

from __future__ import annotations

from typing import Any

from tests.official.ground import (
    ACK,
    BEAT,
    HELLO,
    ONCE,
    POLL,
    SESSION,
    STOP,
    STREAM,
    Ground,
    answers,
    bash,
    is_over,
)
from tests.official.message import Message, said
from tests.official.proxy import Does, Fault


async def ack404(ground: Ground) -> None:
    """The worker stops the item; as its session is not served, another follows."""
    async with ground.stage(Fault(ACK, Does(answer=said(404)), last=1)) as stage:
        session = await stage.session(bash(ONCE))
        async with stage.worker():
            stage.finished(await stage.over(session))

        assert len({each.asked.line for each in stage.proxy.of(ACK)}) == 2


async def ack500(ground: Ground) -> None:
    """An item that nobody could acknowledge is delivered again."""
    async with ground.stage(Fault(ACK, Does(answer=said(500)), last=3)) as stage:
        session = await stage.session(bash(ONCE))
        async with stage.worker():
            stage.finished(await stage.over(session))

        assert (await stage.item()).data.id == session


async def sess404(ground: Ground) -> None:
    """The worker stops the item; as its session is not served, another follows."""
    async with ground.stage(Fault(SESSION, Does(answer=said(404)), last=1)) as stage:
        session = await stage.session(bash(ONCE))
        async with stage.worker():
            stage.finished(await stage.over(session))

        stopped, *_ = stage.proxy.of(STOP)
        assert stopped.asked.json == {"force": True}


async def stop409(ground: Ground) -> None:
    await _stops(ground, said(409), 3)


async def stop409nr(ground: Ground) -> None:
    await _stops(ground, said(409, x_should_retry="false"), 1)


async def _stops(ground: Ground, answer: Message, times: int) -> None:
    """The worker asks so often, and goes on. We answer a stop that comes again with the stopped item."""
    async with ground.stage(Fault(STOP, Does(answer=answer))) as stage:
        session = await stage.session(bash(ONCE))
        async with stage.worker():
            stage.finished(await stage.over(session))
            await stage.proxy.until(STOP, times)
            await stage.proxy.until(POLL, 2)
            assert len(stage.proxy.of(STOP)) == times
        work, item = stage.app.beta.environments.work, await stage.item()
        for _ in range(2):
            stopped = await work.stop(item.id, environment_id=stage.environment, force=True)
            assert stopped.state == "stopped"


async def healthcheck(ground: Ground) -> None:
    """A worker shows that it is there, and touches nothing."""
    async with ground.stage() as stage:
        path = f"/v1/environments/{stage.environment}/healthcheck"
        queued: Any = await stage.app.post(path, cast_to=object, body={})
        async with stage.worker():
            await stage.proxy.until(STOP)

        assert queued["data"]["type"] == "healthcheck"
        assert (await stage.item()).state == "stopped"
        assert not stage.proxy.of(f"{SESSION}|{BEAT}|{STREAM}")


# ---------------------------------------------------------------- who comes when


async def twosessions(ground: Ground) -> None:
    """One worker serves them one after the other."""
    async with ground.stage() as stage:
        sessions = [await stage.session(bash(ONCE)) for _ in range(2)]
        async with stage.worker():
            for session in sessions:
                assert answers(await stage.over(session)) == HELLO
            await stage.proxy.until(STOP, 2)

        order = [each.asked.line.rpartition("/")[2] for each in stage.proxy.of(f"{ACK}|{STOP}")]
        assert order == ["ack", "stop"] * 2
        assert stage.ran == 2


async def multiturn(ground: Ground) -> None:
    """A worker that has left comes again for the next turn."""
    async with ground.stage() as stage:
        session = await stage.session(bash(ONCE))
        async with stage.worker():
            stage.finished(await stage.over(session))
            await stage.proxy.until(STOP, status=200)
            await stage.send(session, "user.message", content=[{"type": "text", "text": bash(ONCE)}])
            events = await stage.until(session, lambda seen: is_over(seen) and len(answers(seen)) == 2)

        assert answers(events) == HELLO * 2
        assert stage.ran == 2
        assert len({each.asked.line for each in stage.proxy.of(ACK)}) == 2


async def emptyhist(ground: Ground) -> None:
    """A worker that attached to a session without events would stay for ever: ours is not queued before it has some."""
    async with ground.stage() as stage:
        session = await stage.session()
        work = stage.app.beta.environments.work
        assert [each async for each in work.list(stage.environment)] == []

        await stage.send(session, "user.message", content=[{"type": "text", "text": bash(ONCE)}])
        assert (await stage.item()).data.id == session
