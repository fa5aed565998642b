"""Headers that repeat arguments (`x-mcp-header`), which no stdio server can check itself."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.connector.targets.facade_kit import HandClock, call, heard, running, send, until


def asked(folder: Path) -> list[str]:
    return [message["method"] for message in heard(folder)[1:]]


@pytest.mark.parametrize(
    ("arguments", "mirrors", "status"),
    [
        ({"region": "eu", "of": {"n": 5}}, {"region": "eu", "of-n": "5"}, 200),
        ({"region": "é"}, {"region": "=?base64?w6k=?="}, 200),
        ({}, {}, 200),
        ({"region": "eu"}, {"region": "us"}, 400),
        ({"region": "eu"}, {}, 400),
        ({}, {"region": "eu"}, 400),
        ({"region": "eu"}, {"region": "=?base64?eh==?="}, 400),
        ({"of": {"n": 5}}, {"of-n": "6"}, 400),
    ],
)
async def test_a_header_that_contradicts_the_body_is_refused(
    tmp_path: Path, arguments: dict[str, Any], mirrors: dict[str, str], status: int
) -> None:
    async with running(tmp_path, "dual", "mirrors") as facade:
        answer = await send(facade, call("echo", modern=True, **arguments), mirrors=mirrors)

    assert (answer.status, answer.was_dispatched) == (status, status == 200)
    if status == 400:
        assert (answer.json["error"]["code"], answer.json["id"]) == (-32020, 1)
    assert asked(tmp_path) == ["tools/list", "tools/list", *(["tools/call"] if status == 200 else [])]


async def test_those_who_call_at_the_same_time_wait_for_the_one_list(tmp_path: Path) -> None:
    async with running(tmp_path, "dual", "mirrors") as facade:
        calls = (send(facade, call("echo", modern=True, ident=n, region="eu")) for n in range(5))
        assert [answer.status for answer in await asyncio.gather(*calls)] == [400] * 5
    assert asked(tmp_path) == ["tools/list", "tools/list"]


async def test_the_list_is_asked_for_now_and_then_and_nobody_waits_for_it_twice(tmp_path: Path) -> None:
    clock = HandClock()
    async with running(tmp_path, "dual", "mirrors", clock=clock) as facade:
        for _ in range(3):
            await send(facade, call("pid", modern=True))
        assert asked(tmp_path) == ["tools/list", "tools/list", "tools/call", "tools/call", "tools/call"]

        await clock.turn(61)
        await send(facade, call("pid", modern=True))
        await send(facade, call("pid", modern=True))
        await until(lambda: asked(tmp_path)[5:].count("tools/list") == 2)
        assert asked(tmp_path)[5:].count("tools/call") == 2


async def test_a_tool_that_was_not_listed_is_looked_for_again_but_not_by_every_call(tmp_path: Path) -> None:
    clock = HandClock()
    async with running(tmp_path, "dual", "mirrors", clock=clock) as facade:
        for _ in range(3):
            await send(facade, call("env", modern=True))
        assert asked(tmp_path).count("tools/list") == 2
        await clock.turn(2)
        await send(facade, call("env", modern=True))
        assert asked(tmp_path).count("tools/list") == 4


async def test_a_server_that_says_that_its_tools_changed_is_asked_anew(tmp_path: Path) -> None:
    async with running(tmp_path, "dual", "mirrors") as facade:
        await send(facade, call("tell", modern=True, method="notifications/tools/list_changed"))
        before = asked(tmp_path).count("tools/list")
        await send(facade, call("pid", modern=True))
        assert asked(tmp_path).count("tools/list") == before + 2


async def test_a_server_without_a_list_is_called_unchecked(tmp_path: Path) -> None:
    async with running(tmp_path, "dual") as facade:
        for _ in range(2):
            assert (await send(facade, call("echo", modern=True), mirrors={"region": "eu"})).status == 200
    assert asked(tmp_path).count("tools/list") == 1
