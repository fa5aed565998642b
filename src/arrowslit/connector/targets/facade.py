"""Façade: makes a server that speaks JSON-RPC line by line one Streamable HTTP endpoint, for both eras of MCP."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from arrowslit.clock import Clock
from arrowslit.connector.targets.conversations import answers, era, message
from arrowslit.connector.targets.conversations.chores import Chores
from arrowslit.connector.targets.conversations.heartbeat import Heartbeat
from arrowslit.connector.targets.conversations.house import House
from arrowslit.connector.targets.conversations.manner import legacy_manner, modern_manner
from arrowslit.connector.targets.conversations.saved import SavedSessions
from arrowslit.connector.targets.conversations.session import SESSION_HEADER, Session
from arrowslit.connector.targets.conversations.sessions import Sessions
from arrowslit.connector.targets.conversations.shared import Shared, Silent
from arrowslit.connector.targets.conversations.supply import Supply
from arrowslit.connector.targets.coroutine import CoroutineTarget
from arrowslit.connector.targets.processes.channel import Program
from arrowslit.connector.targets.target import NotStarted, Reply, Request
from arrowslit.errors import PARSE_ERROR, Error
from arrowslit.ids import RandomBytes

logger = logging.getLogger(__name__)


class Facade(CoroutineTarget):
    """A Target over a Program. Legacy clients get a process per MCP session, modern clients share one.

    `state` is the folder for sessions, which survive a restart in it. `legacy`: the program can only be of that era,
    and need not be there yet. `spare`: keep a server started ahead while sessions begin. A Facade is entered once.
    """

    def __init__(
        self,
        program: Program,
        *,
        clock: Clock,
        random: RandomBytes,
        state: Path,
        legacy: bool = False,
        spare: bool = False,
    ) -> None:
        self._program = program
        self._legacy = legacy
        self._chores = Chores()
        self._supply = Supply(program, clock, self._chores, ahead=spare)
        self._house = House(self._supply, clock, random, Heartbeat(clock), self._chores)
        self._health = self._house.health
        self._shared = Shared(self._house)
        self._sessions = Sessions(self._house, SavedSessions(state))
        self._modern = False
        self._opened = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._program)
            await stack.enter_async_context(self._chores)
            self._sessions.restore()
            self._modern = await self._find_era() if not self._legacy else await self._look()
            self._chores.start(self._sessions.keep_house())
            self._chores.start(self._house.heartbeat.run())
            self._opened = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sessions.close_streams()
        await self._opened.__aexit__(kind, error, trace)

    async def exchange(self, request: Request, reply: Reply) -> None:
        """CoroutineTarget: answer one HTTP request."""
        if request.method == "POST":
            await self._post(request, reply)
        elif request.method not in ("GET", "DELETE") or _modern_header(request):
            allow = "POST" if _modern_header(request) else "POST, GET, DELETE"
            answers.refuse(reply, 405, "Method Not Allowed", headers=(("allow", allow),))
        elif (session := self._session(request, reply)) is None:
            return
        elif request.method == "GET":
            manner = legacy_manner(request.header("accept"), request.header(era.VERSION_HEADER))
            await session.listen(reply, manner, request.header("last-event-id"))
        else:
            self._sessions.end(session)
            reply.head(200, ())

    def state(self) -> Mapping[str, object]:
        """Target: facts for `status`: `era` is `legacy` or `dual` (a process serves one era, the target both)."""
        wait = self._shared.wait if self._modern else self._sessions.wait
        return {
            "ready": self._chores.open and wait == 0,
            "detail": f"{self._health.last_error}; the next start is in {wait:.0f} s" if wait else None,
            "era": "dual" if self._modern else "legacy",
            "processes": self._supply.running,
            "sessions": len(self._sessions),
            "restarts": self._health.restarts,
            "last_error": self._health.last_error,
        }

    async def _post(self, request: Request, reply: Reply) -> None:
        try:
            posted = message.read_posted(request.body)
        except ValueError:
            answers.refuse(reply, 400, "Parse error", code=PARSE_ERROR)
            return
        accept, version = request.header("accept"), request.header(era.VERSION_HEADER)
        modern = era.asks_modern(posted, version)
        if version is None and posted.method == "initialize":
            version = message.text(posted.params.get("protocolVersion"))
        manner = modern_manner(accept) if modern else legacy_manner(accept, version)
        if modern and self._modern:
            await self._shared.post(posted, reply, manner, dict(request.headers))
        elif modern and posted.method != "initialize":
            # What a legacy server answers; clients of both eras then fall back to `initialize` (reference/mcp.md 1.3).
            answers.refuse(reply, 400, "Bad Request: Missing session ID", request_id=posted.id)
        elif posted.method == "initialize" and posted.id is not None and request.header(SESSION_HEADER) is None:
            await self._sessions.initialize(posted, reply, manner)
        elif (session := self._session(request, reply, posted.id)) is not None:
            await session.post(posted, reply, manner)

    def _session(self, request: Request, reply: Reply, request_id: message.RequestId | None = None) -> Session | None:
        """The session that a request names; None if it names none that is known, which has then been said."""
        session_id = request.header(SESSION_HEADER)
        if session_id is None:
            answers.refuse(reply, 400, "Bad Request: Missing session ID", request_id=request_id)
            return None
        session = self._sessions.get(session_id)
        if session is None:
            answers.refuse(reply, 404, "Session not found", request_id=request_id)
        return session

    async def _look(self) -> bool:
        """Whether a legacy server knows the modern era: it does not. Says in the log if it does not answer yet."""
        try:
            await self._shared.shake_hands()
        except (NotStarted, Silent) as error:
            self._health.last_error = str(error)
            logger.warning("the target does not answer yet: %s", error)
        return False

    async def _find_era(self) -> bool:
        """Whether the server knows the modern era. Raises Error `target_failed` if it does not work at all."""
        try:
            try:
                return await self._shared.probe()
            except Silent:
                await self._shared.shake_hands()  # a legacy server may die of a question that it does not know
                return False
        except NotStarted as error:
            raise Error("target_failed", str(error), hint=self._program.hint("")) from None
        except Silent as silent:
            words = silent.last_words
            raise Error("target_failed", str(silent), hint=self._program.hint(words), stderr=words) from None


def _modern_header(request: Request) -> bool:
    return era.names_modern(request.header(era.VERSION_HEADER))
