from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from arrowslit.connector.targets.facade import Facade
from arrowslit.connector.targets.target import Cancel, Lost, NotStarted, TooLarge
from tests.connector.targets.facade_kit import (
    CAPABILITIES,
    INITIALIZE,
    META,
    VERSION,
    Answer,
    HandClock,
    call,
    heard,
    open_session,
    request,
    running,
    send,
    until,
)

LISTEN = request("subscriptions/listen", {"notifications": {"toolsListChanged": True}}, ident="sub", modern=True)


async def pid_of(facade: Facade) -> int:
    pid: int = (await send(facade, call("pid", modern=True))).result["pid"]
    return pid


def tools(folder: Path) -> list[str]:
    """The tools that servers were asked to run."""
    return [message["params"]["name"] for message in heard(folder) if message["method"] == "tools/call"]


def start(facade: Facade, body: dict[str, object], reply: Answer) -> asyncio.Task[Answer]:
    return asyncio.create_task(send(facade, body, reply=reply))


@pytest.mark.promise("P5")
async def test_two_hundred_clients_share_one_process_and_each_gets_its_own_answer(tmp_path: Path) -> None:
    """All use id 1, and the server answers in reverse order."""
    async with running(tmp_path, "dual") as facade:
        bodies = [call("hold", ident=1, modern=True, of=200, canary=f"c{n}") for n in range(200)]
        answers = await asyncio.gather(*(send(facade, body) for body in bodies))

        assert [answer.json["result"]["canary"] for answer in answers] == [f"c{n}" for n in range(200)]
        assert {answer.json["id"] for answer in answers} == {1}
        assert facade.state()["processes"] == 1


@pytest.mark.promise("P5")
async def test_progress_goes_to_the_client_whose_token_it_is_though_tokens_are_the_same(tmp_path: Path) -> None:
    async with running(tmp_path, "dual") as facade:
        bodies = [call("progress", ident=ident, modern=True, token="t", steps=2) for ident in (1, 1, "a")]
        answers = await asyncio.gather(*(send(facade, body) for body in bodies))

    seen = [[event["params"]["progressToken"] for event in answer.events[:-1]] for answer in answers]
    assert seen == [["t", "t"]] * 3
    assert [answer.events[-1]["id"] for answer in answers] == [1, 1, "a"]
    own = {answer.events[-1]["result"]["token"] for answer in answers}
    assert len(own) == 3, "towards the server the tokens differ"


@pytest.mark.promise("P8")
async def test_arguments_and_results_are_copied_byte_for_byte(tmp_path: Path) -> None:
    arguments = b'{ "n" :1.0,"big":123456789012345678901234567890,"e":1E5,"s":"\\u00e9\\/",  "a":[ ]}'
    body = (
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":'
        + arguments
        + b',"_meta":{"'
        + VERSION.encode()
        + b'":"2026-07-28"}}}'
    )
    async with running(tmp_path, "dual") as facade:
        answer = await send(facade, body)
    assert arguments in (tmp_path / "log").read_bytes()
    assert b'{"n": 1.0, "big": 123456789012345678901234567890, "e": 100000.0, "s": "\\u00e9/", "a": []}' in answer.body


async def test_line_ends_between_tokens_do_not_cut_a_message(tmp_path: Path) -> None:
    body = (
        b'{"jsonrpc": "2.0",\n "id": 1, "method": "tools/call", "params": {"name": "echo",\r\n'
        b' "arguments": {"text":\n"a\\nb"}, "_meta": {"%s": "2026-07-28"}}}' % VERSION.encode()
    )
    async with running(tmp_path, "dual") as facade:
        assert (await send(facade, body)).result["arguments"] == {"text": "a\nb"}


@pytest.mark.promise("P5")
async def test_a_subscription_knows_its_own_id_only(tmp_path: Path) -> None:
    async with running(tmp_path, "dual") as facade:
        first, second = Answer(), Answer()
        tasks = [start(facade, LISTEN, first), start(facade, LISTEN | {"id": 1}, second)]
        for reply in (first, second):
            await reply.until(lambda answer: bool(answer.body))

        published = await send(facade, call("publish", modern=True, text="news", end=True))
        await asyncio.gather(*tasks)

    key = "io.modelcontextprotocol/subscriptionId"
    assert published.result == {"listeners": 2}
    for reply, ident in ((first, "sub"), (second, 1)):
        acknowledged, news, ended = reply.events
        assert {event["params"]["_meta"][key] for event in (acknowledged, news)} == {ident}
        assert (news["params"]["text"], ended["id"], ended["result"]["_meta"][key]) == ("news", ident, ident)


async def test_a_subscription_that_the_server_ends_just_ends(tmp_path: Path) -> None:
    async with running(tmp_path, "dual") as facade:
        listening = start(facade, LISTEN, reply := Answer())
        await reply.until(lambda answer: bool(answer.body))
        await send(facade, call("unsubscribe", modern=True))
        assert len((await listening).events) == 1


@pytest.mark.parametrize("reason", list(Cancel))
@pytest.mark.promise("P5")
async def test_giving_up_is_a_cancel_and_a_late_answer_reaches_nobody(tmp_path: Path, reason: Cancel) -> None:
    async with running(tmp_path, "dual") as facade:
        reply = Answer(cancel=reason)
        late = start(facade, call("hold", modern=True, of=2, canary="late"), reply)
        await reply.until(lambda answer: answer.was_dispatched)
        late.cancel()
        await asyncio.wait([late])

        second = await send(facade, call("hold", modern=True, of=2, canary="second"))

        assert (late.cancelled(), reply.status, second.result) == (True, None, {"canary": "second"})
    own = next(message["id"] for message in heard(tmp_path) if message["method"] == "tools/call")
    cancelled = [message["params"]["requestId"] for message in heard(tmp_path) if "cancelled" in message["method"]]
    assert cancelled == [own]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (-32601, 404),
        (-32600, 400),
        (-32020, 400),
        (-32021, 400),
        (-32022, 400),
        (-32602, 200),
        (-32603, 200),
        (-32000, 200),
        (5, 200),
    ],
)
async def test_the_status_says_what_the_error_says(tmp_path: Path, code: int, status: int) -> None:
    async with running(tmp_path, "dual") as facade:
        answer = await send(facade, call("error", modern=True, code=code))
    assert (answer.status, answer.json["error"]["code"], answer.json["id"]) == (status, code, 1)


@pytest.mark.parametrize("missing", [VERSION, CAPABILITIES])
async def test_invalid_params_for_want_of_meta_is_a_bad_request(tmp_path: Path, missing: str) -> None:
    body = call("error", code=-32602)
    body["params"]["_meta"] = {key: value for key, value in META.items() if key != missing}
    async with running(tmp_path, "dual") as facade:
        assert (await send(facade, body, version="2026-07-28")).status == 400


async def test_what_the_modern_era_has_no_more_does_not_exist_whatever_the_server_thinks(tmp_path: Path) -> None:
    removed = ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"]
    async with running(tmp_path, "dual") as facade:
        for method in removed:
            answer = await send(facade, request(method, INITIALIZE["params"], modern=True))
            assert (answer.status, answer.json["error"]["code"], facade.state()["processes"]) == (404, -32601, 1)
    assert [message["method"] for message in heard(tmp_path)] == ["server/discover"]


async def test_a_modern_notification_is_taken_and_a_response_is_not(tmp_path: Path) -> None:
    """Another client's request could have the id that a client's `notifications/cancelled` names."""
    cancel = request("notifications/cancelled", {"requestId": 2}, ident=None)
    async with running(tmp_path, "dual") as facade:
        taken = await send(facade, cancel, version="2026-07-28")
        refused = await send(facade, {"jsonrpc": "2.0", "id": 1, "result": {}}, version="2026-07-28")
    assert (taken.status, taken.body, refused.status) == (202, b"", 400)
    assert [message["method"] for message in heard(tmp_path)] == ["server/discover"]


async def test_both_eras_of_one_server_have_processes_of_their_own(tmp_path: Path) -> None:
    async with running(tmp_path, "dual") as facade:
        session = await open_session(facade)
        legacy = (await send(facade, call("pid"), session=session)).result["pid"]
        ignored = await send(facade, call("pid", modern=True), session=session, version="2026-07-28")

        assert legacy != ignored.result["pid"] == await pid_of(facade)
        assert facade.state()["era"] == "dual"


async def test_a_legacy_server_sends_modern_clients_back_to_initialize(tmp_path: Path) -> None:
    async with running(tmp_path, "legacy") as facade:
        answer = await send(facade, request("server/discover", modern=True), version="2026-07-28")
        error = {"code": -32600, "message": "Bad Request: Missing session ID"}
        assert (answer.status, answer.json["error"], answer.was_dispatched) == (400, error, False)
        assert facade.state()["era"] == "legacy"


@pytest.mark.promise("P3")
@pytest.mark.promise("P4")
async def test_a_death_loses_what_was_handed_over_and_the_server_is_started_again_at_once(tmp_path: Path) -> None:
    async with running(tmp_path, "dual") as facade:
        died, reply = await pid_of(facade), Answer()
        hanging = start(facade, call("never", modern=True), reply)
        await until(lambda: tools(tmp_path)[-1] == "never")

        os.kill(died, signal.SIGKILL)

        with pytest.raises(Lost, match="was killed by SIGKILL"):
            await hanging
        await until(lambda: facade.state()["restarts"] == 1)
        assert await pid_of(facade) != died
        assert facade.state()["ready"] is True
    assert reply.was_dispatched
    assert tools(tmp_path) == ["pid", "never", "pid"]


@pytest.mark.promise("P3")
async def test_calls_while_the_server_may_not_start_yet_are_not_started_and_say_why(tmp_path: Path) -> None:
    clock = HandClock()
    async with running(tmp_path, "dual", clock=clock) as facade:
        for _ in range(2):
            with pytest.raises(Lost):
                await send(facade, call("die", modern=True))
        state, reply = facade.state(), Answer()
        with pytest.raises(NotStarted, match="exited with status 7; it is started again in 1 s"):
            await send(facade, call("echo", modern=True), reply=reply)

        assert (state["ready"], reply.was_dispatched) == (False, False)
        assert "exited with status 7" in str(state["detail"])
        await clock.turn(1)
        assert (await send(facade, call("echo", modern=True))).status == 200
        assert (facade.state()["ready"], facade.state()["restarts"]) == (True, 2)


@pytest.mark.promise("P3")
async def test_a_call_given_up_before_the_server_reads_was_not_handed_over(tmp_path: Path) -> None:
    async with running(tmp_path, "dual") as facade:
        sleeping = start(facade, call("sleep", modern=True, seconds=0.5), Answer())
        big = start(facade, call("echo", modern=True, text="x" * 1_000_000), first := Answer())
        await first.until(lambda answer: answer.was_dispatched)

        waiting = start(facade, call("echo", modern=True), reply := Answer())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])

        assert not reply.was_dispatched
        await asyncio.gather(sleeping, big)
    assert not any("cancelled" in message["method"] for message in heard(tmp_path))


@pytest.mark.promise("P15")
async def test_a_slow_reader_stalls_nobody_and_has_a_limit(tmp_path: Path) -> None:
    async with running(tmp_path, "dual") as facade:
        slow = Answer()
        flooded = start(facade, call("flood", modern=True, token=1, megabytes=70), slow)
        await slow.until(lambda answer: answer.was_dispatched)
        slow.flowing.clear()

        assert (await send(facade, call("echo", modern=True, x=1))).result["arguments"] == {"x": 1}

        slow.flowing.set()
        with pytest.raises(TooLarge):
            await flooded
        assert len(slow.body) < 10_000_000


async def test_a_request_of_a_modern_server_is_refused_at_once(tmp_path: Path) -> None:
    async with running(tmp_path, "dual") as facade:
        answer = await send(facade, call("ask", modern=True))
        assert answer.result["heard"]["code"] == -32601


@pytest.mark.promise("P5")
async def test_a_log_message_that_could_be_somebody_elses_is_shown_to_nobody(tmp_path: Path) -> None:
    clock = HandClock()
    told = call("tell", modern=True, method="notifications/message", params={"data": "secret"})
    logging = {**told, "params": {**told["params"], "_meta": META | {"io.modelcontextprotocol/logLevel": "info"}}}
    never = {**logging, "params": {**logging["params"], "name": "never"}}
    async with running(tmp_path, "dual", clock=clock) as facade:
        alone = await send(facade, logging)
        unasked = await send(facade, told)
        other = start(facade, never, reply := Answer())
        await reply.until(lambda answer: answer.was_dispatched)
        together = await send(facade, logging)
        other.cancel()
        await asyncio.wait([other])
        soon_after = await send(facade, logging)
        await clock.turn(5)
        later = await send(facade, logging)

    assert [event.get("method") for event in alone.events] == ["notifications/message", None]
    assert [len(answer.events) for answer in (alone, later)] == [2, 2]
    assert [answer.json["result"] for answer in (unasked, together, soon_after)] == [{"told": True}] * 3
    assert b"secret" not in reply.body


async def test_news_outside_of_a_subscription_is_dropped(tmp_path: Path) -> None:
    async with running(tmp_path, "dual") as facade:
        answer = await send(facade, call("tell", modern=True, method="notifications/tools/list_changed"))
        assert answer.json["result"] == {"told": True}


async def test_what_is_no_message_is_logged_and_ignored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with running(tmp_path, "dual") as facade:
        assert (await send(facade, call("noise", modern=True))).result == {"quiet": False}
    assert "printed what is no message: b'starting up ...'" in caplog.text


@pytest.mark.parametrize(
    "line",
    [
        '{"method": "notifications/progress", "params": {"progressToken": TOKEN, "\xff": 1}}',
        '{"method": "notifications/progress", "params": {"progressToken": TOKEN, "x": ' + "[" * 99_999 + "}}",
        '{"method": "notifications/progress", "params": []}',
        '{"method": "notifications/progress"}',
        '{"method": "notifications/progress", "params": {"progressToken": 987654}}',
        '{"method": "x", "params": {"_meta": {"io.modelcontextprotocol/subscriptionId": LISTENER, "\xff": 1}}}',
        '{"id": LISTENER, "result": 5}',
        '{"id": LISTENER, "result": {"_meta": 5, "\xff": 1}}',
        '{"id": 987654, "result": {}}',
        '{"id": null, "error": {"code": -32700}}',
        '{"id": "x", "method": 5}',
    ],
)
async def test_nothing_that_a_server_says_disturbs_others(tmp_path: Path, line: str) -> None:
    async with running(tmp_path, "dual") as facade:
        listening = start(facade, LISTEN, reply := Answer())
        await reply.until(lambda answer: bool(answer.body))
        printed = await send(facade, call("print", modern=True, token="t", line=line))
        assert (printed.result, facade.state()["restarts"]) == ({}, 0)
        assert (await send(facade, call("echo", modern=True))).status == 200
        listening.cancel()


@pytest.mark.promise("P3")
async def test_a_line_over_the_limit_ends_the_process_and_loses_its_calls(tmp_path: Path) -> None:
    async with running(tmp_path, "dual") as facade:
        largest = await send(facade, call("big", modern=True, size=16 * 1024 * 1024 - 100))
        assert len(largest.body) > 16_000_000
        with pytest.raises(Lost, match="a line of more than 16777216 bytes"):
            await send(facade, call("big", modern=True, size=17_000_000))
        assert (await send(facade, call("echo", modern=True))).status == 200
