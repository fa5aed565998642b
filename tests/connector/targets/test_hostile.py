"""Servers that break every rule: what their callers, and above all what others, see of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from arrowslit.connector.targets.facade import Facade
from arrowslit.connector.targets.target import Lost
from tests.connector.targets.facade_kit import (
    Answer,
    HandClock,
    call,
    gone,
    open_session,
    request,
    running,
    send,
    servers,
    until,
)

Ask = Callable[..., Coroutine[Any, Any, Answer]]


async def asker(facade: Facade, era: str) -> Ask:
    """How a client of this era calls tools."""
    session = await open_session(facade) if era == "legacy" else None

    def ask(tool: str, **more: Any) -> Coroutine[Any, Any, Answer]:
        return send(facade, call(tool, modern=session is None, **more), session=session)

    return ask


@pytest.fixture(params=["legacy", "dual"])
def era(request: pytest.FixtureRequest) -> str:
    """The era of the server, and of its client."""
    found: str = request.param
    return found


@pytest.mark.promise("P5")
async def test_a_second_answer_is_nobodys(tmp_path: Path, era: str) -> None:
    async with running(tmp_path, era) as facade:
        ask = await asker(facade, era)
        answers = [await ask("twice", canary=canary) for canary in range(20)]
    assert [answer.result for answer in answers] == [{"first": canary} for canary in range(20)]


@pytest.mark.promise("P5")
async def test_an_answer_to_an_id_that_nobody_asked_is_nobodys(tmp_path: Path, era: str) -> None:
    async with running(tmp_path, era) as facade:
        ask = await asker(facade, era)
        hanging = asyncio.create_task(ask("hold", ident="other", of=2, canary="other"))
        wrong = await ask("misaddressed")
        await ask("hold", ident=3, of=2, canary="release")
        other = await hanging

    assert (wrong.result, other.result) == ({"right": True}, {"canary": "other"})


@pytest.mark.parametrize(
    ("tool", "arguments"), [("half", {"cut": 20}), ("half", {"cut": -1}), ("big", {"size": 20 << 20})]
)
@pytest.mark.promise("P3")
async def test_half_an_answer_or_one_too_long_is_lost_and_the_next_call_is_answered(
    tmp_path: Path, era: str, tool: str, arguments: dict[str, int]
) -> None:
    async with running(tmp_path, era) as facade:
        ask = await asker(facade, era)
        with pytest.raises(Lost):
            await ask(tool, **arguments)
        assert (await ask("echo")).status == 200


async def test_a_whole_answer_counts_without_its_line_end(tmp_path: Path, era: str) -> None:
    async with running(tmp_path, era) as facade:
        assert (await (await asker(facade, era))("half")).result == {"whole": True}


async def test_a_server_may_shout_on_stderr(tmp_path: Path, era: str) -> None:
    async with running(tmp_path, era) as facade:
        assert (await (await asker(facade, era))("shout")).result == {"shouted": True}


@pytest.mark.parametrize(
    "line",
    [
        '{"method": "notifications/progress", "params": {"progressToken": "LISTENER", "progress": 1}}',
        '{"method": "notifications/progress", "params": {"progressToken": LISTENER, "progress": 1}}',
        '{"method": "x", "params": {"_meta": {"io.modelcontextprotocol/subscriptionId": "LISTENER"}}}',
        '{"method": "notifications/message", "params": {"data": "secret"}}',
        '{"method": "notifications/tools/list_changed", "params": {"secret": 1}}',
        '{"method": "notifications/cancelled", "params": {"requestId": "LISTENER"}}',
        '{"id": "LISTENER", "result": {"secret": 1}}',
        '{"id": 5, "method": "sampling/createMessage", "params": {"secret": 1}}',
    ],
)
@pytest.mark.promise("P5")
async def test_what_one_client_causes_no_other_client_of_the_shared_server_sees(tmp_path: Path, line: str) -> None:
    listen = request("subscriptions/listen", {"notifications": {"toolsListChanged": True}}, ident="sub", modern=True)
    async with running(tmp_path, "dual") as facade:
        watching = asyncio.create_task(send(facade, listen, reply=(watcher := Answer())))
        await watcher.until(lambda answer: b"acknowledged" in answer.body)
        waiting = asyncio.create_task(
            send(facade, call("hold", modern=True, token="LISTENER", of=2, canary=1), reply=(waiter := Answer()))
        )
        await waiter.until(lambda answer: answer.was_dispatched)
        before = watcher.body

        await send(facade, call("print", modern=True, token="mine", line=line))

        assert (watcher.body, waiter.status) == (before, None)
        await send(facade, call("hold", modern=True, of=2, canary=2))
        assert (await waiting).json["result"] == {"canary": 1}
        watching.cancel()


@pytest.mark.parametrize("crashes", [50, pytest.param(1000, marks=pytest.mark.slow)])
async def test_no_process_is_left_of_those_that_crashed(tmp_path: Path, crashes: int) -> None:
    """Each has a child that ignores what a polite program would not, and would outlive it."""
    clock = HandClock()

    async def crash(facade: Facade) -> int:
        session = await open_session(facade)
        child: int = (await send(facade, call("fork"), session=session)).result["pid"]
        with pytest.raises(Lost):
            await send(facade, call("die", ident=2), session=session)
        await send(facade, method="DELETE", session=session)
        return child

    async with running(tmp_path, "legacy", clock=clock, spare=True) as facade:
        left: list[int] = []
        for _ in range(crashes // 10):
            left += await asyncio.gather(*(crash(facade) for _ in range(10)))
        await asyncio.gather(*map(gone, left))
        await until(lambda: servers() == [] and facade.state()["processes"] == 0)
    assert len(left) == crashes
