"""Toolbox: the MCP servers of one session while the relay takes it further: what they offer, and one call of a tool."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from arrowslit.agents.servers.tool import ToolAnswer, ToolDefinition
from arrowslit.agents.turns.offer import servers
from arrowslit.clock import Clock
from arrowslit.errors import Error
from arrowslit.outcome import Outcome
from arrowslit.principal import Principal, Scope
from arrowslit.session import Session

LIST_AGAIN = (0.5, 1.0, 2.0)  # seconds between attempts: a connector that is on its way back needs about that
MOST_KEPT = 4096  # lists of tools

_log = logging.getLogger(__name__)


class ServerSession(Protocol):
    """What the loop needs of `servers.session.ServerSession`, which says more."""

    async def tools(self) -> Sequence[ToolDefinition]: ...

    async def call(self, tool: str, arguments: Mapping[str, object], *, call_id: str) -> ToolAnswer: ...

    async def close(self) -> None: ...


class Servers(Protocol):
    """What the loop needs of `servers.servers.Servers`, which says more."""

    async def open(self, principal: Principal, agent_id: str, server: str) -> ServerSession: ...


class Kept:
    """The last good list of tools of each server, as one tenant saw it through one version of one agent.

    With it a session goes on while a tunnel is down: the model asks for the tool, and learns that it cannot be had.
    """

    def __init__(self) -> None:
        self._lists: OrderedDict[tuple[str | None, str, int, str], Sequence[ToolDefinition]] = OrderedDict()

    def get(self, session: Session, server: str) -> Sequence[ToolDefinition] | None:
        """The list, None if there never was one."""
        return self._lists.get(self._key(session, server))

    def put(self, session: Session, server: str, tools: Sequence[ToolDefinition]) -> None:
        """Keep a list."""
        key = self._key(session, server)
        self._lists[key] = tools
        self._lists.move_to_end(key)
        while len(self._lists) > MOST_KEPT:
            self._lists.popitem(last=False)

    @staticmethod
    def _key(session: Session, server: str) -> tuple[str | None, str, int, str]:
        return session.tenant, session.agent_id, session.agent_version, server


@dataclass(frozen=True, slots=True)
class Listed:
    """The tools of those servers of which they are known, and why the others, or the newest list, could not be had.

    `news` are the servers among `failures` of which that was not said before.
    """

    tools: Mapping[str, Sequence[ToolDefinition]]
    failures: Mapping[str, Error]
    news: frozenset[str]


class Toolbox:
    """Opens a server when it is first needed, and closes all of them at its exit. Calls may run at once."""

    def __init__(self, servers: Servers, kept: Kept, session: Session, clock: Clock) -> None:
        self._servers = servers
        self._kept = kept
        self._session = session
        self._clock = clock
        self._open: dict[str, ServerSession] = {}
        self._opening: dict[str, asyncio.Lock] = {}
        self._listed: dict[str, Sequence[ToolDefinition]] = {}
        self._told: set[str] = set()  # servers whose failure has been reported

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*(session.close() for session in self._open.values()))

    async def list(self) -> Listed:
        """What the servers of the session's agent offer: asked once, then remembered. A failure is news once."""
        names = servers(self._session.definition)
        errors = zip(names, await asyncio.gather(*map(self._list, names)), strict=True)
        failures = {name: error for name, error in errors if error is not None}
        news = frozenset(failures.keys() - self._told)
        self._told |= news
        return Listed({name: self._listed[name] for name in names if name in self._listed}, failures, news)

    async def server(self, name: str) -> ServerSession:
        """A conversation with that server, opened if it is not open. Raises Error."""
        async with self._opening.setdefault(name, asyncio.Lock()):
            if name not in self._open:
                self._open[name] = await self._servers.open(caller(self._session), self._session.agent_id, name)
            return self._open[name]

    async def _list(self, name: str) -> Error | None:
        if name in self._listed:
            return None
        kept = self._kept.get(self._session, name)
        for wait in (*LIST_AGAIN, None):
            try:
                server = await self.server(name)
                self._listed[name] = await server.tools()
            except Error as error:
                _log.info("session %s: no list of tools from %s: %s", self._session.id, name, error)
                if kept is None and wait is not None and name not in self._told and _passing(error):
                    await self._clock.sleep(wait)
                    continue
                if kept is not None:
                    self._listed[name] = kept
                return error
            self._kept.put(self._session, name, self._listed[name])
            break
        return None


def _passing(error: Error) -> bool:
    """Whether it may go better in a moment. A list only reads: it may be asked for again whatever became of it."""
    return error.row.retryable or error.row.outcome is Outcome.OUTCOME_UNKNOWN


def caller(session: Session) -> Principal:
    """On whose behalf the loop calls: whoever made the session, with their tenant, for this agent and nothing else."""
    return Principal(session.principal_id, session.tenant, frozenset({Scope.INVOKE}), frozenset({session.agent_id}))
