"""Stories of a worker and its queue: credentials, polls, acks, stops and health checks."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import anthropic
from anthropic.lib.tools.agent_toolset import beta_agent_toolset_20260401

from tests.official.ground import (
    ACK,
    BEAT,
    HELLO,
    LIST,
    ONCE,
    POLL,
    SEND,
    SESSION,
    STOP,
    STREAM,
    Ground,
    Stage,
    Story,
    answers,
    bash,
    is_over,
)
from tests.official.message import Message, said
from tests.official.proxy import WAIT, Does, Fault

# ---------------------------------------------------------------- credentials


async def happy(ground: Ground) -> None:
    async with ground.stage() as stage:
        stage.finished(await stage.served(bash(ONCE)))

        item = await stage.item()
        assert (item.state, item.secret) == ("stopped", None)
        assert {each.asked.bearer for each in stage.proxy.of(f"{POLL}|{ACK}")} == {stage.key}
        (token,) = {each.asked.bearer for each in stage.proxy.of(f"{SESSION}|{BEAT}|{STREAM}|{LIST}|{SEND}|{STOP}")}
        assert token.startswith("asl_wrk_")


async def nosecret(ground: Ground) -> None:
    await _with_secret(ground, None)


async def rawsecret(ground: Ground) -> None:
    await _with_secret(ground, "this is not base64 of JSON")


async def _with_secret(ground: Ground, secret: str | None) -> None:
    """Whatever the worker cannot read, it serves the item with the key of the environment."""
    async with ground.stage(Fault(POLL, Does(change=_each_item(lambda item: {**item, "secret": secret})))) as stage:
        stage.finished(await stage.served(bash(ONCE)))

        assert {each.asked.bearer for each in stage.proxy.exchanges} == {stage.key}


async def handle(ground: Ground) -> None:
    """An item that was claimed elsewhere is served with nothing but four variables of the environment."""
    async with ground.stage() as stage:
        session = await stage.session(bash(ONCE))
        async with anthropic.AsyncAnthropic(base_url=stage.proxy.url, auth_token=stage.key) as client:
            poller = client.beta.environments.work.poller(
                environment_id=stage.environment, environment_key=stage.key, drain=True, auto_stop=False, block_ms=None
            )
            (item,) = [each async for each in poller]
        variables = {
            "ANTHROPIC_WORK_ID": item.id,
            "ANTHROPIC_ENVIRONMENT_ID": stage.environment,
            "ANTHROPIC_SESSION_ID": item.data.id,
            "ANTHROPIC_WORK_SECRET": item.secret or "",
        }
        async with anthropic.AsyncAnthropic(base_url=stage.proxy.url) as client:
            worker = client.beta.environments.work.worker(
                workdir=stage.workdir, tools=beta_agent_toolset_20260401, max_idle=0.2
            )
            with patch.dict(os.environ, variables):
                async with asyncio.timeout(WAIT):
                    await worker.handle_item()

        stage.finished(await stage.events(session))
        token = _token(item.secret)
        assert {each.asked.bearer for each in stage.proxy.of(f"{SESSION}|{BEAT}|{STREAM}|{SEND}|{STOP}")} == {token}


async def min2(ground: Ground) -> None:
    """An item of three fields is enough."""
    keep = ("id", "environment_id", "data")
    cut = Does(change=_each_item(lambda item: {name: item[name] for name in keep}))
    async with ground.stage(Fault(POLL, cut)) as stage:
        stage.finished(await stage.served(bash(ONCE)))


async def min3(ground: Ground) -> None:
    """So is a session of two; ours has them always."""

    def least(answer: Message) -> Message:
        session = answer.json
        assert session["resources"] == session["agent"]["skills"] == []
        return replace(answer, body=b'{"agent": {"skills": []}, "resources": []}')

    async with ground.stage(Fault(SESSION, Does(change=least))) as stage:
        stage.finished(await stage.served(bash(ONCE)))


# ---------------------------------------------------------------- polls


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


# ---------------------------------------------------------------- acks, sessions, stops


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


def _each_item(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Message], Message]:
    """Changes what a poll delivers."""

    def changed(answer: Message) -> Message:
        item = answer.json
        return answer if item is None else replace(answer, body=json.dumps(change(item)).encode())

    return changed


def _token(secret: str | None) -> str:
    assert secret is not None
    return str(json.loads(base64.urlsafe_b64decode(secret + "=" * (-len(secret) % 4)))["sessions_token"])


async def _served_in_spite_of(ground: Ground, fault: Fault) -> None:
    async with ground.stage(fault) as stage:
        stage.finished(await stage.served(bash(ONCE)))
