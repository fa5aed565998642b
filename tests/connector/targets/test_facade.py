from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Self

import pytest

from arrowslit.clock import SystemClock
from arrowslit.connector.targets.conversations import shared
from arrowslit.connector.targets.facade import Facade
from arrowslit.connector.targets.processes.channel import Listener, Program
from arrowslit.connector.targets.stdio import Command, Stdio
from arrowslit.connector.targets.target import Lost, NotStarted, Target
from arrowslit.errors import Error
from tests.connector.targets.facade_kit import (
    INITIALIZE,
    Answer,
    HandClock,
    call,
    heard,
    open_session,
    raw,
    request,
    running,
    send,
    until,
)

DIES_OF_INITIALIZE = """
import os, sys
for line in sys.stdin:
    if "initialize" in line:
        os._exit(3)
    print('{"id": 1, "error": {"code": -32601}}', flush=True)
"""


async def test_the_facade_is_a_target_and_says_how_it_is(tmp_path: Path) -> None:
    target: Target = raw(tmp_path, "dual")
    assert target.state()["ready"] is False
    async with target:
        state = target.state()
    assert state == {
        "ready": True,
        "detail": None,
        "era": "dual",
        "processes": 1,
        "sessions": 0,
        "restarts": 0,
        "last_error": None,
    }
    assert target.state()["ready"] is False


async def test_a_server_that_does_not_answer_the_probe_is_legacy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "PROBE_LIMIT", 0.2)
    async with running(tmp_path, "legacy", "silent") as facade:
        assert facade.state()["era"] == "legacy"
        assert (await send(facade, call("echo"), session=await open_session(facade))).status == 200


async def test_a_server_that_dies_of_the_probe_is_legacy(tmp_path: Path) -> None:
    async with running(tmp_path, "legacy", "touchy") as facade:
        assert facade.state()["era"] == "legacy"
        assert (await send(facade, call("echo"), session=await open_session(facade))).status == 200


async def test_a_server_that_does_not_start_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Error, match="exited with status 1") as failed:
        async with running(tmp_path, "dual", "crash"):
            pass
    assert (failed.value.code, failed.value.details) == ("target_failed", {"stderr": "KeyError: 'INTERNAL_DB_DSN'"})


async def test_a_state_folder_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "sessions").touch()
    with pytest.raises(Error) as failed:
        async with raw(tmp_path, "dual"):
            pass
    assert failed.value.code == "state_unusable"


async def test_what_fails_while_the_target_is_open_comes_out_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        async with running(tmp_path, "dual"):
            raise KeyError


@pytest.mark.parametrize(
    ("method", "version", "status", "allow"),
    [
        ("GET", "2026-07-28", 405, "POST"),
        ("DELETE", "2026-07-28", 405, "POST"),
        ("PUT", None, 405, "POST, GET, DELETE"),
        ("GET", "2025-11-25", 400, None),
    ],
)
async def test_http_methods_that_mean_nothing_are_refused(
    tmp_path: Path, method: str, version: str | None, status: int, allow: str | None
) -> None:
    async with running(tmp_path, "dual") as facade:
        answer = await send(facade, method=method, version=version)
    assert (answer.status, answer.headers.get("allow"), answer.was_dispatched) == (status, allow, False)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'{"id": 1.5}', b'{"method": 1}', b"{}" + b" x"])
async def test_a_body_that_is_no_message_is_refused(tmp_path: Path, body: bytes) -> None:
    async with running(tmp_path, "dual") as facade:
        answer = await send(facade, body)
    assert (answer.status, answer.json["error"]["code"], answer.was_dispatched) == (400, -32700, False)


async def test_a_notification_outside_of_a_session_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path, "dual") as facade:
        assert (await send(facade, request("notifications/initialized", ident=None))).status == 400
        assert (await send(facade, INITIALIZE | {"id": 5}, session="unknown")).status == 404
    assert len(heard(tmp_path)) == 1


@pytest.mark.promise("P3")
async def test_a_server_that_dies_of_every_new_session_is_not_started_for_each(tmp_path: Path) -> None:
    script = 'import os, sys\nfor line in sys.stdin:\n  if \'initialize\' in line: os._exit(3)\n  print(\'{"id":1,"error":{"code":-32601}}\', flush=True)'  # noqa: E501
    clock = HandClock()
    program = Stdio(Command((sys.executable, "-S", "-c", script), {}))
    async with Facade(program, clock=clock, random=bytes, state=tmp_path) as facade:
        for _ in range(2):
            with pytest.raises(Lost):
                await send(facade, INITIALIZE)
        reply = Answer()
        with pytest.raises(NotStarted, match="the next session is tried in 1 s"):
            await send(facade, INITIALIZE, reply=reply)
        assert (reply.was_dispatched, facade.state()["ready"]) == (False, False)
        await clock.turn(1)
        assert facade.state()["ready"] is True


async def test_leaving_the_target_ends_what_is_in_flight(tmp_path: Path) -> None:
    modern, legacy, stream = Answer(), Answer(), Answer()
    async with running(tmp_path, "dual") as facade:
        session = await open_session(facade)
        tasks = [
            asyncio.create_task(send(facade, call("never", modern=True), reply=modern)),
            asyncio.create_task(send(facade, call("never"), session=session, reply=legacy)),
            asyncio.create_task(send(facade, method="GET", session=session, reply=stream)),
        ]
        for reply in (modern, legacy):
            await reply.until(lambda answer: answer.was_dispatched)
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(end) for end in ends] == [Lost, Lost, Answer]
    with pytest.raises(NotStarted):
        await send(facade, call("echo", modern=True))
    with pytest.raises(NotStarted):
        await send(facade, call("echo"), session=session)


class Lisp(Program):
    """A server without a process, to show that the façade needs none: it answers every request with its method."""

    name, running = "lisp", 1

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def start(self, listener: Listener) -> LispChannel:
        return LispChannel(listener)

    def hint(self, last_words: str) -> str:
        return ""


class LispChannel:
    usable = True

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def send(self, line: bytes) -> None:
        message = json.loads(line)
        if "id" in message and "method" in message:
            answer = {"id": message["id"], "result": {"th": message["method"]}}
            asyncio.get_running_loop().call_soon(self._listener.message, json.dumps(answer).encode())

    async def drain(self) -> None:
        pass

    async def close(self) -> None:
        self._listener.closed("was closed")

    def last_words(self) -> str:
        return ""


async def test_the_facade_needs_only_its_port(tmp_path: Path) -> None:
    async with Facade(Lisp(), clock=SystemClock(), random=bytes, state=tmp_path) as facade:
        answer = await send(facade, call("x"), session=await open_session(facade))
        assert answer.result == {"th": "tools/call"}
        await until(lambda: facade.state()["era"] == "legacy")
