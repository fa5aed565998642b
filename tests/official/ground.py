"""Ground: one relay for many stories, each with an environment, a proxy and a worker of the SDK of its own.

The model is obedient: what a message tells it to call, it calls, so that each story brings its own calls.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anthropic
from anthropic.lib.tools.agent_toolset import beta_agent_toolset_20260401

from tests.official.message import Message
from tests.official.place import served, words
from tests.official.proxy import WAIT, Does, Fault, Proxy, proxy
from tests.support.lines import whole_lines

POLL, ACK, BEAT, STOP = "GET .*/work/poll", "POST .*/ack", "POST .*/heartbeat", "POST .*/stop"
SESSION, SEND = "GET /v1/sessions/[^/]+", "POST /v1/sessions/[^/]+/events"
LIST, STREAM = "GET /v1/sessions/[^/]+/events", "GET .*/events/stream"

ONCE = "echo ran >> ran.txt; echo hello"
HELLO = [("hello", False)]
MID = "echo ran >> ran.txt; touch began; for _ in $(seq 600); do [ -e go ] && break; sleep 0.05; done; echo hello"
"""A command that lasts until the story makes the file `go`, or half a minute."""

ASKS: Any = {"type": "always_ask"}
ALLOWS: Any = {"type": "always_allow"}
MCP: Any = {
    "type": "mcp_toolset",
    "mcp_server_name": "srv",
    "default_config": {"enabled": False},
    "configs": [{"name": "list_issues", "enabled": True, "permission_policy": ALLOWS}],
}
CUSTOM: Any = {
    "type": "custom",
    "name": "charge",
    "description": "Charge a customer.",
    "input_schema": {"type": "object", "properties": {"cents": {"type": "integer"}}},
}
SANDBOX = "agent_toolset_20260401"


def call(tool: str, **input: object) -> str:
    """What makes the model call that tool."""
    return f"call {tool} with {json.dumps(input)}"


def bash(command: str) -> str:
    """What makes the model call bash."""
    return call("bash", command=command)


def hurry(ttl: int = 2) -> Fault:
    """Lets a worker beat every second, or twice in `ttl` seconds: it is told that its lease is short."""

    def hurried(answer: Message) -> Message:
        return replace(answer, body=json.dumps({**answer.json, "ttl_seconds": ttl}).encode())

    return Fault(BEAT, Does(change=hurried))


def answers(events: Sequence[Any]) -> list[tuple[str, bool]]:
    """Text and `is_error` of the results that workers sent, or that stand for them."""
    return [(words(each), each.is_error) for each in events if each.type == "user.tool_result"]


def is_over(events: Sequence[Any]) -> bool:
    """Whether the last event ended a turn."""
    return bool(events) and events[-1].type == "session.status_idle" and events[-1].stop_reason.type == "end_turn"


def is_waiting(events: Sequence[Any]) -> bool:
    """Whether the last event says that somebody has to do something."""
    return bool(events) and events[-1].type == "session.status_idle" and not is_over(events)


@dataclass(frozen=True, slots=True)
class Stage:
    """Where one story plays. Workers come through the proxy, the application `app` does not."""

    ground: Ground
    proxy: Proxy
    environment: str
    key: str
    workdir: Path

    @property
    def app(self) -> anthropic.AsyncAnthropic:
        """The SDK of the application."""
        return self.ground.app

    async def session(self, *said: str, agent: str = "allowing") -> str:
        """A session that begins with that message, if there is one."""
        first: Any = [{"type": "user.message", "content": [{"type": "text", "text": "\n".join(said)}]}]
        created = await self.app.beta.sessions.create(
            agent=self.ground.agents[agent], environment_id=self.environment, initial_events=first if said else []
        )
        return created.id

    async def send(self, session: str, type: str, **body: object) -> Any:
        """Send one event as the application."""
        event: Any = {"type": type, **body}
        return (await self.app.beta.sessions.events.send(session, events=[event])).data

    async def confirm(self, session: str, result: str, **more: object) -> None:
        """Say that about the one call that has to be asked for, once the session waits for it."""
        events = await self.until(session, is_waiting)
        (held,) = [each for each in events if getattr(each, "evaluated_permission", "") == "ask"]
        await self.send(session, "user.tool_confirmation", tool_use_id=held.id, result=result, **more)

    # ------------------------------------------------------------ what happens

    async def events(self, session: str) -> list[Any]:
        """Everything so far."""
        return [each async for each in self.app.beta.sessions.events.list(session, limit=1000)]

    async def until(self, session: str, fits: Callable[[list[Any]], object]) -> list[Any]:
        """All events, once they fit."""
        async with asyncio.timeout(WAIT), await self.app.beta.sessions.events.stream(session) as stream:
            seen = await self.events(session)
            known = {each.id for each in seen}
            if fits(seen):
                return seen
            async for event in stream:
                if event.id not in known:  # type: ignore[union-attr]
                    seen.append(event)
                    if fits(seen):
                        return seen
        raise AssertionError(f"the stream ended after {[each.type for each in seen]}")

    async def over(self, session: str) -> list[Any]:
        """All events, once the turn has ended."""
        return await self.until(session, is_over)

    async def item(self) -> Any:
        """The item of this environment, of which there is one only."""
        (found,) = [each async for each in self.app.beta.environments.work.list(self.environment)]
        return found

    async def exists(self, name: str) -> None:
        """Once a command has made that file."""
        async with asyncio.timeout(WAIT):
            while not (self.workdir / name).exists():  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    @property
    def ran(self) -> int:
        """How often ONCE or MID were run."""
        return len(whole_lines(self.workdir / "ran.txt"))

    def finished(self, events: Sequence[Any]) -> None:
        """The turn is over, and its one call was run once, with this result."""
        assert answers(events) == HELLO
        assert self.ran == 1
        assert is_over(events)

    # ------------------------------------------------------------ workers

    @asynccontextmanager
    async def worker(self, **options: Any) -> AsyncIterator[None]:
        """The SDK's worker serves the environment meanwhile. It must not end by itself."""
        task = asyncio.create_task(self.work(**options))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def work(self, **options: Any) -> None:
        """Be a worker, for ever or until something goes wrong."""
        chosen = {"tools": beta_agent_toolset_20260401, "max_idle": 0.2, "workdir": self.workdir, **options}
        async with anthropic.AsyncAnthropic(base_url=self.proxy.url, auth_token=self.key) as client:
            await client.beta.environments.work.worker(
                environment_id=self.environment, environment_key=self.key, **chosen
            ).run()

    async def served(self, *said: str, agent: str = "allowing") -> list[Any]:
        """The events of a session with that message, once a worker has served it and left."""
        session = await self.session(*said, agent=agent)
        async with self.worker():
            events = await self.over(session)
            await self.proxy.until(STOP, status=200)
        return events


@dataclass(frozen=True, slots=True)
class Ground:
    """A relay at `url`, a `key` that may do everything there, and agents by what they are good for.

    `folder` takes the workers' files; `proxies` are those of all stages so far.
    """

    url: str
    key: str
    folder: Path
    app: anthropic.AsyncAnthropic
    agents: Mapping[str, str]
    proxies: list[Proxy] = field(default_factory=list)

    @asynccontextmanager
    async def stage(self, *faults: Fault) -> AsyncIterator[Stage]:
        """A new environment, with a proxy that has these faults."""
        made = await self.app.beta.environments.create(name="stage", config={"type": "self_hosted"})
        path = f"/v1/environments/{made.id}/keys"
        key: Any = await self.app.post(path, cast_to=object, body={})
        workdir = self.folder / made.id
        workdir.mkdir()
        async with proxy(self.url, *faults) as between:
            self.proxies.append(between)
            yield Stage(self, between, made.id, key["environment_key"], workdir)


@asynccontextmanager
async def ground(folder: Path) -> AsyncIterator[Ground]:
    """A relay in a process of its own with an obedient model, and a tunnel with the issue server."""
    with served(folder, "obedient") as place:
        async with place.asynchronous() as app:
            tunnel = await app.beta.tunnels.retrieve("tnl_srv")
            servers: Any = [{"type": "url", "name": "srv", "url": f"https://srv.{tunnel.domain}/mcp"}]
            asking = {"type": SANDBOX, "default_config": {"permission_policy": ASKS}}
            agents = {
                "allowing": await make_agent(app, {"type": SANDBOX}, CUSTOM),
                "asking": await make_agent(app, asking),
                "mcp": await make_agent(app, {"type": SANDBOX}, MCP, servers=servers),
            }
            yield Ground(place.relay.url, place.key, folder, app, agents)


async def make_agent(app: anthropic.AsyncAnthropic, *tools: Any, servers: Any = (), **ours: str) -> str:
    """An agent that has these tools; returns its id."""
    return (await app.beta.agents.create(model="m", name="agent", tools=tools, mcp_servers=servers, extra_body=ours)).id


Story = Callable[[Ground], Awaitable[None]]
