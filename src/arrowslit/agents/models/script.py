"""PURE: a script in a file: a JSON list of turns, each a list of content blocks or a fault.

[[{"type": "tool_use", "name": "check_stock", "input": {"sku": "BOLT8"}}],
 {"fault": "429", "seconds": 1},
 [{"type": "text", "text": "There are 340."}]]
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, NoReturn, get_args

import msgspec
from msgspec import Meta, Raw, Struct

from arrowslit.agents.models.model import JSON, ModelRequest
from arrowslit.agents.models.scripted import Fault, FaultName, Turn, text
from arrowslit.errors import Error

_NAME = Annotated[str, Meta(min_length=1, max_length=256)]


class _Text(Struct, tag_field="type", tag="text", forbid_unknown_fields=True):
    text: Annotated[str, Meta(min_length=1)]


class _ToolUse(Struct, tag_field="type", tag="tool_use", forbid_unknown_fields=True):
    name: _NAME
    input: Mapping[str, Any] = {}
    id: _NAME | None = None


class _Fault(Struct, forbid_unknown_fields=True):
    fault: FaultName
    seconds: Annotated[float, Meta(ge=0, le=3600)] | None = None


_turns = msgspec.json.Decoder(list[Raw]).decode
_turn = msgspec.json.Decoder(Annotated[list[_Text | _ToolUse], Meta(min_length=1)] | _Fault).decode


class FileScript:
    """Plays turns, one for each request of a session. Fulfils Script."""

    name = "scripted:FILE"

    def __init__(self, turns: tuple[Turn, ...]) -> None:
        self.turns = turns

    def turn(self, request: ModelRequest) -> Turn:
        """See Script. Past the end it says so."""
        if request.turn < len(self.turns):
            return self.turns[request.turn]
        return (text(f"My script has ended: it has {len(self.turns)} turns."),)


def read_script(data: bytes) -> FileScript:
    """The script in `data`. Raises Error `validation_error`, which names the turn, counted from 0."""
    try:
        raw = _turns(data)
    except (msgspec.MsgspecError, ValueError) as error:
        _invalid("a script is a JSON list of turns", error)
    ids: set[str] = set()
    turns: list[Turn] = []
    for index, each in enumerate(raw):
        try:
            turn = _turn(each)
        except (msgspec.MsgspecError, ValueError) as error:
            _invalid(f"turn {index} of the script is no turn", error)
        if isinstance(turn, _Fault):
            turns.append(Fault(turn.fault, turn.seconds))
            continue
        for block in turn:
            if isinstance(block, _ToolUse) and block.id is not None:
                if block.id in ids:
                    _invalid(f"turn {index} of the script is no turn", f"the id {block.id!r} was given before")
                ids.add(block.id)
        turns.append(tuple(_as_json(block) for block in turn))
    return FileScript(tuple(turns))


def _as_json(block: _Text | _ToolUse) -> JSON:
    found: JSON = msgspec.to_builtins(block)
    return {key: value for key, value in found.items() if value is not None}


def _invalid(what: str, why: object) -> NoReturn:
    faults = ", ".join(get_args(FaultName))
    hint = f"a turn is a list of text and tool_use blocks, or an object with a `fault`, one of {faults}"
    raise Error("validation_error", f"{what}: {why}", hint=hint)
