"""Bench: the loop and its runner on sessions in memory, a scripted model, and servers that do as a test says.

Time is simulated, so that waiting costs nothing and a second is a second.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any, ParamSpec

from arrowslit.agent import Definition
from arrowslit.agents.models.model import Model, ModelRequest
from arrowslit.agents.models.scripted import Scripted, Turn
from arrowslit.agents.servers.tool import ToolAnswer, ToolDefinition, failed
from arrowslit.agents.sessions.change import Change
from arrowslit.agents.sessions.ending import end_calls
from arrowslit.agents.sessions.frames import Preview
from arrowslit.agents.sessions.inbox import Sender, SentEvent, send
from arrowslit.agents.sessions.log import Log
from arrowslit.agents.sessions.state import IDLE, State
from arrowslit.agents.turns.loop import Loop
from arrowslit.agents.turns.runner import Runner
from arrowslit.errors import Error
from arrowslit.outcome import Outcome
from arrowslit.principal import Principal
from arrowslit.record import Fields
from arrowslit.session import Event, EventFilter, Session, Sessions
from arrowslit.testing.loop import SimClock, random_bytes, run
from arrowslit.testing.sessions import MemorySessions
from tests.agents.tale import CHECK_STOCK, DROP_TABLE, ORDER, session, text

P = ParamSpec("P")
SESSION = "sesn_1"


def simulated(story: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Let a test run in simulated time."""

    @wraps(story)
    def test(*args: P.args, **kwargs: P.kwargs) -> None:
        run(1, lambda: story(*args, **kwargs))

    return test


@dataclass(slots=True)
class Records:
    """A ledger in memory. While `full` it takes nothing."""

    kept: list[tuple[str, Fields]] = field(default_factory=list)
    full: bool = False

    async def append(self, kind: str, fields: Fields) -> int:
        await asyncio.sleep(0)
        if self.full:
            raise Error("ledger_unavailable", "the disk is full")
        self.kept.append((kind, fields))
        return len(self.kept)

    def digest(self, data: bytes) -> str:
        return f"digest of {len(data)} bytes"


@dataclass(slots=True)
class Script:
    """Plays turns by their number, or what `rule` says. `asked` is what a model would have seen."""

    turns: Sequence[Turn] = ()
    rule: Callable[[ModelRequest], Turn] | None = None
    asked: list[ModelRequest] = field(default_factory=list)
    name: str = "a test"

    def turn(self, request: ModelRequest) -> Turn:
        self.asked.append(request)
        return self.rule(request) if self.rule else self.turns[request.turn]


Behaviour = Callable[[str, Mapping[str, object], str], Awaitable[ToolAnswer]]


async def answers(tool: str, arguments: Mapping[str, object], call_id: str) -> ToolAnswer:
    """What a server does that is well."""
    await asyncio.sleep(0.05)
    return result(call_id, f"{tool} done")


def result(call_id: str, words: str) -> ToolAnswer:
    return ToolAnswer(Outcome.RESULT, tuple(text(words)), False, call_id)


def ends(code: str) -> Behaviour:
    """A server whose calls all end with that code of the registry."""

    async def behave(tool: str, arguments: Mapping[str, object], call_id: str) -> ToolAnswer:
        await asyncio.sleep(0.05)
        return failed(Error(code, f"the words of {code}"), call_id)

    return behave


@dataclass(slots=True)
class FakeServers:
    """Servers behind a gate: `reached` are calls that a target saw. While `down` nobody can be opened."""

    behave: Behaviour = answers
    listed: Sequence[ToolDefinition] = (CHECK_STOCK, ORDER, DROP_TABLE)
    down: str | None = None
    reached: list[tuple[str, Mapping[str, object], str]] = field(default_factory=list)
    principals: list[Principal] = field(default_factory=list)
    open_now: int = 0

    async def open(self, principal: Principal, agent_id: str, server: str) -> FakeSession:
        await asyncio.sleep(0)
        if self.down is not None:
            raise Error(self.down, f"no connector serves {server}")
        self.principals.append(principal)
        self.open_now += 1
        return FakeSession(self)


@dataclass(slots=True)
class FakeSession:
    servers: FakeServers

    async def tools(self) -> Sequence[ToolDefinition]:
        await asyncio.sleep(0)
        if self.servers.down is not None:
            raise Error(self.servers.down, "no connector any more")
        return self.servers.listed

    async def call(self, tool: str, arguments: Mapping[str, object], *, call_id: str) -> ToolAnswer:
        await asyncio.sleep(0)
        if self.servers.down is not None:
            return failed(Error(self.servers.down, "no connector any more"), call_id)
        self.servers.reached.append((tool, arguments, call_id))
        return await self.servers.behave(tool, arguments, call_id)

    async def close(self) -> None:
        self.servers.open_now -= 1


@dataclass(slots=True)
class Bench:
    """Everything that a test may look at, and what a client of the API would do."""

    clock: SimClock
    sessions: Sessions
    servers: FakeServers
    script: Script
    records: Records
    revoked: set[str] = field(default_factory=set)
    model: Model | None = None
    max_context: int = 1 << 20
    seed: int = 1
    log: Log = field(init=False)
    runner: Runner = field(init=False)
    _woken: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Runner]:
        """A relay from its start to its end."""
        random = random_bytes(self.seed)
        self.seed += 1
        self.log = Log(self.sessions, self.clock, random)
        loop = Loop(
            log=self.log,
            model=self.model,
            servers=self.servers,
            ledger=self.records,
            live=lambda principal_id: principal_id not in self.revoked,
            clock=self.clock,
            random=random,
            max_context=self.max_context,
        )
        self.runner = Runner(self.log, loop, self.clock)
        self.log.wake, self.log.fenced = self.runner.wake, self.runner.interrupt
        async with self.runner:
            yield self.runner

    async def create(
        self,
        definition: Definition,
        id: str = SESSION,
        *,
        environment_id: str | None = "env_1",
        tenant: str = "acme",
    ) -> None:
        made = session(definition, environment_id=environment_id, tenant=tenant)
        await self.log.create(replace(made, id=id, created_at=self.clock.now()), Change())

    async def send(self, type: str, id: str = SESSION, /, **body: object) -> None:
        """Send one event as the API does."""
        sent = [SentEvent(self.log.new_event_id(), type, body)]
        who = Sender(may_confirm=True)

        def decide(_: Session, now: State, left: Mapping[str, str]) -> Change | None:
            return send(now, sent, who, self.clock.now(), dispatched=left)

        if type == "user.interrupt":
            await end_calls(self.log, id, decide)
        else:
            await self.log.change(id, lambda session, now: decide(session, now, {}))

    async def ask(self, words: str, id: str = SESSION) -> list[Event]:
        """Say something; the events until the session is idle."""
        return await self.until_idle(id, lambda: self.send("user.message", id, content=text(words)))

    async def until_idle(self, id: str, act: Callable[[], Awaitable[None]]) -> list[Event]:
        """Do something; the events until the session is idle."""
        found = await self.watch(id, act)
        return [each for each in found if isinstance(each, Event)]

    async def watch(
        self, id: str, act: Callable[[], Awaitable[None]], until: Callable[[Event], bool] | None = None
    ) -> list[Event | Preview]:
        """Do something; events and previews until one that fits."""
        found: list[Event | Preview] = []
        fits = until or (lambda event: event.type == IDLE)
        with self.log.follow(id, deltas=frozenset({"agent.message"})) as follower:
            await act()
            while not follower.ended:
                for item in await follower.take():
                    found.append(item.content)
                    if isinstance(item.content, Event) and fits(item.content):
                        return found
        raise AssertionError("the stream has ended")

    async def events(self, id: str = SESSION) -> Sequence[Event]:
        return await self.sessions.events(id, EventFilter(limit=100_000))


def bench(
    turns: Sequence[Turn] = (), *, rule: Callable[[ModelRequest], Turn] | None = None, sessions: Sessions | None = None
) -> Bench:
    """A bench whose model plays these turns."""
    clock = SimClock()
    script = Script(turns, rule)
    model = Scripted(script, clock=clock)
    return Bench(clock, sessions or MemorySessions(clock), FakeServers(), script, Records(), model=model)


def says(words: str) -> Turn:
    return ({"type": "text", "text": words},)


def uses(*names: str, words: str = "") -> Turn:
    said = [{"type": "text", "text": words}] if words else []
    return (*said, *({"type": "tool_use", "name": name, "input": {"n": n}} for n, name in enumerate(names)))


def types(events: Sequence[Event]) -> list[str]:
    """What happened, without the prefix `agent.` and the spans."""
    return [event.type.removeprefix("agent.") for event in events if not event.type.startswith("span.")]


def only(events: Sequence[Event], type: str) -> list[Event]:
    return [event for event in events if event.type == type]


def words_of(event: Event) -> str:
    content: Any = event.body["content"]
    return " ".join(block["text"] for block in content)


def shown(request: ModelRequest) -> str:
    """A request as text, to look for words in it."""
    return json.dumps(request.messages, default=dict)
