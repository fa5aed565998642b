from __future__ import annotations

import json

import pytest

from arrowslit.agents.models.model import JSON, Finished, ModelFailed, TextDelta
from arrowslit.agents.models.script import read_script
from arrowslit.agents.models.scripted import SCRIPTED, Scripted
from arrowslit.clock import SystemClock
from arrowslit.errors import Error
from tests.agents.models.server import ask, request, spoken, whole

CALL = {"type": "tool_use", "name": "check_stock", "input": {"sku": "BOLT8"}}
LONG = "There are three hundred and forty of them, I think, but I would have to look."


class HandClock(SystemClock):
    """Nobody waits."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        """At once."""
        self.slept.append(seconds)


def playing(*turns: object, log: list[bytes] | None = None, clock: HandClock | None = None) -> Scripted:
    """A model that plays these turns."""
    script = read_script(json.dumps(turns).encode())
    return Scripted(script, None if log is None else log.append, clock=clock or HandClock())


async def played(model: Scripted, turn: int, *tools: str) -> list[JSON]:
    """What it answers to the request of that number, when these tools were offered."""
    return whole(await ask(model, model.prepare(request(turn=turn, tools=tools))))


async def test_a_script_is_played_turn_by_turn_whoever_asks() -> None:
    model = playing([{"type": "text", "text": "one"}], [{"type": "text", "text": "two"}])

    assert await played(model, 1) == [{"type": "text", "text": "two"}]
    assert await played(model, 0) == [{"type": "text", "text": "one"}]
    assert await played(model, 0) == [{"type": "text", "text": "one"}]


async def test_past_its_end_a_script_says_that_it_has_ended() -> None:
    [said] = await played(playing([{"type": "text", "text": "one"}]), 1)

    assert said["text"] == f"{SCRIPTED} My script has ended: it has 1 turns."


async def test_text_comes_in_several_deltas_and_calls_come_whole() -> None:
    model = playing([{"type": "text", "text": LONG}, CALL, {**CALL, "id": "toolu_mine"}])

    events = await ask(model, model.prepare(request(turn=0)))

    assert spoken(events) == LONG
    assert sum(isinstance(event, TextDelta) for event in events) > 2
    assert [block["type"] for block in whole(events)] == ["text", "tool_use", "tool_use"]
    assert [block["id"] for block in whole(events)[1:]] == ["toolu_scripted_0_1", "toolu_mine"]
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.stop_reason == "tool_use"
    assert finished.usage.input_tokens > 0
    assert finished.usage.output_tokens > 0


@pytest.mark.parametrize(
    ("tools", "called"),
    [
        (["inventory__check_stock", "inventory__adjust_stock"], "inventory__check_stock"),
        (["check_stock", "inventory__check_stock"], "check_stock"),
        (["a__check_stock", "b__check_stock"], "check_stock"),  # nobody can tell which
        (["inventory__recheck_stock"], "check_stock"),
        ([], "check_stock"),
    ],
)
async def test_a_plain_name_finds_the_one_tool_that_bears_it(tools: list[str], called: str) -> None:
    [block] = await played(playing([CALL]), 0, *tools)

    assert block["name"] == called


async def test_a_name_that_had_to_be_changed_is_found() -> None:
    [block] = await played(playing([{**CALL, "name": "stock.check"}]), 0, "inventory__stock_check")

    assert block["name"] == "inventory__stock_check"


async def test_each_request_is_a_line_of_the_log_before_it_is_answered() -> None:
    log: list[bytes] = []
    model = playing({"fault": "529"}, log=log)

    with pytest.raises(ModelFailed):
        await ask(model, model.prepare(request(turn=0, tools=("bash",))))

    [line] = log
    assert line.endswith(b"}\n")
    assert json.loads(line) == {
        "session": "sesn_1",
        "turn": 0,
        "messages": list(request().messages),
        "tools": ["bash"],
    }


@pytest.mark.parametrize(
    ("fault", "kind", "retry_after", "said"),
    [
        ({"fault": "429"}, "rate_limited", 1, False),
        ({"fault": "429", "seconds": 0}, "rate_limited", 0, False),
        ({"fault": "529"}, "overloaded", None, False),
        ({"fault": "cut"}, "failed", None, True),
        ({"fault": "malformed_input"}, "malformed", None, True),
    ],
)
async def test_a_fault_of_the_script_is_a_failure_of_its_kind(
    fault: JSON, kind: str, retry_after: float | None, said: bool
) -> None:
    model, heard = playing(fault, [{"type": "text", "text": "better"}]), ""

    with pytest.raises(ModelFailed) as failed:
        async for event in model.ask(model.prepare(request(turn=0))):
            heard += spoken([event])

    assert (failed.value.kind, failed.value.retry_after) == (kind, retry_after)
    assert bool(heard) == said
    assert await played(model, 1) == [{"type": "text", "text": "better"}]  # the failed request was a turn


async def test_a_slow_answer_takes_its_time_and_arrives() -> None:
    clock = HandClock()
    model = playing({"fault": "slow", "seconds": 3}, clock=clock)

    events = await ask(model, model.prepare(request()))

    assert sum(clock.slept) == pytest.approx(3)
    assert spoken(events) == f"{SCRIPTED} This took 3 seconds, as my script says."


def test_it_says_of_itself_that_it_is_scripted() -> None:
    model = playing()

    assert model.facts == {"provider": "scripted:FILE", "host": "scripted", "scripted": True}
    assert model.prepare(request()).facts["host"] == "scripted"


@pytest.mark.parametrize(
    ("script", "told"),
    [
        (b"not json", "a script is a JSON list of turns"),
        (b"{}", "a script is a JSON list of turns"),
        (b'[[{"type": "text", "text": "a"}], []]', "turn 1 "),
        (b'[[{"type": "text", "text": ""}]]', "turn 0 "),
        (b'[[{"type": "image", "source": {}}]]', "turn 0 "),
        (b'[[{"type": "text", "text": "a", "more": 1}]]', "turn 0 "),
        (b'[{"fault": "429"}, {"fault": "418"}]', "turn 1 "),
        (b'[{"fault": "429", "after": 3}]', "turn 0 "),
        (b'[{"fault": "slow", "seconds": -1}]', "turn 0 "),
        (b'[[{"type": "tool_use", "name": "a", "input": []}]]', "turn 0 "),
        (b'[[{"type": "tool_use", "name": ""}]]', "turn 0 "),
        (b'[[], {"type": "text", "text": "a"}]', "turn 0 "),
        (
            b'[[{"type": "tool_use", "name": "a", "id": "t"}], [{"type": "tool_use", "name": "a", "id": "t"}]]',
            "turn 1 ",
        ),
        (b'["hello"]', "turn 0 "),
    ],
)
def test_a_script_that_is_none_is_refused_with_the_place(script: bytes, told: str) -> None:
    with pytest.raises(Error, match=told) as refused:
        read_script(script)

    assert refused.value.code == "validation_error"
    assert refused.value.hint
