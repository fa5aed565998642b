"""PURE: a script that answers questions about stock by rule, with the tool `check_stock` of the demo's stock server.

It tells what the tool said and nothing else: what it could not check it says it could not check. Where it was given a
sandbox too, it uses code (`stock_code.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from arrowslit.agents.models import stock_code
from arrowslit.agents.models.conversation import Result, newest_results, question, resolve, text_of
from arrowslit.agents.models.model import JSON, ModelRequest
from arrowslit.agents.models.scripted import Turn, text

TOOL = "check_stock"
MOST = 20  # skus of one question

_WORD = re.compile(r"[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")

Rule = Callable[[ModelRequest], tuple[JSON, ...] | None]
"""An answer, or None where the rule does not fit."""


class StockScript:
    """Fulfils Script: the first rule that fits answers."""

    name = "scripted"

    def turn(self, request: ModelRequest) -> Turn:
        """See Script."""
        return next(answer for rule in RULES if (answer := rule(request)) is not None)


def tell_results(request: ModelRequest) -> tuple[JSON, ...] | None:
    """Tools have answered, and the user has said nothing since (as after an interrupt): say what they said."""
    results = newest_results(request)
    if not results or text_of(request.messages[-1]).strip():
        return None
    return (text(" ".join(map(_told, results))),)


def use_code(request: ModelRequest) -> tuple[JSON, ...] | None:
    """The stock server has answered, certainly in everything, and the question wants more than to be told."""
    results = newest_results(request)
    stock = [_stock(each.text, each.call.get("input", {}).get("sku")) for each in results if not each.is_error]
    known = [each for each in stock if each is not None]
    if not results or len(known) < len(results) or text_of(request.messages[-1]).strip():
        return None
    return stock_code.use(request, known)


def ask_for_stock(request: ModelRequest) -> tuple[JSON, ...] | None:
    """The question names skus: look each of them up, all at once."""
    wanted = skus(stock_code.URL.sub(" ", question(request)))
    if not wanted or resolve(TOOL, request.tools) is None:
        return None
    return tuple({"type": "tool_use", "name": TOOL, "input": {"sku": sku}} for sku in wanted)


def explain(request: ModelRequest) -> tuple[JSON, ...]:
    """Anything else: say what can be asked."""
    offered = ", ".join(str(tool.get("name")) for tool in request.tools) or "none"
    if resolve(TOOL, request.tools) is None:
        can = f"I answer questions about stock, but the tool {TOOL} was not given to me, so I cannot check anything."
    else:
        can = "I answer questions about stock: name the skus, as in: is BOLT8 in stock?"
    return (text(f"{can} My tools: {offered}."),)


RULES: tuple[Rule, ...] = (stock_code.go_on, use_code, tell_results, ask_for_stock, explain)


def skus(words: str) -> list[str]:
    """What may be a sku in a sentence, each once: BOLT8, m8-20, AB-CD; but not 2nd, 10, 2027-01-15 or in-house."""
    found = (word for word in _WORD.findall(words) if len(word) <= 32 and _may_be_sku(word))
    return list(dict.fromkeys(found))[:MOST]


def _may_be_sku(word: str) -> bool:
    if not any(character.isdigit() for character in word):
        return "-" in word and word.isupper()
    return word[0].isalpha() or word.isupper()


def _told(result: Result) -> str:
    """One result in words."""
    sku = result.call.get("input", {}).get("sku")
    if not isinstance(sku, str):
        return f"I have no use for what {result.call.get('name', 'a tool')} answered."
    stock = None if result.is_error else _stock(result.text, sku)
    if stock is None:
        return f"I could not check {sku}, so I do not know."
    if not stock["found"]:
        return f"{sku} is not in the inventory."
    more = stock.get("restock_date")
    when = f", and more is expected on {more}" if more else ""
    return f"{sku}: {stock['quantity'] or 'none'} in stock{when}."


def _stock(said: str, sku: object) -> JSON | None:
    """What the stock server says of that sku; None for anything that it would not say."""
    try:
        stock = json.loads(said)
    except (ValueError, RecursionError):
        return None
    if not isinstance(stock, dict) or not isinstance(sku, str) or stock.get("sku") != sku:
        return None
    if stock.get("found") is False:
        return stock
    quantity, more = stock.get("quantity"), stock.get("restock_date")
    if stock.get("found") is not True or not isinstance(quantity, int) or isinstance(quantity, bool):
        return None
    return stock if more is None or (isinstance(more, str) and _DATE.fullmatch(more)) else None
