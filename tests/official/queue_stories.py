"""Stories of a worker that polls, and of what it dies of."""

from __future__ import annotations

import asyncio
from typing import Any

import anthropic

from tests.official.ground import (
    ACK,
    ONCE,
    POLL,
    STOP,
    Ground,
    Stage,
    Story,
    bash,
)
from tests.official.message import Message, said
from tests.official.proxy import WAIT, Does, Fault


async def poll_null(ground: Ground) -> None:
    """Whether there was nothing ever, or nothing that is free: the answer is null, and the worker goes on."""
    async with ground.stage() as stage:
        async with anthropic.AsyncAnthropic(base_url=stage.proxy.url, auth_token=stage.key) as client:
            work = client.beta.environments.work
            assert await work.poll(stage.environment) is None
            assert await work.poll(stage.environment, block_ms=1) is None
            await stage.session(bash(ONCE))
            item = await work.poll(stage.environment, block_ms=999)
            assert item is not None
            assert await work.poll(stage.environment, block_ms=1) is None  # delivered
            await work.ack(item.id, environment_id=stage.environment)
            assert await work.poll(stage.environment, block_ms=1) is None  # held
        _only_null(stage, but=item.id)

    async with ground.stage() as stage, stage.worker():
        await stage.proxy.until(POLL, 1)
        session = await stage.session(bash(ONCE))
        stage.finished(await stage.over(session))


def _only_null(stage: Stage, but: str) -> None:
    """Every poll so far was answered null in JSON, but for the one that delivered that item."""
    for each in stage.proxy.of(POLL):
        assert each.theirs is not None
        assert (each.theirs.status, each.theirs.headers["content-type"]) == (200, "application/json")
        assert each.theirs.body == b"null" or each.theirs.json["id"] == but


async def pnullplain(ground: Ground) -> None:
    async with (
        ground.stage(Fault(POLL, Does(answer=said(200, b"null", "text/plain")), last=1)) as stage,
        stage.worker(),
    ):
        session = await stage.session(bash(ONCE))
        stage.finished(await stage.over(session))


async def poll500(ground: Ground) -> None:
    await _served_in_spite_of(ground, Fault(POLL, Does(answer=said(500)), last=4))


async def poll429(ground: Ground) -> None:
    await _served_in_spite_of(ground, Fault(POLL, Does(answer=said(429, retry_after_ms="50")), last=4))


def dies_of(answer: Message, death: type[Exception]) -> Story:
    """A worker dies of one such answer to a poll, with that exception."""

    async def story(ground: Ground) -> None:
        async with ground.stage(Fault(POLL, Does(answer=answer), last=1)) as stage:
            assert isinstance(await _death(stage), death)

    return story


async def p404(ground: Ground) -> None:
    """An environment that is not there any more."""
    async with ground.stage() as stage:
        await stage.app.beta.environments.delete(stage.environment)

        assert isinstance(await _death(stage), anthropic.NotFoundError | anthropic.AuthenticationError)


async def poll401(ground: Ground) -> None:
    """A key that was revoked; the worker has to know."""
    async with ground.stage() as stage:
        path = f"/v1/environments/{stage.environment}/keys"
        keys: Any = await stage.app.get(path, cast_to=object)
        await stage.app.delete(f"{path}/{keys['data'][0]['id']}", cast_to=object)

        assert isinstance(await _death(stage), anthropic.AuthenticationError)


async def _death(stage: Stage) -> Exception:
    """What a worker dies of."""
    try:
        async with asyncio.timeout(WAIT):
            await stage.work()
    except Exception as error:
        assert not isinstance(error, TimeoutError)
        return error
    raise AssertionError("it lives")


async def poller(ground: Ground) -> None:
    """A poller that drains the queue does not wait, and ends with the first null."""
    async with ground.stage() as stage:
        sessions = {await stage.session(bash(ONCE)) for _ in range(2)}
        async with anthropic.AsyncAnthropic(base_url=stage.proxy.url, auth_token=stage.key) as client:
            drained = client.beta.environments.work.poller(
                environment_id=stage.environment, environment_key=stage.key, drain=True, auto_stop=False, block_ms=None
            )
            assert {item.data.id async for item in drained} == sessions
        polls = stage.proxy.of(POLL)
        assert [each.asked.query for each in polls] == [{}] * 3
        assert polls[-1].answered is not None
        assert polls[-1].answered.json is None
        assert len(stage.proxy.of(ACK)) == 2
        assert not stage.proxy.of(STOP)


async def _served_in_spite_of(ground: Ground, fault: Fault) -> None:
    async with ground.stage(fault) as stage:
        stage.finished(await stage.served(bash(ONCE)))
