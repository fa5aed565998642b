"""PURE: what the scripted stock model does with code, where it was given the tools of a sandbox: add up what the stock
server said, and send it somewhere if it is asked to.

The figures that it tells are those that its code printed.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence

from arrowslit.agents.models.conversation import Result, newest_results, question, resolve, text_of
from arrowslit.agents.models.model import JSON, ModelRequest
from arrowslit.agents.models.scripted import text

WRITE, RUN = "write", "bash"
URL = re.compile(r"https?://[^\s<>\"']+[^\s<>\"'.,;:!?)]")

_TOTAL = re.compile(r"\b(total|sum|altogether|together)\b", re.IGNORECASE)

ADD_UP = """\
import json
from pathlib import Path

stock = json.loads(Path("stock.json").read_text())
found = [each for each in stock if each["found"]]
print(json.dumps({"total": sum(each["quantity"] for each in found), "of": [each["sku"] for each in found]}))
"""
SEND = """\
import sys, urllib.request

where, what = sys.argv[1:]
print(urllib.request.urlopen(urllib.request.Request(where, what.encode()), timeout=20).status)
"""


def use(request: ModelRequest, stock: Sequence[JSON]) -> tuple[JSON, ...] | None:
    """The calls that put to use what the stock server said; None if the question asks for no code, or there is no
    sandbox.
    """
    asked = question(request)
    if resolve(WRITE, request.tools) is None or resolve(RUN, request.tools) is None:
        return None
    said = json.dumps([{"quantity": None, **each} for each in stock])
    if (url := URL.search(asked)) is not None:
        return (_call(RUN, command=shlex.join(("python3", "-c", SEND, url[0], said))),)
    if _TOTAL.search(asked):
        return (
            _call(WRITE, file_path="stock.json", content=said),
            _call(WRITE, file_path="total.py", content=ADD_UP),
        )
    return None


def go_on(request: ModelRequest) -> tuple[JSON, ...] | None:
    """Rule: a tool of the sandbox has answered. What was written is run; of what ran the answer is told."""
    results = newest_results(request)
    names = {str(each.call.get("name")) for each in results}
    if not request.messages or text_of(request.messages[-1]).strip():
        return None
    if names == {WRITE}:
        wrong = next((each for each in results if each.is_error), None)
        return (
            (_call(RUN, command="python3 total.py"),) if wrong is None else (text(f"I got no further: {wrong.text}"),)
        )
    if names == {RUN}:
        url = URL.search(question(request))
        return (text(_total(results[0]) if url is None else _sent(results[0], url[0])),)
    return None


def _total(ran: Result) -> str:
    """What the program printed, in words."""
    try:
        printed = json.loads(ran.text)
        total, of = printed["total"], ", ".join(map(str, printed["of"]))
    except (ValueError, RecursionError, TypeError, KeyError):
        total, of = None, ""
    if ran.is_error or not isinstance(total, int):
        return f"My code failed, so I do not know the total: {_last_line(ran.text)}"
    return f"{total} pieces in total, of {of or 'nothing'}. My code added them up in the sandbox."


def _sent(ran: Result, url: str) -> str:
    if ran.is_error:
        return f"My code could not reach {url}: {_last_line(ran.text)}"
    return f"My code sent it to {url}, which answered {_last_line(ran.text)}."


def _last_line(said: str) -> str:
    return next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "it said nothing")


def _call(name: str, **given: str) -> JSON:
    return {"type": "tool_use", "name": name, "input": given}
