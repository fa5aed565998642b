"""Clients of the legacy era whose connection breaks, and who come back."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from arrowslit.connector.targets.conversations import session as module
from arrowslit.connector.targets.facade import Facade
from arrowslit.connector.targets.target import Cancel, Lost
from tests.connector.targets.facade_kit import (
    Answer,
    HandClock,
    call,
    heard,
    open_session,
    running,
    send,
    until,
)

VERSION = "2025-11-25"
Running = tuple[asyncio.Task[Answer], Answer]


def ask(facade: Facade, session: str, body: dict[str, Any]) -> Running:
    """Post a request of a client that can resume."""
    reply = Answer()
    return asyncio.create_task(send(facade, body, session=session, version=VERSION, reply=reply)), reply


def begin(facade: Facade, session: str, *, ident: int | str = 1) -> Running:
    """A call that reports progress, and is answered together with the next one that is held."""
    return ask(facade, session, call("begin", ident=ident, token=ident, of=2, canary=ident))


def listen(facade: Facade, session: str, after: str | None = None, reply: Answer | None = None) -> Running:
    reply = reply or Answer()
    getting = send(facade, method="GET", session=session, version=VERSION, reply=reply, after=after)
    return asyncio.create_task(getting), reply


async def progressed(reply: Answer) -> list[str]:
    """The ids of the events so far, once there is progress."""
    await reply.until(lambda answer: b"progress" in answer.body)
    return ids(reply)


def ids(reply: Answer) -> list[str]:
    return [event.id for event in reply.raw_events if event.id is not None]


async def hang_up(running: Running, reason: Cancel = Cancel.CALLER_LEFT) -> None:
    task, reply = running
    reply.cancel = reason
    task.cancel()
    await asyncio.wait([task])


async def release(facade: Facade, session: str) -> None:
    """Let the server answer what it holds."""
    await send(facade, call("hold", ident="release", of=2, canary="release"), session=session)


@pytest.mark.parametrize("reason", [Cancel.CALLER_LEFT, Cancel.LINK_LOST])
async def test_a_call_goes_on_without_its_client_who_comes_back_for_the_answer(tmp_path: Path, reason: Cancel) -> None:
    async with running(tmp_path, "legacy") as facade:
        session = await open_session(facade)
        broken = begin(facade, session)
        primed, progress = await progressed(broken[1])
        await hang_up(broken, reason)
        await release(facade, session)

        all_again = await send(facade, method="GET", session=session, version=VERSION, after=primed)
        rest_again = await send(facade, method="GET", session=session, version=VERSION, after=progress)
        nothing_left = await send(facade, method="GET", session=session, version=VERSION, after=ids(all_again)[-1])

    assert ids(all_again)[0] == progress
    assert [event.get("method") for event in all_again.events] == ["notifications/progress", None]
    assert (all_again.result, rest_again.result, len(rest_again.events)) == ({"canary": 1}, {"canary": 1}, 1)
    assert nothing_left.status == 400
    assert [message["method"] for message in heard(tmp_path)].count("notifications/cancelled") == 0


async def test_a_client_that_comes_back_early_waits_for_the_rest(tmp_path: Path) -> None:
    async with running(tmp_path, "legacy") as facade:
        session = await open_session(facade)
        broken = begin(facade, session)
        primed, _ = await progressed(broken[1])
        await hang_up(broken)

        again = listen(facade, session, primed)
        await progressed(again[1])
        await hang_up(again)
        once_more = listen(facade, session, primed)
        await progressed(once_more[1])
        await release(facade, session)

        assert (await once_more[0]).result == {"canary": 1}


async def test_a_stream_that_is_taken_up_elsewhere_ends_where_it_was(tmp_path: Path) -> None:
    """The relay may not have noticed yet that the first connection of the client broke."""
    async with running(tmp_path, "legacy") as facade:
        session = await open_session(facade)
        first = begin(facade, session)
        _, progress = await progressed(first[1])

        second = listen(facade, session, progress)
        assert len((await first[0]).events) == 1
        await release(facade, session)

        assert [event["result"] for event in (await second[0]).events] == [{"canary": 1}]


@pytest.mark.parametrize("stalled", [False, True])
async def test_a_client_that_is_back_before_its_old_connection_is_known_to_be_broken_stays(
    tmp_path: Path, stalled: bool
) -> None:
    """The old reader is ended while it waits for a message, or for room in what its client has not read."""
    clock = HandClock()
    async with running(tmp_path, "legacy", clock=clock) as facade:
        session = await open_session(facade)
        old = begin(facade, session)
        if stalled:
            old[1].flowing.clear()
        _, progress = await progressed(old[1])

        again = listen(facade, session, progress, Answer(on_head=old[0].cancel))
        await again[1].until(lambda answer: answer.status == 200)
        await asyncio.wait([old[0]])
        before = len(again[1].body)
        await clock.turn(15)
        await again[1].until(lambda answer: len(answer.body) > before)  # it is still shown that the stream lives
        await release(facade, session)

        assert [event.get("result") for event in (await again[0]).events] == [{"canary": 1}]


async def test_the_sessions_own_stream_stays_with_who_came_last(tmp_path: Path) -> None:
    async with running(tmp_path, "legacy") as facade:
        session = await open_session(facade)
        first = listen(facade, session)
        first[1].flowing.clear()
        await first[1].until(lambda answer: bool(answer.body))
        news = call("tell", method="notifications/tools/list_changed")
        await send(facade, news, session=session)
        await first[1].until(lambda answer: b"list_changed" in answer.body)

        second = listen(facade, session, ids(first[1])[-1])
        await second[1].until(lambda answer: answer.status == 200)
        await hang_up(first)
        assert (await send(facade, method="GET", session=session, version=VERSION)).status == 409, "it is read"
        await send(facade, news, session=session)
        await second[1].until(lambda answer: b"list_changed" in answer.body)
        await send(facade, method="DELETE", session=session)

        assert len((await second[0]).events) == 1, "nothing twice"


async def test_a_deadline_that_passes_while_a_client_is_back_ends_its_stream(tmp_path: Path) -> None:
    async with running(tmp_path, "legacy") as facade:
        session = await open_session(facade)
        late = begin(facade, session)
        late[1].flowing.clear()
        _, progress = await progressed(late[1])
        again = listen(facade, session, progress)
        await again[1].until(lambda answer: answer.status == 200)

        await hang_up(late, Cancel.DEADLINE)

        with pytest.raises(Lost, match="nobody waits"):
            await again[0]


async def test_nobody_gets_the_events_of_another_stream(tmp_path: Path) -> None:
    async with running(tmp_path, "legacy") as facade:
        session = await open_session(facade)
        one, two = begin(facade, session, ident="one"), begin(facade, session, ident="two")
        first, second = await asyncio.gather(one[0], two[0])

        again = await send(facade, method="GET", session=session, version=VERSION, after=ids(first)[0])

        assert [event["id"] for event in again.events if "id" in event] == ["one"]
        assert not set(ids(first)) & set(ids(second))


async def test_after_a_deadline_there_is_nothing_to_come_back_for(tmp_path: Path) -> None:
    async with running(tmp_path, "legacy") as facade:
        session = await open_session(facade)
        late = begin(facade, session)
        _, progress = await progressed(late[1])
        await hang_up(late, Cancel.DEADLINE)

        assert (await send(facade, method="GET", session=session, after=progress)).status == 400
    assert [message["method"] for message in heard(tmp_path)].count("notifications/cancelled") == 1


async def test_news_that_came_while_the_client_was_away_wait_for_it(tmp_path: Path) -> None:
    news = call("tell", method="notifications/tools/list_changed")
    async with running(tmp_path, "legacy") as facade:
        session = await open_session(facade)
        first = listen(facade, session)
        await first[1].until(lambda answer: bool(answer.body))
        (primed,) = ids(first[1])
        await hang_up(first)
        await send(facade, news, session=session)

        second = listen(facade, session, primed)
        await second[1].until(lambda answer: b"list_changed" in answer.body)
        third = listen(facade, session, primed)
        await third[1].until(lambda answer: b"list_changed" in answer.body)
        assert len((await second[0]).events) == 1, "the newer connection has taken its place"
        await hang_up(third)

        fresh = listen(facade, session)
        await fresh[1].until(lambda answer: bool(answer.body))
        await send(facade, news, session=session)
        await fresh[1].until(lambda answer: b"list_changed" in answer.body)
        await send(facade, method="DELETE", session=session)
        assert len((await fresh[0]).events) == 1, "only what is new"


async def test_the_sessions_own_stream_goes_on_after_a_restart_of_the_connector(tmp_path: Path) -> None:
    async with running(tmp_path, "legacy") as facade:
        session = await open_session(facade)
        first = listen(facade, session)
        await first[1].until(lambda answer: bool(answer.body))
        (primed,) = ids(first[1])
        call_of_then = begin(facade, session)
        _, progress = await progressed(call_of_then[1])
    await asyncio.gather(call_of_then[0], first[0], return_exceptions=True)

    async with running(tmp_path, "legacy") as facade:
        again = listen(facade, session, primed)
        await again[1].until(lambda answer: answer.status == 200)
        assert (await send(facade, method="GET", session=session, after=progress)).status == 400
        await hang_up(again)


async def test_a_question_asked_while_the_client_is_away_waits_for_it(tmp_path: Path) -> None:
    clock = HandClock()
    async with running(tmp_path, "legacy", clock=clock) as facade:
        session = await open_session(facade)
        broken = begin(facade, session)
        _, progress = await progressed(broken[1])
        await hang_up(broken)
        await send(facade, call("ask", ident=2, first=True), session=session)

        again = listen(facade, session, progress)
        await again[1].until(lambda answer: b"sampling/createMessage" in answer.body)
        await release(facade, session)
        assert (await again[0]).result == {"canary": 1}


async def test_a_client_that_comes_back_to_a_dead_server_hears_that_its_call_is_lost(tmp_path: Path) -> None:
    async with running(tmp_path, "legacy") as facade:
        session = await open_session(facade)
        pid = (await send(facade, call("pid", ident="pid"), session=session)).result["pid"]
        broken = begin(facade, session)
        _, progress = await progressed(broken[1])
        await hang_up(broken)
        os.kill(pid, signal.SIGKILL)
        await until(lambda: facade.state()["processes"] == 0)

        with pytest.raises(Lost, match="SIGKILL"):
            await send(facade, method="GET", session=session, after=progress)
        assert (await send(facade, method="GET", session=session, after=progress)).status == 400


async def test_an_id_may_be_used_again_once_its_client_has_left(tmp_path: Path) -> None:
    async with running(tmp_path, "legacy") as facade:
        session = await open_session(facade)
        broken = begin(facade, session)
        await progressed(broken[1])
        await hang_up(broken)

        assert (await send(facade, call("echo"), session=session)).status == 200


async def test_only_so_many_who_left_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_LEFT", 1)
    async with running(tmp_path, "legacy") as facade:
        session = await open_session(facade)
        last = []
        for ident in ("one", "two"):
            broken = ask(facade, session, call("progress", ident=ident, token=ident, steps=1, hang=True))
            last.append((await progressed(broken[1]))[-1])
            await hang_up(broken)

        assert (await send(facade, method="GET", session=session, after=last[0])).status == 400
        again = listen(facade, session, last[1])
        await again[1].until(lambda answer: answer.status == 200)
        await hang_up(again)


async def test_a_process_stays_for_those_who_wait_and_not_for_those_who_left(tmp_path: Path) -> None:
    clock = HandClock()
    async with running(tmp_path, "legacy", clock=clock) as facade:
        session = await open_session(facade)
        broken = begin(facade, session)
        _, progress = await progressed(broken[1])
        await clock.turn(45 * 60)
        await hang_up(broken)
        again = listen(facade, session, progress)
        await again[1].until(lambda answer: answer.status == 200)
        await clock.turn(45 * 60)
        assert facade.state()["processes"] == 1

        await hang_up(again)
        await clock.turn(45 * 60)
        await until(lambda: facade.state()["processes"] == 0)
        assert (await send(facade, method="GET", session=session, after=progress)).status == 400


async def test_a_silent_call_becomes_a_stream_that_shows_that_it_lives_and_can_be_resumed(tmp_path: Path) -> None:
    clock = HandClock()
    async with running(tmp_path, "legacy", clock=clock) as facade:
        session = await open_session(facade)
        silent = ask(facade, session, call("hold", of=2, canary="silent"))
        await silent[1].until(lambda answer: answer.was_dispatched)
        assert silent[1].status is None

        await clock.turn(15)
        await silent[1].until(lambda answer: answer.status == 200)
        (primed,) = ids(silent[1])
        before = len(silent[1].body)
        await clock.turn(15)
        await silent[1].until(lambda answer: len(answer.body) > before)
        await hang_up(silent)
        again = listen(facade, session, primed)
        await release(facade, session)

        assert (await again[0]).result == {"canary": "silent"}


async def test_clients_before_2025_11_25_get_no_empty_event(tmp_path: Path) -> None:
    async with running(tmp_path, "legacy") as facade:
        session = await open_session(facade)
        for version in (None, "2025-06-18"):
            body = call("progress", token="t", steps=1)
            answer = await send(facade, body, session=session, version=version)
            assert all(event.data for event in answer.raw_events if event.id is not None)


async def test_a_client_that_names_events_first_gets_them(tmp_path: Path) -> None:
    async with running(tmp_path, "legacy") as facade:
        session = await open_session(facade)
        accept = "text/event-stream, application/json"
        answer = await send(facade, call("echo"), session=session, version=VERSION, accept=accept)
        assert [bool(event.data) for event in answer.raw_events] == [False, True]
