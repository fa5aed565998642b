"""What the model is shown of a session."""

from __future__ import annotations

from typing import Any

from arrowslit.agents.models.model import ModelRequest
from arrowslit.agents.sessions.change import Draft
from arrowslit.agents.turns.context import Carried, carried, model_request
from arrowslit.agents.turns.offer import Offer, offer
from tests.agents.tale import (
    CHECK_STOCK,
    DEFINITION,
    Tale,
    custom,
    custom_result,
    mcp,
    mcp_result,
    message,
    sandbox,
    sandbox_result,
    session,
    text,
)


def shown(tale: Tale, offered: Offer | None = None) -> ModelRequest:
    return model_request(session(), tale.events, offered or Offer(), turn=0, max_tokens=100)


def outline(request: ModelRequest) -> list[tuple[str, list[str]]]:
    """Each message as its role and its blocks in short."""
    return [(each["role"], [_short(block) for block in each["content"]]) for each in request.messages]


def _short(block: Any) -> str:
    match block:
        case {"type": "text"}:
            return str(block["text"])
        case {"type": "tool_use"}:
            return f"use {block['id']} {block['name']}"
        case {"type": "tool_result"}:
            return f"result {block['tool_use_id']} {block['content'][0]['text']}"
    raise AssertionError(block)


def test_a_question_is_one_message_with_the_agents_words_as_the_system() -> None:
    tale = Tale()
    tale.say("How many?")

    request = shown(tale, offer(DEFINITION, {"internal": [CHECK_STOCK]}, sandbox=False))

    assert request.system == "Be brief."
    assert request.model == "m"
    assert request.messages == ({"role": "user", "content": text("How many?")},)
    assert [tool["name"] for tool in request.tools] == ["notify", "internal__check_stock"]


def test_results_follow_their_calls_in_the_order_of_the_calls_whenever_they_came() -> None:
    tale = Tale()
    tale.say("Go")
    tale.ask(message("I look."), mcp("check_stock", "c1"), sandbox("bash", "c2"), custom("notify", "c3"))
    tale.append(custom_result("c3", "told"))
    tale.append(mcp_result("c1", "340"))
    tale.append(sandbox_result("c2", "done"))

    assert outline(shown(tale)) == [
        ("user", ["Go"]),
        ("assistant", ["I look.", "use c1 internal__check_stock", "use c2 bash", "use c3 notify"]),
        ("user", ["result c1 340", "result c2 done", "result c3 told"]),
    ]


def test_a_message_that_was_sent_during_a_turn_is_shown_where_the_next_turn_took_it() -> None:
    tale = Tale()
    tale.say("First")
    tale.append(Draft("span.model_request_start"))
    tale.say("Second")
    tale.say("Third")
    assert outline(shown(tale)) == [("user", ["First"])]

    tale.append(message("One."), Draft("span.model_request_end"))
    tale.end()

    assert outline(shown(tale)) == [("user", ["First"]), ("assistant", ["One."]), ("user", ["Second", "Third"])]


def test_a_message_that_waits_behind_an_action_stays_unseen_until_the_turn_has_ended() -> None:
    tale = Tale()
    tale.say("Go")
    tale.ask(custom("notify", "c1"))
    tale.say("Also this")
    tale.append(custom_result("c1", "told"))

    assert outline(shown(tale))[-1] == ("user", ["result c1 told"])


def test_what_failed_leaves_nothing_and_messages_in_a_row_are_one() -> None:
    tale = Tale()
    tale.say("Go")
    tale.ask(failed=True)
    tale.append(Draft("span.model_request_start"))  # the process died here
    tale.ask(failed=True)
    tale.end()
    tale.say("Again")

    assert outline(shown(tale)) == [("user", ["Go", "Again"])]


def test_the_platforms_own_sentence_is_the_assistants_and_stands_after_the_results() -> None:
    tale = Tale()
    tale.say("Go")
    tale.ask(message("I look."), mcp("check_stock", "c1"))
    tale.append(mcp_result("c1", "unknown"), message("I can't confirm that."))
    tale.end()
    tale.say("And now?")

    assert outline(shown(tale)) == [
        ("user", ["Go"]),
        ("assistant", ["I look.", "use c1 internal__check_stock"]),
        ("user", ["result c1 unknown"]),
        ("assistant", ["I can't confirm that."]),
        ("user", ["And now?"]),
    ]


def test_what_the_application_says_as_the_system_is_added_to_it_and_missing_servers_are_named() -> None:
    tale = Tale()
    tale.append(
        Draft("user.message", {"content": text("Go")}, processed=False),
        Draft("system.message", {"content": text("Answer in French.")}, processed=False),
    )

    system = shown(tale, Offer(missing=("internal", "other"))).system

    assert system.startswith("Be brief.\n\n")
    assert "internal, other" in system
    assert "Do not guess" in system
    assert system.endswith("\n\nAnswer in French.")


def test_an_error_is_shown_as_one_and_empty_text_is_left_out() -> None:
    tale = Tale()
    tale.say("Go")
    tale.ask(message(""), mcp("check_stock", "c1"), mcp("check_stock", "c2"))
    tale.append(mcp_result("c1", "", is_error=True), mcp_result("c2", "340", is_error=False))

    _, said, results = shown(tale).messages

    assert [block["type"] for block in said["content"]] == ["tool_use", "tool_use"]
    assert results["content"][0] == {"type": "tool_result", "tool_use_id": "c1", "content": [], "is_error": True}
    assert results["content"][1]["is_error"] is False


def test_a_call_whose_result_nobody_knows_is_answered_with_that() -> None:
    tale = Tale()
    tale.say("Go")
    tale.ask(mcp("check_stock", "c1"))

    result = shown(tale).messages[-1]["content"][0]

    assert result["is_error"] is True
    assert "unknown" in result["content"][0]["text"]


def test_it_is_known_which_results_a_request_carries() -> None:
    tale = Tale()
    tale.say("Go")
    tale.ask(mcp("check_stock", "c1"), sandbox("bash", "c2"))
    tale.append(mcp_result("c1", "340", call_id="call_1"), sandbox_result("c2", "done"))

    assert carried(tale.events) == [Carried("c1", "call_1"), Carried("c2", None)]


def test_effort_is_read_in_both_of_its_forms() -> None:
    for effort in ("high", {"type": "high"}):
        agent = session(definition=DEFINITION.__class__("a", {"id": "m", "effort": effort}))
        assert model_request(agent, [], Offer(), turn=3, max_tokens=5).effort == "high"
