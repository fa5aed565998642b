"""Scripted: a model that asks nobody. What it answers a script decides: a file, rules, or blind obedience.

It says of itself that it is scripted, and hands each request that it receives to a log, so that a test can see what a
model would have seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal, Protocol

import msgspec

from arrowslit.agents.models.conversation import resolve
from arrowslit.agents.models.model import (
    JSON,
    Block,
    Finished,
    ModelEvent,
    ModelFailed,
    ModelRequest,
    ModelUsage,
    Prepared,
    TextDelta,
)
from arrowslit.agents.models.wire import write
from arrowslit.clock import Clock

SCRIPTED = "(scripted model)"
HOST = "scripted"  # what records say instead of a host's name
DELTA = 24  # characters of text at a time, about: an answer is several deltas
BYTES_PER_TOKEN = 4  # usage is estimated: nobody counted

Log = Callable[[bytes], None]
"""Takes one line of JSON with its end: session, turn, messages, tools (names)."""

FaultName = Literal["429", "529", "cut", "malformed_input", "slow"]


@dataclass(frozen=True, slots=True)
class Fault:
    """A request that goes wrong. `seconds` is the pause a 429 or 529 asks for, or how long a slow answer takes."""

    name: FaultName
    seconds: float | None = None


Turn = tuple[JSON, ...] | Fault
"""What is answered: text and tool_use blocks (`id` may be missing), or a fault."""


class Script(Protocol):
    """Decides what a scripted model says. Pure."""

    @property
    def name(self) -> str:
        """What `readyz` calls it."""
        ...

    def turn(self, request: ModelRequest) -> Turn:
        """The answer to this request."""
        ...


class Scripted:
    """Fulfils Model."""

    def __init__(self, script: Script, log: Log | None = None, *, clock: Clock) -> None:
        self._script = script
        self._log = log
        self._clock = clock

    @property
    def facts(self) -> Mapping[str, object]:
        """See Model."""
        return {"provider": self._script.name, "host": HOST, "scripted": True}

    def prepare(self, request: ModelRequest) -> Prepared:
        """See Model. The bytes are those that would leave."""
        return Prepared(request, HOST, write(request))

    async def close(self) -> None:
        """See Model."""

    async def ask(self, prepared: Prepared) -> AsyncGenerator[ModelEvent, None]:
        """See Model."""
        request = prepared.request
        if self._log is not None:
            self._log(_line(request))
        turn = self._script.turn(request)
        if isinstance(turn, Fault):
            async with aclosing(self._fail(turn, prepared)) as events:
                async for event in events:
                    yield event
            return
        answer = tuple(_complete(block, index, request) for index, block in enumerate(turn))
        for index, block in enumerate(answer):
            for delta in _deltas(index, block):
                yield delta
                await asyncio.sleep(0)  # others have their turn, as they would between the pieces of a network
            yield Block(index, block)
        yield _finished(answer, prepared)

    async def _fail(self, fault: Fault, prepared: Prepared) -> AsyncGenerator[ModelEvent, None]:
        """Do what the fault says. Only the slow one comes to an end."""
        match fault.name:
            case "429":
                pause = 1.0 if fault.seconds is None else fault.seconds
                raise ModelFailed("rate_limited", f"{SCRIPTED} answered 429, as its script says", retry_after=pause)
            case "529":
                why = f"{SCRIPTED} answered 529, as its script says"
                raise ModelFailed("overloaded", why, retry_after=fault.seconds)
            case "cut":
                yield TextDelta(0, f"{SCRIPTED} This sentence has no")
                raise ModelFailed("failed", f"{SCRIPTED} broke its answer off, as its script says")
            case "malformed_input":
                yield TextDelta(0, f"{SCRIPTED} Now I call a tool.")
                raise ModelFailed("malformed", f"{SCRIPTED} gave a tool an input that is not JSON, as its script says")
            case "slow":
                seconds = 10.0 if fault.seconds is None else fault.seconds
                async with aclosing(self._slowly(seconds, prepared)) as events:
                    async for event in events:
                        yield event

    async def _slowly(self, seconds: float, prepared: Prepared) -> AsyncGenerator[ModelEvent, None]:
        block = {"type": "text", "text": f"{SCRIPTED} This took {seconds:g} seconds, as my script says."}
        deltas = list(_deltas(0, block))
        for delta in deltas:
            await self._clock.sleep(seconds / len(deltas))
            yield delta
        yield Block(0, block)
        yield _finished((block,), prepared)


def text(words: str) -> JSON:
    """A text block that says who speaks."""
    return {"type": "text", "text": f"{SCRIPTED} {words}"}


def _complete(block: JSON, index: int, request: ModelRequest) -> JSON:
    """A tool_use with the name under which the tool was offered, if it was, and with an id."""
    if block["type"] != "tool_use":
        return block
    return {
        "type": "tool_use",
        "id": block.get("id") or f"toolu_scripted_{request.turn}_{index}",
        "name": resolve(block["name"], request.tools) or block["name"],
        "input": block["input"],
    }


def _deltas(index: int, block: JSON) -> Iterator[TextDelta]:
    """The text of a block, in pieces; nothing for a tool_use."""
    whole = block.get("text", "")
    for at in range(0, len(whole), DELTA):
        yield TextDelta(index, whole[at : at + DELTA])


def _finished(answer: tuple[JSON, ...], prepared: Prepared) -> Finished:
    reason = "tool_use" if any(block["type"] == "tool_use" for block in answer) else "end_turn"
    said = len(msgspec.json.encode(answer))
    return Finished(reason, ModelUsage(len(prepared.body) // BYTES_PER_TOKEN, said // BYTES_PER_TOKEN))


def _line(request: ModelRequest) -> bytes:
    return (
        msgspec.json.encode(
            {
                "session": request.session_id,
                "turn": request.turn,
                "messages": request.messages,
                "tools": [tool.get("name") for tool in request.tools],
            },
            enc_hook=dict,
        )
        + b"\n"
    )
