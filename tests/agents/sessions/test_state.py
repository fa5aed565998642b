from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arrowslit.agent import Builtin, Definition
from arrowslit.agents.sessions.change import Draft, idle
from arrowslit.agents.sessions.inbox import SentEvent
from arrowslit.agents.sessions.state import (
    EMPTY,
    MAY_FOLLOW,
    STATUS_EVENTS,
    AskModel,
    CallKind,
    Rest,
    RunCalls,
    Wait,
    fold,
    next_step,
    runnable,
    wants_worker,
)
from arrowslit.errors import Error
from arrowslit.session import Event, SessionStatus
from tests.agents.story import PERSON, WORKER, Story, answered, bash, custom, mcp, message, model, sent

PLAIN = Definition("a", {"id": "m"})
CODER = replace(PLAIN, builtin=Builtin())


def test_nothing_happened_yet() -> None:
    assert (EMPTY.status, next_step(EMPTY)) == (SessionStatus.IDLE, Rest())


def test_a_message_begins_a_turn_and_the_model_is_asked() -> None:
    story = Story()

    assert story.send(message()) == ["user.message", "session.status_running"]

    assert story.events[0].processed_at is not None
    assert next_step(story.state) == AskModel()
    assert story.state.turn is not None
    assert story.state.turn.began_seq == 2


def test_allowed_calls_of_servers_run_before_anybody_waits() -> None:
    story = Story()
    story.turn(mcp("m1"), mcp("m2", "ask"), bash("b1"))

    step = next_step(story.state)

    assert isinstance(step, RunCalls)
    assert [call.id for call in step.calls] == ["m1"]
    assert story.state.required == ("m2", "b1")
    assert story.state.status is SessionStatus.RUNNING


def test_when_only_others_can_go_on_the_session_says_for_what_it_waits() -> None:
    story = Story()
    story.turn(mcp("m1"), mcp("m2", "ask"), bash("b1"), custom("c1"))

    assert story.do(answered("m1")) == ["agent.mcp_tool_result", "session.status_idle"]

    assert story.blocked_by == ["m2", "b1", "c1"]
    assert next_step(story.state) == Wait(("m2", "b1", "c1"))


def test_an_unknown_verdict_is_held_like_ask() -> None:
    story = Story()
    story.turn(mcp("m1", "maybe"))

    assert story.state.open[0].held
    assert story.blocked_by == ["m1"]


def test_usage_and_seconds_add_up_over_turns() -> None:
    story = Story()
    for call in ("b1", "b2"):
        story.turn(bash(call))
        story.send(sent("user.tool_result", tool_use_id=call), by=WORKER)
        story.end()

    usage = story.state.usage
    assert (usage.input_tokens, usage.output_tokens) == (28, 20)
    assert (usage.cache_creation_input_tokens, usage.cache_read_input_tokens) == (4, 8)
    assert usage.active_seconds == 4.0  # twice: one until it is blocked, one from the result to the end
    assert story.state.model_requests == 4


def test_a_turn_counts_and_forgets_at_its_end() -> None:
    story = Story()
    story.turn(mcp("m1"), bash("b1"))
    story.do(answered("m1", "timeout", "call_9"))

    turn = story.state.turn
    assert turn is not None
    assert (turn.model_requests, turn.tool_calls, turn.output_tokens) == (1, 2, 5)
    assert turn.unconfirmed == ({"call_id": "call_9", "server": "srv", "tool": "stock", "outcome": "timeout"},)

    story.send(sent("user.tool_result", tool_use_id="b1"), by=WORKER)
    story.end()
    assert story.state.turn is None
    assert story.events[-1].body["unconfirmed"] == list(turn.unconfirmed)


def test_a_server_that_could_not_be_asked_counts_until_a_later_request_could() -> None:
    unlisted = {"call_id": None, "server": "srv", "tool": None, "outcome": "not_delivered"}
    story = Story()
    story.send(message())
    story.do(Draft("span.model_request_start", {"unlisted": [unlisted]}), mcp("m1"), model())
    story.do(answered("m1", "timeout", "call_9"))
    assert story.state.turn is not None
    assert story.state.turn.unlisted == (unlisted,)

    story.do(Draft("span.model_request_start"))
    story.end()
    assert story.events[-1].body["unconfirmed"] == [
        {"call_id": "call_9", "server": "srv", "tool": "stock", "outcome": "timeout"}
    ]


def test_failed_requests_are_counted_in_a_row() -> None:
    story = Story()
    story.send(message())
    story.do(model(failed=True))
    story.do(model(failed=True))
    assert (story.state.failures, story.state.model_requests) == (2, 2)

    story.do(model())
    assert story.state.failures == 0


def test_a_new_turn_has_its_own_failures() -> None:
    story = Story()
    story.send(message())
    story.do(model(failed=True), idle("retries_exhausted"))
    story.send(message())

    assert story.state.failures == 0


def test_a_worker_is_wanted_while_a_turn_runs_or_its_calls_are_open() -> None:
    story = Story()
    assert not wants_worker(story.state, CODER)

    story.turn(bash("b1"))
    assert story.state.status is SessionStatus.IDLE
    assert wants_worker(story.state, CODER)
    assert not wants_worker(story.state, PLAIN)

    story.send(sent("user.tool_result", tool_use_id="b1"), by=WORKER)
    assert wants_worker(story.state, CODER)
    story.end()
    assert not wants_worker(story.state, CODER)


def test_nobody_keeps_a_worker_while_a_person_thinks() -> None:
    story = Story()
    story.turn(bash("b1", "ask"))
    assert not wants_worker(story.state, CODER)

    story.send(sent("user.tool_confirmation", tool_use_id="b1", result="allow"))
    assert wants_worker(story.state, CODER)


def test_the_table_and_the_events_agree() -> None:
    assert {each for types in MAY_FOLLOW.values() for each in types} == STATUS_EVENTS.keys()
    with pytest.raises(ValueError, match="cannot follow"):
        Story().do(Draft("session.status_rescheduled"))


def test_events_of_no_known_type_or_shape_are_passed_over() -> None:
    strange = [
        Event(1, "e1", "agent.thinking", 1.0, 1.0, {}),
        Event(2, "e2", "span.model_request_end", 1.0, 1.0, {"model_usage": {"input_tokens": "many"}}),
        Event(3, "e3", "user.tool_result", 1.0, 1.0, {"tool_use_id": 7}),
    ]

    assert fold(EMPTY, strange).seq == 3


# ------------------------------------------------------------ whatever is legal

ANYTHING = st.lists(
    st.tuples(
        st.sampled_from(["message", "interrupt", "result", "wrong", "allow", "deny", "model", "say", "fail", "mcp"]),
        st.integers(0, 5),
        st.lists(st.sampled_from(["bash", "bash?", "mcp", "mcp?", "custom"]), max_size=3),
    ),
    max_size=15,
)


@settings(max_examples=80, deadline=None)
@given(ANYTHING)
def test_folding_one_by_one_is_folding_at_once(steps: list[tuple[str, int, list[str]]]) -> None:
    story = Story()
    for number, (what, which, kinds) in enumerate(steps):
        _play(story, number, what, which, kinds)
        at_once = fold(EMPTY, story.events)
        one_by_one = EMPTY
        for event in story.events:
            one_by_one = fold(one_by_one, [event])
        assert at_once == one_by_one == story.state
        assert [event.seq for event in story.events] == list(range(1, len(story.events) + 1))
        if story.state.status is SessionStatus.IDLE:
            assert isinstance(next_step(story.state), Rest | Wait)
            assert not story.state.waiting or story.state.turn
            assert list(story.state.required) == (story.blocked_by or [])
            assert bool(story.state.open) is (story.state.turn is not None)
        else:
            assert runnable(story.state) or any(call.confirmed for call in story.state.open)


def _play(story: Story, number: int, what: str, which: int, kinds: list[str]) -> None:
    """One step, if it is legal now: what a client sends may be refused, the relay does only what it may."""
    open_calls = story.state.open
    call = open_calls[which % len(open_calls)] if open_calls else None
    step = next_step(story.state)
    make = {"bash": bash, "mcp": mcp}
    drafts = [
        custom(f"c{number}_{place}")
        if kind == "custom"
        else make[kind.rstrip("?")](f"c{number}_{place}", "ask" if kind.endswith("?") else "allow")
        for place, kind in enumerate(kinds)
    ]
    events: list[SentEvent] = []
    match what:
        case "model" if isinstance(step, AskModel) and drafts:
            story.do(*drafts, model())
        case "say" | "model" if isinstance(step, AskModel):
            story.end()
        case "fail" if isinstance(step, AskModel):
            story.do(model(failed=True))
        case "mcp" if isinstance(step, RunCalls):
            story.do(answered(step.calls[which % len(step.calls)].id, "timeout" if which == 0 else "result"))
        case "message":
            events = [message(str(number))]
        case "interrupt":
            events = [sent("user.interrupt", f"i{number}")]
        case "result" if call is not None and call.kind is not CallKind.MCP:
            type_, of = (
                ("user.tool_result", "tool_use_id")
                if call.kind is CallKind.SANDBOX
                else ("user.custom_tool_result", "custom_tool_use_id")
            )
            events = [sent(type_, f"r{number}", **{of: call.id})]
        case "wrong":
            events = [sent("user.tool_result", tool_use_id="nobody")]
        case "allow" | "deny" if call is not None:
            events = [sent("user.tool_confirmation", f"y{number}", tool_use_id=call.id, result=what)]
    try:
        story.send(*[replace(each, id=f"{each.id}_{number}") for each in events], by=PERSON)
    except Error as error:
        assert error.code in ("tool_use_not_found", "validation_error")
