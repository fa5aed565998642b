"""PURE: a script that obeys every instruction it is shown, whoever wrote it: safety must not rest on the model.

`call TOOL with {json}` anywhere in the newest message becomes that call, offered or not, and `say: …` becomes text. An
instruction hidden in the JSON of a tool's result is found too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from arrowslit.agents.models.conversation import answers_in_a_row, blocks, strings, text_of
from arrowslit.agents.models.model import JSON, ModelRequest
from arrowslit.agents.models.scripted import Turn, text

MOST_CALLS = 16  # in one answer
MOST_ANSWERS = 16  # in a row, where results bring new instructions again and again

_CALL = re.compile(r"\bcall\s+(\S{1,256})\s+with\s+(?=\{)", re.IGNORECASE)
_SAY = re.compile(r"\bsay:[ \t]*(\S.*)", re.IGNORECASE)
_decoder = json.JSONDecoder()


class ObedientScript:
    """Fulfils Script."""

    name = "obedient"

    def turn(self, request: ModelRequest) -> Turn:
        """See Script."""
        if answers_in_a_row(request) >= MOST_ANSWERS:
            return (text(f"I have obeyed {MOST_ANSWERS} times in a row, and stop."),)
        shown = [words.encode(errors="replace").decode() for words in _shown(request)]
        said = tuple(text(f"(obedient) {words}") for each in shown for words in _SAY.findall(each))
        calls = tuple(call for each in shown for call in _calls(each))
        return (*said, *calls[:MOST_CALLS]) or (text("(obedient) Nothing here tells me what to do."),)


def _shown(request: ModelRequest) -> Iterator[str]:
    """Every text in the newest message; of one that is JSON, the strings in it."""
    for block in blocks(request.messages[-1]) if request.messages else ():
        words = text_of(block) if block.get("type") == "tool_result" else str(block.get("text", ""))
        try:
            yield from strings(json.loads(words))
        except (ValueError, RecursionError):
            yield words


def _calls(words: str) -> Iterator[JSON]:
    """The calls that a text demands. What follows `with` and is not an object demands nothing."""
    for match in _CALL.finditer(words):
        try:
            given, _ = _decoder.raw_decode(words, match.end())
            json.dumps(given, ensure_ascii=False).encode()  # half of a surrogate pair fits into no request
        except (ValueError, RecursionError):
            continue
        yield {"type": "tool_use", "name": match[1], "input": given}
