from __future__ import annotations

import asyncio
import os
from dataclasses import replace

import pytest

from arrowslit.agent import Builtin
from arrowslit.agents.sessions import inbox
from arrowslit.agents.sessions.change import Change, Draft, idle
from arrowslit.agents.sessions.follow import MAX_ITEMS, PAGE
from arrowslit.agents.sessions.frames import Preview
from arrowslit.agents.sessions.log import Log
from arrowslit.agents.sessions.state import DELETED, TERMINATED, State
from arrowslit.errors import Error
from arrowslit.session import Batch, Event, EventFilter, LeaseLost, Session, SessionStatus
from arrowslit.testing.sessions import MemorySessions
from arrowslit.work import WorkKind
from tests.agents.story import PERSON, answered, bash, mcp, message, model, sent
from tests.store.kit import ManualClock, session


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def sessions(clock: ManualClock) -> MemorySessions:
    return MemorySessions(clock)


class Logs:
    """A log, one session in it, and who was woken."""

    def __init__(self, sessions: MemorySessions, clock: ManualClock) -> None:
        self.woken: list[str] = []
        self.log = Log(sessions, clock, os.urandom, self.woken.append)

    async def create(self, **fields: object) -> Session:
        changed = await self.log.create(replace(session(), **fields), Change())  # type: ignore[arg-type]
        return changed.session

    async def do(self, *drafts: Draft) -> tuple[Event, ...]:
        return (await self.log.change("sesn_1", lambda *_: Change(drafts))).events

    async def send(self, *events: inbox.SentEvent) -> tuple[Event, ...]:
        def decide(_: Session, state: State) -> Change | None:
            return inbox.send(state, events, PERSON, 0.0)

        return (await self.log.change("sesn_1", decide)).events


@pytest.fixture
def logs(sessions: MemorySessions, clock: ManualClock) -> Logs:
    return Logs(sessions, clock)


def note(number: int = 0) -> Draft:
    return Draft("session.updated", {"title": str(number)})


# ------------------------------------------------------------ changing


async def test_a_change_shows_in_the_session(logs: Logs, clock: ManualClock) -> None:
    await logs.create()
    await logs.send(message())
    clock.turn(3)
    await logs.do(bash("b1"), model())

    session, state = await logs.log.read("sesn_1")
    assert (session.status, session.runnable, session.last_seq) == (SessionStatus.IDLE, False, 5)
    assert (session.usage.output_tokens, session.usage.active_seconds) == (5, 3.0)
    assert session.updated_at == clock.now()
    assert state.required == ("b1",)
    assert logs.woken == ["sesn_1"]


async def test_another_process_finds_the_same_state(logs: Logs, sessions: MemorySessions, clock: ManualClock) -> None:
    await logs.create()
    await logs.send(message())
    await logs.do(bash("b1"), model())
    await logs.send(message("queued"))

    assert await Logs(sessions, clock).log.read("sesn_1") == await logs.log.read("sesn_1")


async def test_twenty_writers_in_two_processes_leave_no_gap(
    logs: Logs, sessions: MemorySessions, clock: ManualClock
) -> None:
    await logs.create()
    other = Logs(sessions, clock)

    await asyncio.gather(*((logs if number % 2 else other).do(note(number)) for number in range(20)))

    events = await sessions.events("sesn_1", EventFilter())
    assert [event.seq for event in events] == list(range(1, 21))
    assert {event.body["title"] for event in events} == {str(number) for number in range(20)}


async def test_a_decision_is_made_again_when_somebody_was_faster(
    logs: Logs, sessions: MemorySessions, clock: ManualClock
) -> None:
    await logs.create()
    other, seen = Logs(sessions, clock), list[int]()
    append = sessions.append

    async def late(batch: Batch) -> None:
        sessions.append = append  # type: ignore[method-assign]
        await other.do(note())
        await append(batch)

    sessions.append = late  # type: ignore[method-assign]

    def decide(_: Session, state: State) -> Change:
        seen.append(state.seq)
        return Change((note(),))

    await logs.log.change("sesn_1", decide)
    assert seen == [0, 1]


async def test_a_refused_or_empty_decision_changes_nothing(logs: Logs) -> None:
    made = await logs.create()
    with pytest.raises(Error):
        await logs.send(sent("user.tool_result", tool_use_id="nobody"))
    changed = await logs.log.change("sesn_1", lambda *_: None)

    assert changed.events == ()
    assert changed.session == made


async def test_who_lost_the_lease_appends_nothing(logs: Logs, sessions: MemorySessions, clock: ManualClock) -> None:
    await logs.create()
    await logs.send(message())
    lease = await sessions.claim("sesn_1", clock.now() + 60)
    await logs.send(sent("user.interrupt"))

    with pytest.raises(LeaseLost):
        await logs.log.change("sesn_1", lambda *_: Change((model(),)), lease=lease)


async def test_a_held_session_lets_no_call_leave(logs: Logs, sessions: MemorySessions, clock: ManualClock) -> None:
    await logs.create()
    await logs.send(message())
    await logs.do(mcp("m1"), model())
    lease = await sessions.claim("sesn_1", clock.now() + 60)
    assert lease is not None

    held = await logs.log.hold("sesn_1")

    with pytest.raises(LeaseLost):
        await sessions.mark_dispatched(lease, {"m1": "call_1"})
    assert await sessions.claim("sesn_1", clock.now() + 60) is None
    clock.turn(6)
    assert held is not None
    assert await sessions.claim("sesn_1", clock.now() + 60) is not None


async def test_nobody_holds_what_does_not_run(logs: Logs) -> None:
    await logs.create()

    assert await logs.log.hold("sesn_1") is None


async def test_a_worker_is_called_for_an_agent_with_a_sandbox(logs: Logs, sessions: MemorySessions) -> None:
    coder = replace(session().definition, builtin=Builtin())
    await logs.create(environment_id="env_1", definition=coder)
    assert sessions.work == {}

    await logs.send(message())

    work = sessions.work["sesn_1"]
    assert (work.environment_id, work.kind, work.subject) == ("env_1", WorkKind.SESSION, "sesn_1")


async def test_rescheduling_keeps_its_time_until_it_is_over(logs: Logs, clock: ManualClock) -> None:
    await logs.create()
    await logs.send(message())
    later = Change(
        (model(failed=True), Draft("session.status_rescheduled")), revise=lambda each: replace(each, due=77.0)
    )
    changed = await logs.log.change("sesn_1", lambda *_: later)
    assert (changed.session.status, changed.session.due) == (SessionStatus.RESCHEDULING, 77.0)
    assert changed.session.runnable

    await logs.do(Draft("session.status_running"))
    assert (await logs.log.read("sesn_1"))[0].due == 0.0


# ------------------------------------------------------------ following


async def test_every_reader_gets_every_event_in_order(logs: Logs) -> None:
    await logs.create()
    with logs.log.follow("sesn_1") as first, logs.log.follow("sesn_1") as second:
        await logs.send(message())
        await logs.do(mcp("m1"), model())
        await logs.do(answered("m1"))

        seqs = [
            [item.content.seq for item in await each.take() if isinstance(item.content, Event)]
            for each in (first, second)
        ]

    assert seqs == [[1, 2, 3, 4, 5]] * 2


async def test_a_frame_is_made_once_for_all(logs: Logs) -> None:
    await logs.create()
    with logs.log.follow("sesn_1") as first, logs.log.follow("sesn_1") as second:
        await logs.do(note())

        assert (await first.take())[0].frame is (await second.take())[0].frame


async def test_a_reader_that_does_not_read_keeps_nothing_and_misses_nothing(logs: Logs) -> None:
    await logs.create()
    count = MAX_ITEMS + 3 * PAGE
    with logs.log.follow("sesn_1") as slow:
        for number in range(count):
            await logs.do(note(number))
        assert len(list(logs.log._tails["sesn_1"].since(count - MAX_ITEMS))) == MAX_ITEMS

        seen: list[int] = []
        while len(seen) < count:
            seen += [item.content.seq for item in await slow.take() if isinstance(item.content, Event)]

    assert seen == list(range(1, count + 1))
    assert logs.log._tails == {}


async def test_what_was_stored_but_never_told_is_made_up_for(logs: Logs, sessions: MemorySessions) -> None:
    """Its writer was cancelled between the two."""
    await logs.create()
    with logs.log.follow("sesn_1") as reader:
        await logs.do(note(1))
        before = await sessions.read("sesn_1")
        untold = Event(2, "sevt_2", "session.updated", 1.0, 1.0, {})
        await sessions.append(Batch(after=1, session=replace(before, last_seq=2), events=(untold,)))
        await logs.do(note(3))

        seen: list[int] = []
        while len(seen) < 3:
            seen += [item.content.seq for item in await reader.take() if isinstance(item.content, Event)]

    assert seen == [1, 2, 3]


async def test_previews_go_to_those_who_asked_and_are_never_stored(logs: Logs, sessions: MemorySessions) -> None:
    await logs.create()
    deltas = frozenset({"agent.message"})
    with logs.log.follow("sesn_1") as plain, logs.log.follow("sesn_1", deltas=deltas) as asking:
        logs.log.preview("sesn_1", Preview("sevt_t", "agent.thinking"))
        logs.log.preview("sesn_1", Preview("sevt_m"))
        logs.log.preview("sesn_1", Preview("sevt_m", text="Hel"))
        logs.log.preview("sesn_1", Preview("sevt_m", text="lo"))
        await logs.do(Draft("agent.message", {"content": []}, "sevt_m"))

        assert [item.content.type for item in await plain.take()] == ["agent.message"]
        types = [item.content.type for item in await asking.take()]
        assert types == ["event_start", "event_delta", "event_delta", "agent.message"]
    assert len(await sessions.events("sesn_1", EventFilter())) == 1


async def test_who_missed_the_beginning_of_a_preview_gets_none_of_it(logs: Logs) -> None:
    await logs.create()
    deltas = frozenset({"agent.message"})
    with logs.log.follow("sesn_1", deltas=deltas) as early:
        logs.log.preview("sesn_1", Preview("sevt_m"))
        with logs.log.follow("sesn_1", deltas=deltas) as late:
            logs.log.preview("sesn_1", Preview("sevt_m", text="Hel"))
            await logs.do(note(), Draft("agent.message", {"content": []}, "sevt_m"))

            assert [item.content.type for item in await late.take()] == ["session.updated", "agent.message"]
            assert len(await early.take()) == 4


async def test_a_flood_of_previews_is_dropped_and_the_event_comes(logs: Logs) -> None:
    await logs.create()
    with logs.log.follow("sesn_1", deltas=frozenset({"agent.message"})) as slow:
        await logs.do(note())
        logs.log.preview("sesn_1", Preview("sevt_m"))
        for _ in range(2 * MAX_ITEMS):
            logs.log.preview("sesn_1", Preview("sevt_m", text="x"))
        await logs.do(Draft("agent.message", {"content": []}, "sevt_m"))

        types: list[str] = []
        while "agent.message" not in types:
            types += [item.content.type for item in await slow.take()]

    assert types == ["session.updated", "agent.message"]


async def test_a_preview_with_a_piece_missing_is_given_up(logs: Logs) -> None:
    await logs.create()
    with logs.log.follow("sesn_1", deltas=frozenset({"agent.message"})) as slow:
        await logs.do(note())
        logs.log.preview("sesn_1", Preview("sevt_m"))
        assert [item.content.type for item in await slow.take()] == ["session.updated", "event_start"]
        for _ in range(2 * MAX_ITEMS):
            logs.log.preview("sesn_1", Preview("sevt_m", text="x"))
        await logs.do(note())
        logs.log.preview("sesn_1", Preview("sevt_m", text="y"))
        assert [item.content.type for item in await slow.take()] == ["session.updated"]
        assert await slow.take() == []
        await logs.do(Draft("agent.message", {"content": []}, "sevt_m"))

        types: list[str] = []
        while "agent.message" not in types:
            types += [item.content.type for item in await slow.take()]

    assert types == ["agent.message"]


async def test_a_flood_of_previews_before_any_event_loses_nothing_that_is_stored(logs: Logs) -> None:
    await logs.create()
    with logs.log.follow("sesn_1", deltas=frozenset({"agent.message"})) as slow:
        for _ in range(2 * MAX_ITEMS):
            logs.log.preview("sesn_1", Preview("sevt_m", text="x"))
        assert await slow.take() == []
        await logs.do(note())

        assert [item.content.type for item in await slow.take()] == ["session.updated"]


@pytest.mark.parametrize("how", ["deleted", "terminated", "closed"])
async def test_a_stream_ends_with_its_session_or_with_the_process(logs: Logs, how: str) -> None:
    await logs.create()
    with logs.log.follow("sesn_1") as reader:
        if how == "deleted":
            await logs.log.delete("sesn_1")
        elif how == "terminated":
            await logs.do(Draft(TERMINATED))
        else:
            logs.log.close()

        types = [content.type async for content in reader]

    assert types == {"deleted": [DELETED], "terminated": [TERMINATED], "closed": []}[how]


@pytest.mark.promise("P11")
async def test_whose_right_ended_is_shown_nothing_more_not_even_what_was_on_its_way(logs: Logs) -> None:
    await logs.create()
    with (
        logs.log.follow("sesn_1", reader="work_1", worker=True) as worker,
        logs.log.follow("sesn_1", reader="key_1") as person,
    ):
        await logs.send(message())
        logs.log.cut("work_1")
        await logs.do(bash("b1"), model())

        assert await worker.take() == []
        assert worker.ended
        assert len(await person.take()) > 2
    assert logs.log.seen_by_worker("sesn_1") == 0


async def test_a_reader_far_behind_hears_that_its_session_is_gone(logs: Logs) -> None:
    await logs.create()
    with logs.log.follow("sesn_1") as slow:
        for number in range(MAX_ITEMS + 50):
            await logs.do(note(number))
        await logs.log.delete("sesn_1")

        types = [content.type async for content in slow]

    assert types[-1] == DELETED


async def test_a_session_that_runs_is_not_deleted(logs: Logs) -> None:
    await logs.create()
    await logs.send(message())

    with pytest.raises(Error) as refused:
        await logs.log.delete("sesn_1")
    assert refused.value.code == "session_running"
    await logs.do(model(), idle("end_turn"))
    await logs.log.delete("sesn_1")


async def test_what_workers_took_is_known(logs: Logs, sessions: MemorySessions, clock: ManualClock) -> None:
    await logs.create()
    assert logs.log.seen_by_worker("sesn_1") == 0
    with logs.log.follow("sesn_1") as person, logs.log.follow("sesn_1", worker=True) as worker:
        await logs.do(note(1), note(2))
        await person.take()
        assert logs.log.seen_by_worker("sesn_1") == 0
        await worker.take()
        assert logs.log.seen_by_worker("sesn_1") == 2
    logs.log.served_to_worker("sesn_1", 1)
    assert logs.log.seen_by_worker("sesn_1") == 2

    after_restart = Logs(sessions, clock).log
    await after_restart.assume_seen(["sesn_1"])
    assert after_restart.seen_by_worker("sesn_1") == 2
