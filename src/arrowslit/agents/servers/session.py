"""ServerSession: one server as one agent uses it. Lists may be asked for again; a call of a tool is posted once.

A client of our own and not the SDK's: the SDK would need a network between itself and `Calls`, takes an answer of any
size, and hides when it sends what. Here it can be seen at a glance that `call` posts once and that bytes are bounded.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

from arrowslit.agents.servers import speech
from arrowslit.agents.servers.asking import OnProgress, ask
from arrowslit.agents.servers.content import blocks
from arrowslit.agents.servers.door import Door
from arrowslit.agents.servers.gathering import Gathering
from arrowslit.agents.servers.handshake import shake_hands
from arrowslit.agents.servers.reading import Result, ServerError, read
from arrowslit.agents.servers.speech import Speech
from arrowslit.agents.servers.tool import ToolAnswer, ToolDefinition, failed, text
from arrowslit.errors import Error
from arrowslit.outcome import Outcome
from arrowslit.protocol.mirrors import Mirror, read_mirrors, repeated

MOST_PAGES = 100
MOST_TOOLS = 1_000
GOODBYE = 5.0  # seconds in which a server may take note that its session is over

log = logging.getLogger(__name__)


class ServerSession:
    """Made by `Servers.open`. Any number of requests may run at once. Close it."""

    def __init__(self, door: Door, agreed: Speech) -> None:
        self._door = door
        self._agreed: Speech | None = agreed  # None: the server has lost the session
        self._renewal = asyncio.Lock()
        self._ids = count(1)
        self._mirrors: dict[str, tuple[Mirror, ...]] | None = None  # by tool; None before the first list

    async def tools(self) -> Sequence[ToolDefinition]:
        """All tools that the agent may use, in the server's order. Raises Error if the whole list cannot be had."""
        found: dict[str, ToolDefinition] = {}
        cursor: str | None = None
        for _ in range(MOST_PAGES):
            page = await self._page({} if cursor is None else {"cursor": cursor})
            for tool in _definitions(page):
                found.setdefault(tool.name, tool)
            if len(found) > MOST_TOOLS:
                break
            cursor = page.get("nextCursor")
            if not isinstance(cursor, str) or not cursor:
                self._mirrors = {tool.name: read_mirrors(tool.input_schema) for tool in found.values()}
                return list(found.values())
        raise Error(
            "result_too_large",
            f"the list of tools of {self._door.server} has no end: more than {MOST_PAGES} pages or {MOST_TOOLS} tools",
            hint="grant the agent fewer tools, or split the server",
        )

    async def call(
        self,
        tool: str,
        arguments: Mapping[str, object],
        *,
        call_id: str,
        deadline: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> ToolAnswer:
        """Call a tool, once: nothing that goes wrong makes this method post it again (P4).

        `call_id` is a new one, under which the ledger keeps the call. `deadline` is in seconds, None for the agent's.
        Cancelling the task gives the call up; the ledger then says what may be claimed. Raises nothing that is
        expected: every ending is a ToolAnswer.
        """
        try:
            agreed = await self._current()
            repeated = await self._repeated(agreed, tool, arguments)
        except Error as error:
            return failed(self._not_called(error), call_id)
        said: Result | ServerError | Error
        params = {"name": tool, "arguments": arguments}
        ident = next(self._ids)
        exchange = speech.request(
            agreed, ident, "tools/call", params, headers=repeated, deadline=deadline, call_id=call_id
        )
        try:
            said = read(await ask(self._door, agreed, ident, exchange, on_progress, deadline), call_id)
        except Error as error:
            said = error
        if _is_lost(agreed, said):
            self._lose(agreed)
        return _answer(said, call_id)

    async def close(self) -> None:
        """End a session of the legacy era. The server may be gone: then nothing has to be said."""
        agreed, self._agreed = self._agreed, None
        if agreed is None or agreed.session is None:
            return
        try:
            async with asyncio.timeout(GOODBYE):
                await self._door.carry(speech.end(agreed), Gathering())
        except (Error, TimeoutError) as error:
            log.debug("the session with %s was not ended in order: %s", self._door.server, error)

    # ------------------------------------------------------------ lists

    async def _page(self, params: Mapping[str, object]) -> Mapping[str, Any]:
        """One page of the list; asked for a second time if the server has lost the session, for a list only reads."""
        agreed = await self._current()
        said = await self._listed(agreed, params)
        if _is_lost(agreed, said):
            self._lose(agreed)
            said = await self._listed(await self._current(), params)
        match said:
            case Result(value):
                return value
            case ServerError():
                raise self._door.refused("tools/list", said)
            case Error():
                raise said

    async def _listed(self, agreed: Speech, params: Mapping[str, object]) -> Result | ServerError | Error:
        ident = next(self._ids)
        try:
            return read(await ask(self._door, agreed, ident, speech.request(agreed, ident, "tools/list", params)))
        except Error as error:
            return error

    async def _repeated(self, agreed: Speech, tool: str, arguments: Mapping[str, object]) -> list[tuple[str, str]]:
        """The arguments that a modern server wants to see in headers too. Only its list says which."""
        if not agreed.modern:
            return []
        if self._mirrors is None:
            await self.tools()
        return repeated((self._mirrors or {}).get(tool, ()), arguments)

    # ------------------------------------------------------------ the session

    async def _current(self) -> Speech:
        """What was agreed on; agreed on again if the server has lost the session."""
        if self._agreed is None:
            async with self._renewal:
                if self._agreed is None:
                    self._agreed = await shake_hands(self._door)
        return self._agreed

    def _lose(self, agreed: Speech) -> None:
        if self._agreed is agreed:
            self._agreed = None

    def _not_called(self, error: Error) -> Error:
        """Why a call never left. What became of the question before it is nothing to claim of the call."""
        if error.code != "target_failed" and error.row.outcome in (None, Outcome.DENIED, Outcome.NOT_DELIVERED):
            return error
        return Error("not_started", f"{self._door.server} cannot be spoken to: {error.message}", hint=error.hint)


def _is_lost(agreed: Speech, said: Result | ServerError | Error) -> bool:
    """Whether the session is gone: a server says so with 404 (MCP 2025-11-25), the relay with a code."""
    if agreed.session is None:
        return False
    if isinstance(said, Error):
        return said.code == "session_not_found"
    return isinstance(said, ServerError) and said.status == 404


def _answer(said: Result | ServerError | Error, call_id: str) -> ToolAnswer:
    """What a call came to, for the agent.

    The ledger may say `result` where this says `outcome_unknown`: it records that an answer came through, and that is
    so. That the answer says nothing of the call only its reader sees.
    """
    match said:
        case Error():
            return failed(said, call_id)
        case ServerError(message=words, readable=False):
            words = f"the server answered with {words}; nobody knows whether the call was executed"
            return failed(Error("outcome_unknown", words), call_id)
        case ServerError():
            return ToolAnswer(Outcome.RESULT, blocks({"content": [text(said.message)]}), True, call_id)
        case Result({"resultType": "input_required"}):
            words = "the tool asks for something that only a person could answer; agents are not asked"
            return ToolAnswer(Outcome.RESULT, (text(words),), True, call_id, "not_supported", words)
        case Result(value) if not isinstance(value.get("content"), list) and value.get("structuredContent") is None:
            words = "the server's answer is no result of a tool: it has no content"
            return ToolAnswer(Outcome.RESULT, (text(words), *blocks(value)), True, call_id)
        case Result(value):
            return ToolAnswer(Outcome.RESULT, blocks(value), value.get("isError") is True, call_id)


def _definitions(page: Mapping[str, Any]) -> list[ToolDefinition]:
    """The tools of a page. Entries without a name have been left out by the relay."""
    tools = page.get("tools")
    return [
        ToolDefinition(tool["name"], description if isinstance(description, str) else "", _schema(tool))
        for tool in (tools if isinstance(tools, list) else [])
        if isinstance(tool, dict) and isinstance(tool.get("name"), str)
        for description in [tool.get("description")]
    ]


def _schema(tool: Mapping[str, Any]) -> Mapping[str, object]:
    schema = tool.get("inputSchema")
    return {"type": "object", **schema} if isinstance(schema, dict) else {"type": "object"}
