from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from arrowslit.agents.models.model import JSON
from arrowslit.agents.models.stock import StockScript
from tests.agents.models.server import request

TOOLS = ("inventory__check_stock", "write", "bash")
TOTAL = "How many BOLT8 and GEAR12 do we have in total?"
SEND = "Look up BOLT8, and send it to https://collector.example/stock."
STOCK = {
    "BOLT8": {"sku": "BOLT8", "found": True, "quantity": 340, "restock_date": None},
    "GEAR12": {"sku": "GEAR12", "found": False},
}


def said(question: str, *exchanges: tuple[JSON, ...]) -> list[JSON]:
    """A question, and then calls with what came back of each, in turns."""
    messages: list[JSON] = [{"role": "user", "content": [{"type": "text", "text": question}]}]
    for number, exchange in enumerate(exchanges):
        calls, results = [], []
        for index, each in enumerate(exchange):
            use = f"toolu_{number}_{index}"
            calls.append({"type": "tool_use", "id": use, "name": each["name"], "input": each["input"]})
            content = [{"type": "text", "text": each["text"]}]
            failed = each.get("is_error", False)
            results.append({"type": "tool_result", "tool_use_id": use, "content": content, "is_error": failed})
        messages += [{"role": "assistant", "content": calls}, {"role": "user", "content": results}]
    return messages


def looked_up(*skus: str) -> tuple[JSON, ...]:
    """The exchange with the stock server."""
    return tuple({"name": TOOLS[0], "input": {"sku": sku}, "text": json.dumps(STOCK[sku])} for sku in skus)


def turn(*messages: JSON, tools: tuple[str, ...] = TOOLS) -> list[JSON]:
    """What the model says next."""
    answer = StockScript().turn(request(*messages, tools=tools))
    assert isinstance(answer, tuple)
    return list(answer)


def test_a_total_is_computed_by_the_code_that_it_writes(tmp_path: Path) -> None:
    stock = looked_up("BOLT8", "GEAR12")
    writes = turn(*said(TOTAL, stock))
    for each in writes:
        (tmp_path / each["input"]["file_path"]).write_text(each["input"]["content"])
    wrote = tuple({**each, "text": "wrote"} for each in writes)
    (run,) = turn(*said(TOTAL, stock, wrote))
    printed = subprocess.run(
        [sys.executable, *run["input"]["command"].split()[1:]], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    (answer,) = turn(*said(TOTAL, stock, wrote, ({**run, "text": printed},)))

    assert [each["name"] for each in (*writes, run)] == ["write", "write", "bash"]
    assert "340 pieces in total, of BOLT8." in answer["text"]


@pytest.mark.parametrize("printed", ["Traceback\nKeyError: 'sku'\n", "[]", '{"total": "many", "of": []}', ""])
def test_without_a_figure_from_its_code_it_tells_none(printed: str) -> None:
    run = {"name": "bash", "input": {"command": "python3 total.py"}, "text": printed}

    (answer,) = turn(*said(TOTAL, looked_up("BOLT8"), (run,)))

    assert "I do not know the total" in answer["text"]


def test_what_could_not_be_looked_up_is_not_added_up() -> None:
    lost = {**looked_up("GEAR12")[0], "text": "no answer", "is_error": True}

    (answer,) = turn(*said(TOTAL, (*looked_up("BOLT8"), lost)))

    assert "I could not check GEAR12" in answer["text"]


def test_what_it_was_told_to_send_it_sends_with_code_and_says_what_came_of_it() -> None:
    (run,) = turn(*said(SEND, looked_up("BOLT8")))
    refused = {**run, "text": "Traceback\nOSError: 403 refused\n", "is_error": True}
    (answer,) = turn(*said(SEND, looked_up("BOLT8"), (refused,)))

    assert run["name"] == "bash"
    assert "https://collector.example/stock '[{" in run["input"]["command"]
    assert answer["text"].endswith("My code could not reach https://collector.example/stock: OSError: 403 refused")


def test_a_host_with_digits_is_no_sku() -> None:
    (call,) = turn(*said("Send BOLT8 to https://h2.example/v1"))

    assert call["input"] == {"sku": "BOLT8"}


def test_without_a_sandbox_it_tells_what_it_looked_up() -> None:
    (answer,) = turn(*said(TOTAL, looked_up("BOLT8")), tools=TOOLS[:1])

    assert "BOLT8: 340 in stock." in answer["text"]
