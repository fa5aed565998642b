"""Stories of a worker and its credentials, and of how little an item and a session may say."""

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
    LIST,
    ONCE,
    POLL,
    SEND,
    SESSION,
    STOP,
    STREAM,
    Ground,
    bash,
)
from tests.official.message import Message
from tests.official.proxy import WAIT, Does, Fault


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


def _each_item(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Message], Message]:
    """Changes what a poll delivers."""

    def changed(answer: Message) -> Message:
        item = answer.json
        return answer if item is None else replace(answer, body=json.dumps(change(item)).encode())

    return changed


def _token(secret: str | None) -> str:
    assert secret is not None
    return str(json.loads(base64.urlsafe_b64decode(secret + "=" * (-len(secret) % 4)))["sessions_token"])
