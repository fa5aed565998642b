"""Sessions behind a real door on a free port: agents and keys in a store, sessions in the double, nobody runs them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import anthropic
from starlette.applications import Starlette

from arrowslit.agent import Agent, Builtin, CustomTool, Definition
from arrowslit.agents.api.events import EventsApi
from arrowslit.agents.api.resource import Doorkeeper
from arrowslit.agents.api.sessions import SessionsApi
from arrowslit.agents.api.stream import StreamApi
from arrowslit.agents.sessions.change import Change, Draft
from arrowslit.agents.sessions.log import Changed, Log
from arrowslit.credential import CredentialKind, encode
from arrowslit.edge.auth import WrongCredentials
from arrowslit.environment import Environment
from arrowslit.principal import Scope, Tenant
from arrowslit.store.open import Store
from arrowslit.testing.sessions import MemorySessions
from arrowslit.work import Worker
from tests.store.kit import ManualClock, definition
from tests.support.front import Behind, listening
from tests.support.wire import until


class SleepyClock(ManualClock):
    """A clock turned by hand, by which one can sleep."""

    def __init__(self) -> None:
        super().__init__()
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    async def sleep(self, seconds: float) -> None:
        done = asyncio.Event()
        self._sleepers.append((self.now() + seconds, done))
        await done.wait()

    async def pass_by(self, seconds: int) -> None:
        """Let that many seconds go by, each of them seen by those who sleep."""
        for _ in range(seconds):
            await until(lambda: bool(self._sleepers))
            self.turn(1)
            due = [done for until, done in self._sleepers if until <= self.now()]
            self._sleepers = [(until, done) for until, done in self._sleepers if until > self.now()]
            for done in due:
                done.set()


@dataclass(slots=True)
class Notes:
    """A ledger that is read by the test."""

    records: list[tuple[str, Mapping[str, object]]] = field(default_factory=list)

    async def append(self, kind: str, fields: Mapping[str, object]) -> int:
        self.records.append((kind, fields))
        return len(self.records)

    def digest(self, data: bytes) -> str:
        return f"digest of {len(data)}"


@dataclass(slots=True)
class Tokens:
    """The tokens of workers."""

    known: dict[str, Worker] = field(default_factory=dict)

    async def worker(self, token: str) -> Worker | None:
        return self.known.get(token)

    def give(self, worker: Worker) -> str:
        kind = CredentialKind.SESSIONS_TOKEN if worker.work_id else CredentialKind.ENVIRONMENT_KEY
        token = encode(kind, os.urandom(32))
        self.known[token] = worker
        return token


@dataclass(slots=True)
class Served:
    """What is behind the door, and how a test gets in."""

    store: Store
    clock: SleepyClock
    sessions: MemorySessions
    log: Log
    ledger: Notes
    tokens: Tokens
    environment: Environment
    agent: Agent
    woken: list[str]
    app: Starlette
    port: int = 0
    clients: list[anthropic.AsyncAnthropic] = field(default_factory=list)

    def client(self, key: str) -> anthropic.AsyncAnthropic:
        """The SDK as it is, with another base URL. It does not repeat what was refused."""
        client = anthropic.AsyncAnthropic(base_url=f"http://127.0.0.1:{self.port}", api_key=key, max_retries=0)
        self.clients.append(client)
        return client

    async def key(self, tenant: str = "acme", *scopes: Scope, agents: set[str] | None = None) -> str:
        """The text of a key that may invoke the agent."""
        _, text = await self.store.keys.create(
            scopes={Scope.INVOKE, *scopes}, agents=agents or {self.agent.id}, tenant=Tenant(tenant)
        )
        return text

    async def person(self, tenant: str = "acme", *scopes: Scope) -> anthropic.AsyncAnthropic:
        """Somebody with such a key."""
        return self.client(await self.key(tenant, *scopes))

    def worker(self, session_id: str | None = None, *, late: bool = False) -> anthropic.AsyncAnthropic:
        """A worker with the token of one session, or with the key of the environment."""
        who = Worker("work_1", self.environment.id, session_id and "work_1", session_id, 1, late)
        return self.client(self.tokens.give(who))

    async def relay(self, session_id: str, *drafts: Draft) -> Changed:
        """What a turn adds."""
        return await self.log.change(session_id, lambda *_: Change(drafts))


@asynccontextmanager
async def served(store: Store, clock: SleepyClock) -> AsyncIterator[Served]:
    """Everything, with one agent that has a sandbox, a server and a custom tool."""
    sessions, ledger, tokens, woken = MemorySessions(clock), Notes(), Tokens(), list[str]()
    log = Log(sessions, clock, os.urandom, woken.append)
    environment = await store.environments.create("team-default")
    agent = await store.agents.create(_definition(environment))
    keeper = Doorkeeper(store.grants, WrongCredentials(clock), tokens, os.urandom, b"c" * 32)
    routes = [
        *SessionsApi(log, store.agents, store.environments, clock, os.urandom).routes(keeper),
        *StreamApi(log, clock).routes(keeper),
        *EventsApi(log, ledger, clock).routes(keeper),
        keeper.resource("/v1/{rest:path}"),
    ]
    app = Starlette(routes=routes)
    here = Served(store, clock, sessions, log, ledger, tokens, environment, agent, woken, app)
    behind = Behind()
    async with listening(behind.mcp, behind.admit, app) as front:
        here.port = front.port
        yield here
        for client in here.clients:
            await client.close()


def _definition(environment: Environment) -> Definition:
    charge = CustomTool("charge", "Charges.", {"type": "object"})
    return replace(
        definition("assistant", "lookup"), builtin=Builtin(), custom=(charge,), default_environment=environment.id
    )
