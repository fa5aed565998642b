from __future__ import annotations

import pytest

from arrowslit.agents.sessions.change import Draft
from arrowslit.agents.sessions.inbox import MAX_WAITING, Sender, SentEvent, begin, end, stands_for
from arrowslit.agents.sessions.state import TERMINATED, AskModel, RunCalls, next_step
from arrowslit.errors import Error
from arrowslit.session import SessionStatus
from tests.agents.story import PERSON, WORKER, Story, answered, bash, custom, mcp, message, sent


def result(call: str, text: str = "ok") -> SentEvent:
    return sent("user.tool_result", tool_use_id=call, content=[{"type": "text", "text": text}], is_error=False)


def confirm(call: str, how: str = "allow", id: str = "", **more: object) -> SentEvent:
    return sent("user.tool_confirmation", id, tool_use_id=call, result=how, **more)


def refusal(story: Story, *events: SentEvent, by: Sender = PERSON) -> str:
    """The code of the refusal. Nothing of what was sent is kept."""
    before = story.state
    with pytest.raises(Error) as refused:
        story.send(*events, by=by)
    assert story.state == before
    return refused.value.code


# ------------------------------------------------------------ messages


def test_messages_sent_together_begin_one_turn() -> None:
    story = Story()

    assert story.send(message("a"), message("b")) == ["user.message", "user.message", "session.status_running"]

    assert all(event.processed_at for event in story.events)


def test_a_message_during_a_turn_waits_for_its_end_and_begins_the_next_one() -> None:
    story = Story()
    story.turn(bash("b1"))
    assert story.send(message("and then?")) == ["user.message"]
    assert story.events[-1].processed_at is None
    queued = story.events[-1].id

    story.send(result("b1"), by=WORKER)
    types = story.end()

    assert types[-2:] == ["session.status_idle", "session.status_running"]
    assert next(event for event in story.events if event.id == queued).processed_at is not None
    assert next_step(story.state) == AskModel()


def test_nobody_piles_up_messages_without_end() -> None:
    story = Story()
    story.turn(bash("b1"))
    for number in range(MAX_WAITING):
        story.send(message(str(number)))

    assert refusal(story, message("one more")) == "rate_limited"


def test_a_word_of_the_system_goes_with_what_it_follows() -> None:
    story = Story()
    word = sent("system.message", content=[{"type": "text", "text": "be brief"}])

    assert story.send(message(), word) == ["user.message", "system.message", "session.status_running"]
    assert story.events[1].processed_at is not None
    story.do(bash("b1"))

    story.send(message("later"), sent("system.message", "s2"))
    assert story.state.waiting[-1] == "s2"
    story.send(result("b1"), sent("system.message", "s3"))
    assert story.events[-2].processed_at is not None
    assert "s3" not in story.state.waiting


@pytest.mark.parametrize(
    "events",
    [
        [sent("system.message")],
        [message(), sent("system.message"), message()],
        [message(), sent("system.message", "s1"), sent("system.message", "s2")],
        [sent("user.interrupt"), sent("system.message")],
    ],
)
def test_a_word_of_the_system_comes_last_and_after_something(events: list[SentEvent]) -> None:
    assert refusal(Story(), *events) == "validation_error"


def test_all_or_nothing_is_kept() -> None:
    story = Story()
    story.turn(bash("b1"))

    assert refusal(story, result("b1"), result("nobody's")) == "tool_use_not_found"
    assert refusal(story, message(), sent("agent.message")) == "validation_error"


# ------------------------------------------------------------ results


def test_the_last_result_lets_the_model_go_on() -> None:
    story = Story()
    story.turn(bash("b1"), custom("c1"))
    assert story.blocked_by == ["b1", "c1"]

    assert story.send(result("b1"), by=WORKER) == ["user.tool_result", "session.status_idle"]
    assert story.blocked_by == ["c1"]
    paid = sent("user.custom_tool_result", custom_tool_use_id="c1")
    assert story.send(paid) == ["user.custom_tool_result", "session.status_running"]
    assert next_step(story.state) == AskModel()


def test_a_result_while_the_relay_calls_a_server_changes_no_status() -> None:
    story = Story()
    story.turn(mcp("m1"), bash("b1"))

    assert story.send(result("b1"), by=WORKER) == ["user.tool_result"]
    assert isinstance(next_step(story.state), RunCalls)


def test_the_first_result_counts() -> None:
    story = Story()
    story.turn(bash("b1"))
    story.send(result("b1", "first"), by=WORKER)
    first = story.state.closed["b1"]

    again = result("b1", "second")
    assert story.send(again, by=WORKER) == []
    assert stands_for(story.state, again) == first
    assert [event.body["content"] for event in story.events if event.type == "user.tool_result"] == [
        [{"type": "text", "text": "first"}]
    ]


def test_a_result_is_for_a_call_of_its_kind_that_was_made() -> None:
    story = Story()
    story.turn(bash("b1"), mcp("m1", "ask"), custom("c1"))

    assert refusal(story, result("b2")) == "tool_use_not_found"
    assert refusal(story, result("m1"), by=WORKER) == "tool_use_not_found"
    assert refusal(story, result("c1"), by=WORKER) == "tool_use_not_found"
    assert refusal(story, sent("user.custom_tool_result", custom_tool_use_id="b1")) == "tool_use_not_found"


def test_a_call_that_nobody_allowed_has_no_result() -> None:
    story = Story()
    story.turn(bash("b1", "ask"))

    assert refusal(story, result("b1"), by=WORKER) == "validation_error"


# ------------------------------------------------------------ confirmations


def test_an_allowed_sandbox_call_stays_required_until_its_result_is_in() -> None:
    story = Story()
    story.turn(bash("b1", "ask"))
    assert story.blocked_by == ["b1"]

    assert story.send(confirm("b1")) == ["user.tool_confirmation", "session.status_running"]
    assert story.state.required == ("b1",)
    assert story.send(result("b1"), by=WORKER) == ["user.tool_result"]
    assert next_step(story.state) == AskModel()


def test_while_an_allowed_call_runs_another_one_can_be_confirmed() -> None:
    story = Story()
    story.turn(bash("b1", "ask"), bash("b2", "ask"))
    story.send(confirm("b1"))

    assert story.send(result("b1"), by=WORKER) == ["user.tool_result", "session.status_idle"]
    assert story.blocked_by == ["b2"]
    assert story.send(confirm("b2")) == ["user.tool_confirmation", "session.status_running"]


def test_an_allowed_call_of_a_server_is_run() -> None:
    story = Story()
    story.turn(mcp("m1", "ask"))

    assert story.send(confirm("m1")) == ["user.tool_confirmation", "session.status_running"]
    step = next_step(story.state)
    assert isinstance(step, RunCalls)
    assert [call.id for call in step.calls] == ["m1"]


@pytest.mark.parametrize(("call", "type_"), [(bash, "agent.tool_result"), (mcp, "agent.mcp_tool_result")])
def test_a_denied_call_is_closed_for_the_model(call: object, type_: str) -> None:
    story = Story()
    story.turn((bash if call is bash else mcp)("x1", "ask"))

    types = story.send(confirm("x1", "deny", deny_message="not today"))

    assert types == ["user.tool_confirmation", type_, "session.status_running"]
    closing = story.events[-2].body
    assert closing["is_error"] is True
    assert closing["content"] == [{"type": "text", "text": "denied by the user: not today"}]
    assert refusal(story, confirm("x1", id="other")) == "validation_error"


def test_a_confirmation_is_used_once_and_its_repetition_is_no_error() -> None:
    story = Story()
    story.turn(mcp("m1", "ask"))
    story.send(confirm("m1", id="first"))

    again = confirm("m1", id="again")
    assert story.send(again) == []
    assert stands_for(story.state, again) == "first"
    assert refusal(story, confirm("m1", "deny")) == "validation_error"
    story.do(answered("m1"))
    assert story.send(confirm("m1", id="later")) == []


def test_a_confirmation_is_bound_to_one_call() -> None:
    story = Story()
    story.turn(mcp("m1", "ask"), mcp("m2", "ask"))
    story.send(confirm("m1"))

    assert [call.id for call in story.state.open if call.held] == ["m2"]
    assert refusal(story, confirm("m3")) == "tool_use_not_found"


def test_what_asks_nobody_is_not_confirmed() -> None:
    story = Story()
    story.turn(bash("b1"), custom("c1"))

    assert refusal(story, confirm("b1")) == "validation_error"
    assert refusal(story, confirm("c1")) == "validation_error"


def test_only_who_may_confirms() -> None:
    story = Story()
    story.turn(bash("b1", "ask"))

    assert refusal(story, confirm("b1"), by=Sender()) == "forbidden"
    assert refusal(story, confirm("b1"), by=WORKER) == "forbidden"
    assert refusal(story, confirm("b1"), by=Sender(may_confirm=True, worker=True)) == "forbidden"


@pytest.mark.parametrize("event", [message(), sent("user.interrupt"), sent("system.message")])
def test_a_worker_sends_results_and_nothing_else(event: SentEvent) -> None:
    story = Story()
    story.turn(bash("b1"))

    assert refusal(story, event, by=WORKER) == "forbidden"


# ------------------------------------------------------------ interrupts and the end


def test_an_interrupt_closes_every_open_call_before_the_turn_ends() -> None:
    story = Story()
    story.turn(mcp("m1"), mcp("m2"), bash("b1"), custom("c1"))

    types = story.send(sent("user.interrupt"), dispatched={"m1": "call_7"})

    assert types == [
        "user.interrupt",
        "agent.mcp_tool_result",
        "agent.mcp_tool_result",
        "user.tool_result",
        "user.custom_tool_result",
        "session.status_idle",
    ]
    left, stayed, sandbox, _, ended = story.events[-5:]
    assert (left.body["outcome"], left.body["call_id"]) == ("outcome_unknown", "call_7")
    assert (stayed.body["outcome"], stayed.body["call_id"]) == ("denied", None)
    assert sandbox.body["content"] == [{"type": "text", "text": "interrupted"}]
    assert ended.body["stop_reason"] == {"type": "end_turn"}
    assert ended.body["unconfirmed"] == [
        {"call_id": "call_7", "server": "srv", "tool": "stock", "outcome": "outcome_unknown"}
    ]


def test_what_a_worker_brings_after_an_interrupt_changes_nothing() -> None:
    story = Story()
    story.turn(bash("b1"))
    story.send(sent("user.interrupt"))

    assert story.send(result("b1"), by=WORKER) == []
    assert story.state.status is SessionStatus.IDLE


def test_an_interrupt_and_a_message_are_a_new_turn() -> None:
    story = Story()
    story.turn(bash("b1"))

    types = story.send(sent("user.interrupt"), message("do this instead"))

    assert types == [
        "user.interrupt",
        "user.tool_result",
        "session.status_idle",
        "user.message",
        "session.status_running",
    ]


def test_what_waits_begins_its_turn_after_an_interrupt() -> None:
    story = Story()
    story.turn(bash("b1"))
    story.send(message("queued"))

    assert story.send(sent("user.interrupt"))[-2:] == ["session.status_idle", "session.status_running"]
    assert story.state.waiting == ()


def test_an_interrupt_of_nothing_is_only_noted() -> None:
    story = Story()

    assert story.send(sent("user.interrupt")) == ["user.interrupt"]


def test_an_archived_session_leaves_nothing_for_the_next_worker() -> None:
    story = Story()
    story.turn(bash("b1"))

    change = end(story.state)
    assert change is not None
    assert [draft.type for draft in change.drafts] == ["user.tool_result", TERMINATED]


def test_a_session_that_runs_is_not_archived() -> None:
    story = Story()
    story.send(message())

    with pytest.raises(Error) as refused:
        end(story.state)
    assert refused.value.code == "session_running"


def test_when_all_is_over_only_late_results_are_heard_out() -> None:
    story = Story()
    story.turn(bash("b1"))
    story.send(sent("user.interrupt"))
    story.do(Draft(TERMINATED))

    assert story.send(result("b1"), by=WORKER) == []
    assert refusal(story, message()) == "session_terminated"
    assert refusal(story, sent("user.interrupt")) == "session_terminated"
    assert end(story.state) is None


def test_a_session_begins_with_messages_only() -> None:
    assert begin([], 1.0).drafts == ()
    assert [draft.type for draft in begin([message(), message("b")], 1.0).drafts] == ["user.message"] * 2
    with pytest.raises(Error):
        begin([sent("user.interrupt")], 1.0)
