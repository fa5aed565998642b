from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from arrowslit.connector.targets.facade import Facade
from arrowslit.connector.targets.target import Cancel, Lost, NotStarted
from tests.connector.targets.facade_kit import (
    INITIALIZE,
    Answer,
    HandClock,
    call,
    end_quickly,
    heard,
    open_session,
    request,
    running,
    send,
    until,
)


def calls(folder: Path) -> list[str]:
    """The tools that servers were asked to run."""
    return [message["params"]["name"] for message in heard(folder) if message.get("method") == "tools/call"]


async def pid_of(facade: Facade, session: str) -> int:
    pid: int = (await send(facade, call("pid", ident="pid"), session=session)).result["pid"]
    return pid


async def kill(facade: Facade, session: str) -> int:
    """Kill the process of a session between two calls, and wait until the façade knows."""
    pid, before = await pid_of(facade, session), facade.state()["processes"]
    os.kill(pid, signal.SIGKILL)
    await until(lambda: facade.state()["processes"] != before)
    return pid


def listen(facade: Facade, session: str, reply: Answer) -> asyncio.Task[Answer]:
    """Open the session's GET stream."""
    return asyncio.create_task(send(facade, method="GET", session=session, reply=reply))


async def test_each_session_has_a_process_of_its_own(tmp_path: Path) -> None:
    async with running(tmp_path, "legacy") as facade:
        first, second = await send(facade, INITIALIZE), await send(facade, INITIALIZE)

        assert (first.status, first.result["serverInfo"]) == (200, {"name": "raw"})
        assert first.session != second.session
        assert await pid_of(facade, first.session) != await pid_of(facade, second.session)


async def test_the_session_id_is_said_once(tmp_path: Path) -> None:
    async with running(tmp_path, "legacy") as facade:
        session = await open_session(facade)
        assert "mcp-session-id" not in (await send(facade, call("echo"), session=session)).headers


@pytest.mark.parametrize(("session", "status"), [(None, 400), ("0" * 32, 404), ("../../etc/passwd", 404)])
@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
async def test_a_session_must_be_named_and_known(tmp_path: Path, method: str, session: str | None, status: int) -> None:
    async with running(tmp_path, "legacy") as facade:
        answer = await send(facade, call("echo") if method == "POST" else b"", method=method, session=session)

    assert (answer.status, answer.json["error"]["code"], answer.was_dispatched) == (status, -32600, False)
    assert calls(tmp_path) == []


async def test_a_server_that_refuses_to_initialize_leaves_no_session(tmp_path: Path) -> None:
    (tmp_path / "refuse").touch()
    async with running(tmp_path, "legacy") as facade:
        answer = await send(facade, INITIALIZE)

        assert (answer.status, answer.json["error"]["code"]) == (200, -32602)
        assert "mcp-session-id" not in answer.headers
        assert (facade.state()["sessions"], list((tmp_path / "sessions").iterdir())) == (0, [])
        await until(lambda: facade.state()["processes"] == 0)


async def test_a_deleted_session_is_gone_with_all_that_ran_in_it(tmp_path: Path) -> None:
    async with running(tmp_path, "legacy") as facade:
        session, stream = await open_session(facade), Answer()
        listening = listen(facade, session, stream)
        hanging = asyncio.create_task(send(facade, call("never"), session=session, reply=(reply := Answer())))
        await reply.until(lambda answer: answer.was_dispatched)

        deleted = await send(facade, method="DELETE", session=session)

        assert (deleted.status, deleted.body) == (200, b"")
        with pytest.raises(Lost):
            await hanging
        await listening
        assert (await send(facade, call("echo"), session=session)).status == 404
        assert list((tmp_path / "sessions").iterdir()) == []
        await until(lambda: facade.state()["processes"] == 0)


async def test_notifications_and_responses_are_accepted_and_passed_on(tmp_path: Path) -> None:
    response = {"jsonrpc": "2.0", "id": "ask-2", "result": {"a": [1.0, "é"]}}
    async with running(tmp_path, "legacy") as facade:
        session, reply = await open_session(facade), Answer()
        asking = asyncio.create_task(send(facade, call("ask"), session=session, reply=reply))
        await reply.until(lambda answer: bool(answer.body))

        accepted = await send(facade, response, session=session)

        assert (accepted.status, accepted.headers, accepted.body) == (202, {}, b"")
        assert (await asking).result == {"heard": {"a": [1.0, "é"]}}
    assert [m["method"] for m in heard(tmp_path) if "id" not in m] == ["notifications/initialized"]


async def test_a_notification_waits_for_a_server_that_does_not_read(tmp_path: Path) -> None:
    async with running(tmp_path, "legacy") as facade:
        session, reply = await open_session(facade), Answer()
        sleeping = asyncio.create_task(send(facade, call("sleep", seconds=0.3), session=session))
        big = asyncio.create_task(send(facade, call("echo", ident=2, x="y" * 1_000_000), session=session, reply=reply))
        await reply.until(lambda answer: answer.was_dispatched)

        told = asyncio.create_task(send(facade, request("notifications/x", ident=None), session=session))
        await asyncio.sleep(0)
        assert not told.done()
        assert [answer.status for answer in await asyncio.gather(sleeping, big, told)] == [200, 200, 202]


async def test_progress_makes_a_stream_and_stays_on_it(tmp_path: Path) -> None:
    async with running(tmp_path, "legacy") as facade:
        session = await open_session(facade)
        one, two, plain = await asyncio.gather(
            send(facade, call("progress", ident=1, token="one", steps=2), session=session),
            send(facade, call("progress", ident=2, token=2, steps=1), session=session),
            send(facade, call("echo", ident=3), session=session),
        )

    steps = [("one", 0), ("one", 1)]
    assert [(event["params"]["progressToken"], event["params"]["progress"]) for event in one.events[:-1]] == steps
    assert [event["params"]["progressToken"] for event in two.events[:-1]] == [2]
    assert (one.events[-1]["id"], two.events[-1]["id"], plain.json["id"]) == (1, 2, 3)
    assert one.headers["cache-control"] == "no-cache, no-transform"


async def test_a_question_of_the_server_goes_to_the_call_in_flight_else_to_the_get_stream(tmp_path: Path) -> None:
    async with running(tmp_path, "legacy") as facade:
        session, stream, reply = await open_session(facade), Answer(), Answer()
        listening = listen(facade, session, stream)
        asking = asyncio.create_task(send(facade, call("ask", of="call"), session=session, reply=reply))
        await reply.until(lambda answer: bool(answer.body))
        assert [event["params"]["of"] for event in reply.events] == ["call"]

        await send(facade, {"jsonrpc": "2.0", "id": reply.events[0]["id"], "result": {}}, session=session)
        await asking
        await send(facade, call("ask", ident=2, first=True, of="nobody"), session=session)
        await stream.until(lambda answer: b"sampling" in answer.body)

        assert [event["params"]["of"] for event in stream.events] == ["nobody"]
        await send(facade, method="DELETE", session=session)
        await listening


async def test_a_question_of_the_server_waits_a_little_for_a_stream_to_its_client(tmp_path: Path) -> None:
    clock = HandClock()
    async with running(tmp_path, "legacy", clock=clock) as facade:
        session, stream = await open_session(facade), Answer()
        await send(facade, call("ask", first=True, of="early"), session=session)

        listening = listen(facade, session, stream)
        await stream.until(lambda answer: b"early" in answer.body)
        await send(facade, method="DELETE", session=session)
        await listening


async def test_a_question_of_a_process_that_died_is_forgotten(tmp_path: Path) -> None:
    async with running(tmp_path, "legacy") as facade:
        session, stream = await open_session(facade), Answer()
        pid = await pid_of(facade, session)
        await send(facade, call("ask", first=True), session=session)
        os.kill(pid, signal.SIGKILL)
        await until(lambda: facade.state()["processes"] == 0)

        listening = listen(facade, session, stream)
        await stream.until(lambda answer: bool(answer.body))
        await send(facade, method="DELETE", session=session)
        assert (await listening).events == []


async def test_a_question_that_no_client_hears_is_answered_so_that_the_server_does_not_hang(tmp_path: Path) -> None:
    clock = HandClock()
    async with running(tmp_path, "legacy", clock=clock) as facade:
        session = await open_session(facade)
        await send(facade, call("ask", first=True), session=session)

        await clock.turn(5)
        await pid_of(facade, session)

    refused = [message["error"]["code"] for message in heard(tmp_path) if "error" in message]
    assert refused == [-32601]


async def test_news_of_the_server_goes_to_the_get_stream_and_logs_to_the_call(tmp_path: Path) -> None:
    async with running(tmp_path, "legacy") as facade:
        session, stream = await open_session(facade), Answer()
        listening = listen(facade, session, stream)
        await stream.until(lambda answer: bool(answer.body))

        news = await send(facade, call("tell", method="notifications/tools/list_changed"), session=session)
        log = await send(facade, call("tell", method="notifications/message", params={"data": 1}), session=session)

        assert "json" in news.headers["content-type"]
        assert [event.get("method") for event in log.events] == ["notifications/message", None]
        await send(facade, method="DELETE", session=session)
        assert [event["method"] for event in (await listening).events] == ["notifications/tools/list_changed"]


async def test_a_session_has_one_get_stream_at_a_time(tmp_path: Path) -> None:
    async with running(tmp_path, "legacy") as facade:
        session, stream = await open_session(facade), Answer()
        first = listen(facade, session, stream)
        await stream.until(lambda answer: bool(answer.body))
        assert (await send(facade, method="GET", session=session)).status == 409

        first.cancel()
        await asyncio.wait([first])
        again = listen(facade, session, second := Answer())
        await second.until(lambda answer: answer.status == 200)
        again.cancel()


async def test_an_id_that_is_in_flight_cannot_be_used_again(tmp_path: Path) -> None:
    async with running(tmp_path, "legacy") as facade:
        session, reply = await open_session(facade), Answer()
        first = asyncio.create_task(send(facade, call("hold", of=2, canary="a"), session=session, reply=reply))
        await reply.until(lambda answer: answer.was_dispatched)

        same = await send(facade, call("hold", of=2, canary="b"), session=session)
        other = await send(facade, call("hold", ident="1", of=2, canary="c"), session=session)

        assert (same.status, same.json["error"]["code"], same.was_dispatched) == (400, -32600, False)
        assert (await first).result == {"canary": "a"}
        assert other.result == {"canary": "c"}


@pytest.mark.promise("P4")
async def test_a_process_that_died_between_calls_is_replaced_unseen(tmp_path: Path) -> None:
    async with running(tmp_path, "legacy") as facade:
        session = await open_session(facade)
        died = await kill(facade, session)

        answer = await send(facade, call("pid", ident=1), session=session)

        assert answer.result["pid"] != died
        assert (answer.result["handshakes"], "json" in answer.headers["content-type"]) == (1, True)
        assert facade.state()["restarts"] == 1
    methods = [message["method"] for message in heard(tmp_path)]
    handshake = ["initialize", "notifications/initialized"]
    assert methods == ["server/discover", *handshake, "tools/call", *handshake, "tools/call"]
    assert heard(tmp_path)[-3]["params"] == INITIALIZE["params"]


async def test_calls_after_a_death_share_one_new_process_also_if_the_first_of_them_is_given_up(tmp_path: Path) -> None:
    async with running(tmp_path, "legacy") as facade:
        session = await open_session(facade)
        await kill(facade, session)

        first = asyncio.create_task(send(facade, call("pid"), session=session, reply=(reply := Answer())))
        rest = [asyncio.create_task(send(facade, call("pid", ident=n), session=session)) for n in range(2, 20)]
        await asyncio.sleep(0)
        first.cancel()

        assert len({answer.result["pid"] for answer in await asyncio.gather(*rest)}) == 1
        assert (first.cancelled(), reply.was_dispatched) == (True, False)


async def test_sessions_survive_a_restart_of_the_connector(tmp_path: Path) -> None:
    async with running(tmp_path, "legacy") as facade:
        session = await open_session(facade)
        kept = tmp_path / "sessions" / f"{session}.json"
        assert (kept.stat().st_mode & 0o777, kept.parent.stat().st_mode & 0o777) == (0o600, 0o700)

    async with running(tmp_path, "legacy") as facade:
        assert facade.state()["sessions"] == 1
        assert (await send(facade, call("pid"), session=session)).result["handshakes"] == 1


@pytest.mark.promise("P3")
async def test_a_session_that_cannot_be_taken_up_again_starts_nothing(tmp_path: Path) -> None:
    async with running(tmp_path, "legacy") as facade:
        session, reply = await open_session(facade), Answer()
        await kill(facade, session)
        (tmp_path / "refuse").touch()

        with pytest.raises(NotStarted, match="refused its parameters"):
            await send(facade, call("echo"), session=session, reply=reply)

        assert not reply.was_dispatched
    assert calls(tmp_path) == ["pid"]


@pytest.mark.promise("P3")
@pytest.mark.promise("P4")
async def test_a_process_that_dies_inside_a_call_loses_it_and_no_other(tmp_path: Path) -> None:
    async with running(tmp_path, "legacy") as facade:
        dying, living = await open_session(facade), await open_session(facade)
        kept = asyncio.create_task(send(facade, call("hold", of=2, canary=1), session=living))

        with pytest.raises(Lost, match="exited with status 7"):
            await send(facade, call("die"), session=dying)

        await send(facade, call("hold", ident=2, of=2, canary=2), session=living)
        assert (await kept).result == {"canary": 1}
        assert (await send(facade, call("echo"), session=dying)).status == 200
    assert calls(tmp_path).count("die") == 1


async def test_an_answer_that_was_written_before_the_end_counts(tmp_path: Path) -> None:
    async with running(tmp_path, "legacy") as facade:
        session = await open_session(facade)
        assert (await send(facade, call("last"), session=session)).result == {"last": True}


async def test_a_process_that_closes_its_output_loses_its_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end_quickly(monkeypatch)
    async with running(tmp_path, "legacy") as facade:
        session = await open_session(facade)
        with pytest.raises(Lost):
            await send(facade, call("close_output"), session=session)
        assert (await send(facade, call("echo"), session=session)).status == 200


async def test_a_process_that_closes_its_input_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    end_quickly(monkeypatch)
    async with running(tmp_path, "legacy") as facade:
        session = await open_session(facade)
        closed = (await send(facade, call("close_input"), session=session)).result["pid"]
        assert await pid_of(facade, session) != closed
        await until(lambda: facade.state()["processes"] == 1)


@pytest.mark.promise("P3")
async def test_a_server_that_keeps_dying_is_started_ever_more_slowly(tmp_path: Path) -> None:
    clock = HandClock()
    async with running(tmp_path, "legacy", clock=clock) as facade:
        session = await open_session(facade)
        for wait in (0, 0, 1, 2, 4):
            if wait:
                with pytest.raises(NotStarted, match=f"status 7; it is started again in {wait} s"):
                    await send(facade, call("echo"), session=session)
            await clock.turn(wait)
            with pytest.raises(Lost):
                await send(facade, call("die"), session=session)

        assert (await open_session(facade)) != session
        await clock.turn(8)
        assert (await send(facade, call("echo"), session=session)).status == 200
        await clock.turn(10)
        await kill(facade, session)
        assert (await send(facade, call("echo"), session=session)).status == 200


@pytest.mark.promise("P3")
async def test_there_is_a_limit_to_processes(tmp_path: Path) -> None:
    async with running(tmp_path, "legacy", most=2) as facade:
        await until(lambda: facade.state()["processes"] == 0)
        first, _ = await open_session(facade), await open_session(facade)

        with pytest.raises(NotStarted, match="2 times"):
            await send(facade, INITIALIZE, reply=(reply := Answer()))
        assert not reply.was_dispatched

        await kill(facade, first)
        third = await open_session(facade)
        for _ in range(3):
            with pytest.raises(NotStarted, match="2 times"):
                await send(facade, call("echo"), session=first)
        await send(facade, method="DELETE", session=third)
        await until(lambda: facade.state()["processes"] == 1)
        assert (await send(facade, call("echo"), session=first)).status == 200


async def test_an_idle_process_is_stopped_and_its_session_stays(tmp_path: Path) -> None:
    clock = HandClock()
    async with running(tmp_path, "legacy", clock=clock) as facade:
        session, watched, stream = await open_session(facade), await open_session(facade), Answer()
        listening = listen(facade, watched, stream)
        await clock.turn(29 * 60)
        assert facade.state()["processes"] == 2

        await clock.turn(2 * 60)
        await until(lambda: facade.state()["processes"] == 1)
        assert (await send(facade, call("pid"), session=session)).result["handshakes"] == 1
        assert facade.state()["restarts"] == 0
        await kill(facade, session)
        await pid_of(facade, session)
        await clock.turn(31 * 60)
        await until(lambda: facade.state()["processes"] == 1)
        await pid_of(facade, session)
        assert facade.state()["restarts"] == 1

        await clock.turn(25 * 3600)
        (kept,) = (tmp_path / "sessions").iterdir()
        assert kept.stem == watched
        assert clock.now() - kept.stat().st_mtime <= 60
        assert (await send(facade, call("pid"), session=session)).status == 404
        assert (await send(facade, call("pid"), session=watched)).status == 200
        listening.cancel()


@pytest.mark.parametrize(
    ("reason", "told"), [(Cancel.DEADLINE, True), (Cancel.CALLER_LEFT, False), (Cancel.LINK_LOST, False)]
)
@pytest.mark.promise("P5")
async def test_only_a_deadline_cancels_and_a_late_answer_reaches_nobody(
    tmp_path: Path, reason: Cancel, told: bool
) -> None:
    async with running(tmp_path, "legacy") as facade:
        session, reply = await open_session(facade), Answer()
        late = asyncio.create_task(send(facade, call("hold", of=2, canary="late"), session=session, reply=reply))
        await reply.until(lambda answer: answer.was_dispatched)
        reply.cancel = reason
        late.cancel()
        await asyncio.wait([late])

        second = await send(facade, call("hold", of=2, canary="second"), session=session)

        assert (late.cancelled(), reply.status, second.result) == (True, None, {"canary": "second"})
    cancelled = [message["params"]["requestId"] for message in heard(tmp_path) if "cancelled" in message["method"]]
    held = [message["id"] for message in heard(tmp_path) if message["method"] == "tools/call"]
    assert cancelled == (held[:1] if told else [])


async def test_a_cancel_of_the_client_names_the_request_as_the_server_knows_it(tmp_path: Path) -> None:
    clock = HandClock()
    cancel = request("notifications/cancelled", {"requestId": "mine", "reason": "why not"}, ident=None)
    unknown = request("notifications/cancelled", {"requestId": 2}, ident=None)
    async with running(tmp_path, "legacy", clock=clock) as facade:
        session, reply = await open_session(facade), Answer()
        hanging = asyncio.create_task(send(facade, call("never", ident="mine"), session=session, reply=reply))
        await reply.until(lambda answer: answer.was_dispatched)

        accepted = [(await send(facade, body, session=session)).status for body in (unknown, cancel)]
        await pid_of(facade, session)
        await clock.turn(5)

        assert accepted == [202, 202]
        with pytest.raises(Lost, match="client cancelled"):
            await hanging
    told: list[dict[str, Any]] = [m["params"] for m in heard(tmp_path) if m["method"] == "notifications/cancelled"]
    own = next(m["id"] for m in heard(tmp_path) if m["method"] == "tools/call")
    assert told == [{"requestId": own, "reason": "why not"}]


async def test_a_client_that_leaves_before_the_session_begins_leaves_no_process(tmp_path: Path) -> None:
    async with running(tmp_path, "legacy") as facade:
        await until(lambda: facade.state()["processes"] == 0)
        starting = asyncio.create_task(send(facade, INITIALIZE))
        await until(lambda: facade.state()["processes"] == 1)
        starting.cancel()
        await asyncio.wait([starting])
        await until(lambda: facade.state()["processes"] == 0)
        assert facade.state()["sessions"] == 0
