"""What looks after sandbox work, on a real store, the official SDK in front of it, and sessions that need a worker."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

import httpx2
from anthropic import AsyncAnthropic
from starlette.applications import Starlette

from arrowslit.agent import Builtin, CustomTool, Definition, OnUnknown
from arrowslit.agents.api.resource import Doorkeeper
from arrowslit.agents.api.work import WorkApi
from arrowslit.agents.sessions.change import Change, Draft
from arrowslit.agents.sessions.log import Log
from arrowslit.agents.sessions.state import State
from arrowslit.agents.work.polling import Polling
from arrowslit.agents.work.reaper import Reaper
from arrowslit.edge.auth import WrongCredentials
from arrowslit.environment import Environment
from arrowslit.session import Event, EventFilter, Session
from arrowslit.store.open import Store
from tests.store.kit import ManualClock

DEFINITION = Definition(
    "assistant",
    {"id": "none"},
    builtin=Builtin(),
    custom=(CustomTool("charge", "", {"type": "object"}),),
    on_unknown=OnUnknown.TELL,
)
MESSAGE = Draft("user.message", {"content": [{"type": "text", "text": "hello"}]}, processed=False)
ASKED = Draft("span.model_request_end", {"is_error": False, "model_usage": {}})


def use(call_id: str, verdict: str = "allow") -> Draft:
    """A call that a sandbox worker runs."""
    return Draft("agent.tool_use", {"name": "bash", "input": {}, "evaluated_permission": verdict}, call_id)


def answer(call_id: str) -> Draft:
    """Its result, as a worker sends it."""
    content = [{"type": "text", "text": "done"}]
    return Draft("user.tool_result", {"tool_use_id": call_id, "content": content, "is_error": False})


@dataclass(frozen=True, slots=True)
class Servant:
    """What looks after work, without the loop that asks a model: tests say what the model said."""

    store: Store
    clock: ManualClock
    log: Log
    reaper: Reaper
    environment: Environment

    async def key(self) -> str:
        """The id of another worker's key."""
        return (await self.store.environments.create_key(self.environment.id))[0].id

    async def session(self, session_id: str = "sesn_1") -> None:
        """A new session, whose first message begins a turn, so that a worker is wanted."""
        session = Session(
            id=session_id,
            tenant=None,
            principal_id="key_1",
            agent_id="agent_1",
            agent_version=1,
            definition=DEFINITION,
            environment_id=self.environment.id,
            created_at=self.clock.now(),
        )
        await self.log.create(session, Change((MESSAGE,)))

    async def add(self, *drafts: Draft, session_id: str = "sesn_1") -> None:
        """What happens in the session."""
        await self.log.change(session_id, lambda _session, _state: Change(drafts))

    async def calls(self, *drafts: Draft, session_id: str = "sesn_1", seen: bool = True) -> None:
        """The model has answered with these calls, and a worker has seen them or not."""
        await self.add(*drafts, ASKED, session_id=session_id)
        if seen:
            self.log.served_to_worker(session_id, (await self.state(session_id)).seq)

    async def state(self, session_id: str = "sesn_1") -> State:
        """What the session has come to."""
        return (await self.log.read(session_id))[1]

    async def results(self, session_id: str = "sesn_1") -> dict[str, object]:
        """The text of the result of each sandbox call."""
        found = await self.store.sessions.events(session_id, EventFilter(types=["user.tool_result"]))
        return {str(event.body["tool_use_id"]): _text(event) for event in found}


def application(servant: Servant) -> Starlette:
    """The routes of work."""
    store, clock = servant.store, _LoopClock(servant.clock)
    keeper = Doorkeeper(store.grants, WrongCredentials(clock), store.work, os.urandom, b"c" * 32)
    polling = Polling(store.work, clock)
    work = WorkApi(store.environments, store.work, polling, servant.log, servant.reaper, clock, os.urandom)
    return Starlette(routes=work.routes(keeper))


class _LoopClock:
    """The hour of a clock turned by hand, and durations that pass: a poll really waits."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock

    def now(self) -> float:
        return self._clock.now()

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def sdk(app: Starlette, token: str) -> AsyncAnthropic:
    """The unmodified SDK, as a worker makes one for each bearer. It tries nothing twice: a test sees each answer."""
    client = httpx2.AsyncClient(transport=httpx2.ASGITransport(app))
    return AsyncAnthropic(base_url="http://relay", auth_token=token, api_key=None, max_retries=0, http_client=client)


def _text(event: Event) -> object:
    content = event.body["content"]
    assert isinstance(content, list)
    return content[0]["text"]
