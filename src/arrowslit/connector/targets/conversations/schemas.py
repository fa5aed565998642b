"""Schemas: which arguments of a shared server's tools headers repeat. Only its own list of tools says so."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping

import msgspec

from arrowslit.connector.targets.conversations import era, message
from arrowslit.connector.targets.conversations.conversation import Conversation
from arrowslit.connector.targets.conversations.house import House
from arrowslit.connector.targets.conversations.message import Posted
from arrowslit.connector.targets.target import Lost, NotStarted
from arrowslit.protocol.mirrors import Mirror, disagreement, read_mirrors

logger = logging.getLogger(__name__)

FRESH = 60.0
"""Seconds for which the list is good; then it is asked for again beside the calls. A server that says that it changed
is believed at once."""

ANEW = 1.0  # seconds after which a tool that was not in the list is looked for again
LIMIT = 5.0  # seconds for the whole list; without one nothing is checked, as with a server that has no such headers
MOST_PAGES = 64


class _Tool(msgspec.Struct, frozen=True):
    name: str
    schema: msgspec.Raw = msgspec.field(name="inputSchema", default=msgspec.Raw(b"{}"))


class _Page(msgspec.Struct, frozen=True):
    tools: list[_Tool]
    next: str | None = msgspec.field(name="nextCursor", default=None)


class Schemas:
    """Asks the server for its tools when one of them is called."""

    def __init__(self, house: House) -> None:
        self._clock = house.clock
        self._chores = house.chores
        self._name = house.supply.name
        self._mirrors: Mapping[str, tuple[Mirror, ...]] = {}
        self._asked_at: float | None = None
        self._asking: asyncio.Task[None] | None = None

    def forget(self) -> None:
        """The server says that its tools have changed."""
        self._asked_at = None
        self._mirrors = {}

    async def disagreement(self, conversation: Conversation, posted: Posted, headers: Mapping[str, str]) -> str | None:
        """What is wrong with the headers of this `tools/call`, None if nothing is known to be."""
        tool = message.text(posted.params.get("name")) or ""
        if self._old(tool) and self._asking is None and self._chores.open:
            self._asking = self._chores.start(self._learn(conversation))
        if self._asking is not None and tool not in self._mirrors:
            await asyncio.shield(self._asking)
        mirrors = self._mirrors.get(tool, ())
        return disagreement(mirrors, _arguments(posted), headers) if mirrors else None

    def _old(self, tool: str) -> bool:
        """Whether it is time to ask, for the sake of this tool."""
        if self._asked_at is None:
            return True
        age = self._clock.monotonic() - self._asked_at
        return age > FRESH or (tool not in self._mirrors and age > ANEW)

    async def _learn(self, conversation: Conversation) -> None:
        self._asked_at = self._clock.monotonic()
        try:
            async with asyncio.timeout(LIMIT):
                self._mirrors = await _list(conversation)
        except (TimeoutError, NotStarted, Lost, ValueError) as error:
            logger.debug("%s did not say which headers repeat arguments: %s", self._name, error)
        finally:
            self._asking = None


async def _list(conversation: Conversation) -> Mapping[str, tuple[Mirror, ...]]:
    """All tools by name. Raises ValueError for what is no list, and as `Conversation.question` does."""
    found: dict[str, tuple[Mirror, ...]] = {}
    params: dict[str, object] = dict(era.ENVELOPE)
    for _ in range(MOST_PAGES):
        said = await conversation.question("tools/list", params)
        try:
            page = msgspec.json.decode(said.result, type=_Page)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise ValueError(str(error)) from None
        for tool in page.tools:
            found.setdefault(tool.name, _mirrors(tool.schema))
        if page.next is None:
            break
        params["cursor"] = page.next
    return found


def _mirrors(schema: msgspec.Raw) -> tuple[Mirror, ...]:
    return read_mirrors(msgspec.json.decode(schema)) if b"x-mcp-header" in bytes(schema) else ()


def _arguments(posted: Posted) -> object:
    """The arguments with whole numbers as they are; none where a number is too long to be repeated anywhere."""
    try:
        return json.loads(bytes(posted.params.get("arguments", b"{}")))
    except (ValueError, RecursionError):
        return {}
