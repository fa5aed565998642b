from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from arrowslit.agent import Builtin, Definition
from arrowslit.agents.sessions.state import Call, CallKind, State
from arrowslit.agents.work import leases
from arrowslit.agents.work.leases import NO_HEARTBEAT, Beat
from arrowslit.errors import Error
from arrowslit.session import Session, SessionStatus
from arrowslit.work import Work, WorkKind, WorkState

NOW = 1_795_000_000.0
QUEUED = Work(id="work_1", environment_id="env_1", kind=WorkKind.SESSION, subject="sesn_1", created_at=NOW - 100)
DELIVERED = replace(QUEUED, generation=1, delivered_at=NOW - 2)
STARTING = replace(DELIVERED, state=WorkState.STARTING, acknowledged_at=NOW - 1, lease_until=NOW + 59)
ACTIVE = leases.beat(STARTING, NOW - 1, Beat(NO_HEARTBEAT, by=1))
STOPPING = leases.stop(ACTIVE, NOW - 1)
STOPPED = leases.stop(ACTIVE, NOW - 1, force=True)
LOST = leases.take_away(ACTIVE)
LOST_STOPPING = leases.take_away(STOPPING)


def current(item: Work) -> Any:
    with pytest.raises(Error) as refused:
        leases.beat(item, NOW, Beat("something else", by=item.generation))
    assert refused.value.code == "heartbeat_precondition_failed"
    assert refused.value.row.v1 == 412
    return refused.value.details["current_state"]


@pytest.mark.parametrize(
    ("item", "state"),
    [
        (leases.acknowledge(DELIVERED, NOW), WorkState.STARTING),
        (leases.acknowledge(ACTIVE, NOW), WorkState.ACTIVE),  # an ack that comes again
        (leases.acknowledge(STOPPING, NOW), WorkState.STOPPING),
        (leases.beat(STARTING, NOW, Beat(NO_HEARTBEAT)), WorkState.ACTIVE),
        (leases.beat(ACTIVE, NOW, Beat(ACTIVE.heartbeat)), WorkState.ACTIVE),
        (leases.beat(ACTIVE, NOW, Beat(ACTIVE.heartbeat, release=True)), WorkState.STOPPING),
        (leases.beat(STOPPING, NOW, Beat("anything")), WorkState.STOPPING),
        (leases.beat(STOPPED, NOW, Beat("anything")), WorkState.STOPPED),
        (leases.stop(QUEUED, NOW), WorkState.STOPPED),
        (leases.stop(DELIVERED, NOW), WorkState.STOPPED),
        (leases.stop(STARTING, NOW), WorkState.STOPPING),
        (leases.stop(STOPPING, NOW), WorkState.STOPPING),
        (leases.stop(STOPPING, NOW, force=True), WorkState.STOPPED),
        (leases.give_back(LOST, NOW, progress=False), WorkState.QUEUED),
        (leases.give_back(LOST_STOPPING, NOW, progress=True), WorkState.STOPPED),
    ],
)
def test_each_step_leads_where_the_table_says(item: Work, state: WorkState) -> None:
    assert item.state is state


@pytest.mark.parametrize(
    ("item", "at", "delivered"),
    [
        (QUEUED, NOW, True),
        (DELIVERED, NOW + 2.9, False),  # its ack may still come
        (DELIVERED, NOW + 3, True),
        (replace(QUEUED, not_before=NOW + 1), NOW, False),
        (replace(QUEUED, not_before=NOW + 1), NOW + 1, True),
        (STARTING, NOW + 500, False),
        (ACTIVE, NOW + 500, False),
        (STOPPED, NOW, False),
    ],
)
def test_only_what_nobody_took_is_delivered(item: Work, at: float, delivered: bool) -> None:
    after = leases.deliver(item, at)

    assert (after is not None) is delivered
    if after is not None:
        assert (after.generation, after.delivered_at, after.state) == (item.generation + 1, at, WorkState.QUEUED)


@pytest.mark.parametrize("item", [QUEUED, STOPPED, leases.give_back(LOST, NOW, progress=False)])
def test_what_is_not_delivered_is_not_acknowledged(item: Work) -> None:
    with pytest.raises(Error) as refused:
        leases.acknowledge(item, NOW)

    assert refused.value.code == "work_not_found"


def test_the_first_beat_has_a_minute_and_those_after_it_ninety_seconds() -> None:
    acknowledged = leases.acknowledge(DELIVERED, NOW)
    beaten = leases.beat(acknowledged, NOW + 5, Beat(NO_HEARTBEAT, by=1))

    assert acknowledged.lease_until == NOW + 60
    assert (beaten.lease_until, beaten.started_at, beaten.heartbeat_at) == (NOW + 95, NOW + 5, NOW + 5)
    assert leases.ttl(beaten) == 90


@pytest.mark.parametrize(("wish", "given"), [(1.0, 10), (45.0, 45), (10_000.0, 600)])
def test_a_wish_for_another_ttl_is_met_within_bounds(wish: float, given: int) -> None:
    assert leases.ttl(leases.beat(STARTING, NOW, Beat(NO_HEARTBEAT, wish))) == given


def test_no_two_beats_have_the_same_text_even_if_the_clock_stands_or_goes_back() -> None:
    item, texts = STARTING, []
    for at in (NOW, NOW, NOW, NOW - 3600, NOW + 1):
        item = leases.beat(item, at, Beat(by=1))
        texts.append(item.heartbeat)

    assert texts == sorted(set(texts), key=texts.index)
    assert texts[0] == "2026-11-18T11:06:40.000000Z"


@pytest.mark.parametrize(
    ("item", "sent"),
    [
        (STARTING, Beat("2026-11-18T07:06:40.000000Z", by=1)),
        (ACTIVE, Beat("2026-11-18T07:06:40.000000Z", by=1)),
        (ACTIVE, Beat(ACTIVE.heartbeat, by=2)),  # of another delivery
        (replace(ACTIVE, generation=2), Beat(ACTIVE.heartbeat, by=1)),
        (replace(ACTIVE, beat_by=1), Beat(NO_HEARTBEAT, by=0)),  # repeated, but not by who sent it first
        (DELIVERED, Beat(NO_HEARTBEAT, by=1)),
        (LOST, Beat(ACTIVE.heartbeat, by=1)),
        (LOST, Beat(None)),
        (LOST_STOPPING, Beat(None)),
    ],
)
def test_a_beat_on_another_lease_is_refused(item: Work, sent: Beat) -> None:
    with pytest.raises(Error) as refused:
        leases.beat(item, NOW, sent)

    assert refused.value.code == "heartbeat_precondition_failed"


def test_a_refused_beat_says_what_holds() -> None:
    assert current(STARTING) == {
        "state": "starting",
        "ttl_seconds": 90,
        "last_heartbeat": None,
        "lease_extended": False,
    }
    assert current(ACTIVE)["last_heartbeat"] == ACTIVE.heartbeat


def test_a_beat_whose_answer_was_lost_may_come_again() -> None:
    second = leases.beat(ACTIVE, NOW, Beat(ACTIVE.heartbeat, by=1))

    assert leases.beat(ACTIVE, NOW, Beat(NO_HEARTBEAT, by=1)) == ACTIVE
    assert leases.beat(second, NOW + 1, Beat(ACTIVE.heartbeat, by=1)) == second
    third = leases.beat(second, NOW + 2, Beat(second.heartbeat, by=1))
    with pytest.raises(Error):
        leases.beat(third, NOW + 3, Beat(ACTIVE.heartbeat, by=1))  # older than the last one


def test_a_worker_that_is_to_stop_has_three_minutes_and_no_more() -> None:
    assert STOPPING.lease_until == NOW - 1 + 180
    assert leases.stop(STOPPING, NOW + 100) == STOPPING
    assert leases.lose(STOPPING, NOW + 178) == STOPPING
    assert leases.is_lost(leases.lose(STOPPING, NOW + 179))


def test_a_stop_that_comes_again_changes_nothing() -> None:
    assert leases.stop(STOPPED, NOW + 5, force=True) == STOPPED
    assert STOPPED.lease_until is None


@pytest.mark.parametrize(
    ("item", "at", "lost"),
    [
        (ACTIVE, NOW + 88, False),
        (ACTIVE, NOW + 89, True),
        (STARTING, NOW + 58, False),
        (STARTING, NOW + 59, True),
        (QUEUED, NOW + 1000, False),
        (STOPPED, NOW + 1000, False),
    ],
)
def test_a_lease_is_lost_when_it_has_ended(item: Work, at: float, lost: bool) -> None:
    after = leases.lose(item, at)

    assert leases.is_lost(after) is lost
    assert after.generation == item.generation + lost  # so that the token of the last delivery is late
    assert leases.lose(after, at) == after


def test_what_was_given_back_is_as_new_but_remembers_how_often() -> None:
    again = leases.give_back(LOST, NOW, progress=False)

    assert (again.attempts, again.not_before) == (1, NOW + 1)
    assert (again.delivered_at, again.heartbeat, again.started_at, again.lease_until) == (None, None, None, None)
    assert again.generation > ACTIVE.generation


def test_an_item_without_progress_waits_longer_each_time_and_then_no_longer() -> None:
    waits, item = [], LOST
    while item.state is not WorkState.STOPPED:
        item = leases.give_back(leases.take_away(replace(item, state=WorkState.ACTIVE)), NOW, progress=False)
        waits.append(item.not_before - NOW)

    assert waits[:-1] == [1, 2, 4, 8, 16]
    assert leases.give_back(replace(LOST, attempts=5), NOW, progress=True).attempts == 0


def test_the_next_item_of_a_session_counts_on() -> None:
    following = leases.another(replace(STOPPED, attempts=4), "work_2", NOW, progress=False)

    assert following is not None
    assert (following.id, following.state, following.attempts) == ("work_2", WorkState.QUEUED, 5)
    assert (following.generation, following.not_before, following.stopped_at) == (0, NOW + 16, None)
    assert leases.another(following, "work_3", NOW, progress=False) is None
    assert leases.another(following, "work_3", NOW, progress=True) is not None


SANDBOX = Call("sevt_1", 3, CallKind.SANDBOX, "bash", None, {}, "allow")
HELD = replace(SANDBOX, verdict="ask")
CUSTOM = replace(SANDBOX, kind=CallKind.CUSTOM)


@pytest.mark.parametrize(
    ("status", "call", "rest", "others_wait", "goes"),
    [
        (SessionStatus.IDLE, None, 11, True, True),
        (SessionStatus.IDLE, None, 9, True, False),
        (SessionStatus.IDLE, None, 119, False, False),
        (SessionStatus.IDLE, None, 121, False, True),
        (SessionStatus.IDLE, HELD, 11, True, True),
        (SessionStatus.IDLE, CUSTOM, 11, True, True),
        (SessionStatus.IDLE, SANDBOX, 500, True, False),
        (SessionStatus.RUNNING, None, 500, True, False),
        (SessionStatus.TERMINATED, None, 0, False, True),
    ],
)
def test_a_worker_is_sent_home_when_it_only_waits_for_people(
    status: SessionStatus, call: Call | None, rest: float, others_wait: bool, goes: bool
) -> None:
    definition = Definition("assistant", {"id": "none"}, builtin=Builtin())
    session = Session(
        id="sesn_1",
        tenant=None,
        principal_id="key_1",
        agent_id="agent_1",
        agent_version=1,
        definition=definition,
        status=status,
        updated_at=NOW - rest,
    )
    state = State(status=status, open=() if call is None else (call,))

    assert leases.may_go(session, state, NOW, others_wait=others_wait) is goes


Step = Callable[[Work], Work | None]


@pytest.mark.parametrize("item", [QUEUED, DELIVERED, STARTING, ACTIVE, STOPPING, STOPPED, LOST, LOST_STOPPING])
def test_no_step_brings_back_what_has_stopped_or_shortens_its_history(item: Work) -> None:
    steps: list[Step] = [
        lambda work: leases.deliver(work, NOW + 500),
        lambda work: leases.acknowledge(work, NOW + 500),
        lambda work: leases.beat(work, NOW + 500, Beat(by=work.generation)),
        lambda work: leases.stop(work, NOW + 500),
        lambda work: leases.lose(work, NOW + 500),
    ]
    for step in steps:
        try:
            after = step(item) or item
        except Error:
            continue
        assert after.generation >= item.generation
        assert item.state is not WorkState.STOPPED or after == item
