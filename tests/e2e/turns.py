"""Clients of sessions as applications write them: they follow the stream, and ask the list where it broke off."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx2

Event = dict[str, Any]
T = TypeVar("T")

BETWEEN = 0.05  # seconds between two attempts to reach a relay that is away
SILENCE = 60.0  # seconds; a ping comes every 15


@asynccontextmanager
async def http(url: str) -> AsyncIterator[httpx2.AsyncClient]:
    """A client without bounds of its own on connections, for everybody in a test."""
    async with httpx2.AsyncClient(
        base_url=url,
        timeout=httpx2.Timeout(SILENCE),
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=100),
        trust_env=False,
    ) as client:
        yield client


async def patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """What `ask` returns, as soon as there is a relay that answers it. Only for what may be asked twice."""
    while True:
        with suppress(httpx2.TransportError):
            return await ask()
        await asyncio.sleep(BETWEEN)


@dataclass(slots=True)
class Session:
    """One session, seen through the API with the key it was made with.

    `streamed` is every event that any stream brought, in the order of arrival, with the time at which it came.
    """

    client: httpx2.AsyncClient
    key: str
    id: str
    streamed: list[tuple[float, Event]] = field(default_factory=list)

    async def send(self, text: str) -> None:
        """Say something."""
        content = [{"type": "text", "text": text}]
        answer = await self.client.post(
            self._path, headers=self._headers, json={"events": [{"type": "user.message", "content": content}]}
        )
        assert answer.status_code == 200, answer.text

    async def events(self) -> list[Event]:
        """The whole list, in order."""
        found: list[Event] = []
        query: dict[str, str | int] = {"limit": 1000}
        while True:
            answer = await self.client.get(self._path, headers=self._headers, params=query)
            assert answer.status_code == 200, answer.text
            page = answer.json()
            found += page["data"]
            if not page["next_page"]:
                return found
            query["page"] = page["next_page"]

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[AsyncIterator[Event]]:
        """A stream that is open when the block begins: what happens from then on, without pings."""
        async with self.client.stream("GET", f"{self._path}/stream", headers=self._headers) as response:
            assert response.status_code == 200, await response.aread()
            yield self._frames(response)

    async def ask_once(self, text: str) -> list[Event]:
        """Begin a turn with `text` and wait for its end, whatever happens to the relay meanwhile; returns the list.

        It says it again only if the list shows that it was not heard.
        """
        while True:
            with suppress(httpx2.TransportError):
                async with self.stream() as live:
                    events = await self.events()
                    if not any(event["type"] == "user.message" for event in events):
                        await self.send(text)
                    if not any(map(ends, events)):
                        await _end(live)
                return await patiently(self.events)
            await asyncio.sleep(BETWEEN)

    async def _frames(self, response: httpx2.Response) -> AsyncIterator[Event]:
        now = asyncio.get_running_loop().time
        async for line in response.aiter_lines():
            if line.startswith("data: ") and (event := json.loads(line[6:]))["type"] != "ping":
                self.streamed.append((now(), event))
                yield event

    @property
    def _path(self) -> str:
        return f"/v1/sessions/{self.id}/events"

    @property
    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}


async def begin(client: httpx2.AsyncClient, key: str, agent: str) -> Session:
    """Make a session."""
    answer = await client.post("/v1/sessions", headers={"authorization": f"Bearer {key}"}, json={"agent": agent})
    assert answer.status_code == 200, answer.text
    return Session(client, key, answer.json()["id"])


def ends(event: Mapping[str, Any]) -> bool:
    """Whether the event ends a turn."""
    if event["type"] == "session.status_idle":
        return bool(event["stop_reason"]["type"] != "requires_action")
    return event["type"] in ("session.status_terminated", "session.deleted")


async def _end(live: AsyncIterator[Event]) -> None:
    async for event in live:
        if ends(event):
            return
    raise httpx2.RemoteProtocolError("the stream ended before the turn did")
