"""Stories of a worker and an agent's turn: who runs which call, who is asked, and what is left alone."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import anthropic
import pytest
from anthropic import beta_async_tool
from anthropic.lib.tools.agent_toolset import beta_agent_toolset_20260401

from tests.official.ground import (
    HELLO,
    LIST,
    ONCE,
    SANDBOX,
    SEND,
    STOP,
    Ground,
    Stage,
    answers,
    bash,
    call,
    is_over,
    is_waiting,
)
from tests.official.message import Message
from tests.official.place import kinds, words
from tests.official.proxy import Does, Fault

# ---------------------------------------------------------------- confirmations


async def ask_allow(ground: Ground) -> None:
    async with ground.stage() as stage:
        session = await stage.session(bash(ONCE), agent="asking")
        async with stage.worker():
            await stage.proxy.until(LIST)
            assert stage.ran == 0
            await stage.confirm(session, "allow")
            events = await stage.over(session)

        stage.finished(events)
        assert kinds(events).index("user.tool_confirmation") < kinds(events).index("user.tool_result")


async def ask_deny(ground: Ground) -> None:
    """The call is closed by the server, the worker runs and tells nothing, and the model goes on."""
    async with ground.stage() as stage:
        session = await stage.session(bash(ONCE), agent="asking")
        async with stage.worker():
            await stage.proxy.until(LIST)
            await stage.confirm(session, "deny", deny_message="not today")
            events = await stage.over(session)
            await stage.proxy.until(STOP, status=200)

        (closed,) = [each for each in events if each.type == "agent.tool_result"]
        assert closed.is_error
        assert "not today" in words(closed)
        assert stage.ran == 0
        assert not stage.proxy.of(SEND)


async def asklate(ground: Ground) -> None:
    """A worker that comes after the confirmation finds it in the history."""
    async with ground.stage() as stage:
        session = await stage.session(bash(ONCE), agent="asking")
        await stage.confirm(session, "allow")
        async with stage.worker():
            stage.finished(await stage.over(session))


async def askstop(ground: Ground) -> None:
    """A worker that was sent home while a person thinks leaves the call to one that comes after the answer."""
    async with ground.stage() as stage:
        session = await stage.session(bash(ONCE), agent="asking")
        async with stage.worker():
            await stage.proxy.until(LIST)
        assert len(stage.proxy.of(STOP)) == 1
        assert (await stage.item()).state == "stopped"

        await stage.confirm(session, "allow")
        async with stage.worker():
            stage.finished(await stage.over(session))


# ---------------------------------------------------------------- whose call it is


async def custom(ground: Ground) -> None:
    """The application answers a tool of its own, or the worker does if it was given it."""
    async with ground.stage() as stage:
        session = await stage.session(call("charge", cents=5), bash(ONCE))
        async with stage.worker():
            events = await stage.until(session, lambda seen: is_waiting(seen) and answers(seen))
            (asked,) = [each for each in events if each.type == "agent.custom_tool_use"]
            assert events[-1].stop_reason.event_ids == [asked.id]
            content = [{"type": "text", "text": "charged"}]
            await stage.send(session, "user.custom_tool_result", custom_tool_use_id=asked.id, content=content)
            stage.finished(await stage.over(session))
        assert len(stage.proxy.of(SEND)) == 1

    async with ground.stage() as stage:
        session = await stage.session(call("charge", cents=5))
        async with stage.worker(tools=[charge]):
            events = await stage.over(session)

        (result,) = [each for each in events if each.type == "user.custom_tool_result"]
        assert words(result) == "charged 5"


@beta_async_tool
async def charge(cents: int) -> str:
    """Charge a customer."""
    return f"charged {cents}"


async def unknowntool(ground: Ground) -> None:
    """What a worker has no tool for it leaves to others; what the agent has no tool for is refused before."""

    def only_bash(env: Any) -> list[Any]:
        return [tool for tool in beta_agent_toolset_20260401(env) if tool.name == "bash"]

    async with ground.stage() as stage:
        session = await stage.session(call("read", file_path="x"), call("frobnicate"), bash(ONCE))
        async with stage.worker(tools=only_bash):
            events = await stage.until(session, lambda seen: is_waiting(seen) and answers(seen))
            read, refused, _ = [each for each in events if each.type == "agent.tool_use"]
            assert events[-1].stop_reason.event_ids == [read.id]
            assert refused.evaluated_permission == "deny"
            content = [{"type": "text", "text": "from elsewhere"}]
            await stage.send(session, "user.tool_result", tool_use_id=read.id, content=content, is_error=False)
            events = await stage.over(session)
            await stage.proxy.until(STOP, status=200)

        assert answers(events) == [*HELLO, ("from elsewhere", False)]
        assert len(stage.proxy.of(SEND)) == 1


async def parallel(ground: Ground) -> None:
    """Calls of one answer run one after the other, and each result shortens what the session waits for."""
    async with ground.stage() as stage:
        events = await stage.served(*(bash(f"echo {n}") for n in range(3)))

        assert answers(events) == [(str(n), False) for n in range(3)]
        waits = [each.stop_reason.event_ids for each in events if is_waiting([each])]
        uses = [each.id for each in events if each.type == "agent.tool_use"]
        assert waits == [uses, uses[1:], uses[2:]]
        assert [len(each.asked.json["events"]) for each in stage.proxy.of(SEND)] == [1, 1, 1]


async def mcp(ground: Ground) -> None:
    """The relay calls the server behind the tunnel; the worker does not care."""
    async with ground.stage() as stage:
        events = await stage.served(call("list_issues", q=7), bash(ONCE), agent="mcp")

        stage.finished(events)
        (result,) = [each for each in events if each.type == "agent.mcp_tool_result"]
        assert "two issues for 7" in words(result)
        assert len(stage.proxy.of(SEND)) == 1


# ---------------------------------------------------------------- what a worker finds when it comes late


async def interrupted(ground: Ground) -> None:
    """Were an interrupted call not closed in the history, a worker would run it: its result changes nothing."""

    def without_results(answer: Message) -> Message:
        page = answer.json
        page["data"] = [each for each in page["data"] if each["type"] != "user.tool_result"]
        return replace(answer, body=json.dumps(page).encode())

    async with ground.stage(Fault(LIST, Does(change=without_results))) as stage:
        session = await _interrupted(stage)
        async with stage.worker():
            await stage.proxy.until(SEND, status=200)

        assert stage.ran == 1
        events = await stage.events(session)
        assert answers(events) == [("interrupted", True)]
        assert is_over(events)


async def interrupted_fixed(ground: Ground) -> None:
    """It is in the history, before the session is idle, and no worker runs the call."""
    async with ground.stage() as stage:
        session = await _interrupted(stage)
        events = await stage.events(session)
        assert kinds(events)[-3:] == ["user.interrupt", "user.tool_result", "session.status_idle"]
        async with stage.worker():
            await stage.proxy.until(STOP, status=200)

        assert stage.ran == 0
        assert not stage.proxy.of(SEND)


async def _interrupted(stage: Stage) -> str:
    """A session whose one call was interrupted before any worker came."""
    session = await stage.session(bash(ONCE))
    await stage.until(session, is_waiting)
    await stage.send(session, "user.interrupt")
    await stage.over(session)
    return session


async def lateserver(ground: Ground) -> None:
    """A worker that comes after the turn's end leaves: no call that we run or refuse looks unanswered to it."""
    async with ground.stage() as stage:
        for tool in ("web_fetch", "web_search"):
            with pytest.raises(anthropic.BadRequestError, match=tool):
                web: Any = {"type": SANDBOX, "configs": [{"name": tool, "enabled": True}]}
                await stage.app.beta.agents.create(model="m", name="web", tools=[web])
        session = await stage.session(call("frobnicate"))
        await stage.over(session)
        async with stage.worker():
            await stage.proxy.until(STOP, status=200)

        assert not stage.proxy.of(SEND)
