"""What a client of a stdio server sees at the relay: streams, questions, news, and what it missed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from arrowslit.protocol import sse
from tests.connector.targets.facade_kit import INITIALIZE, call, heard, request, running, until
from tests.support.inprocess import TUNNEL, House, bearer, connector, in_process, kept
from tests.support.wire import Wire, dial
from tests.support.wire import request as http

MODERN = "2026-07-28"
TOOLS = ["ask", "begin", "echo", "hold", "publish", "tell"]


class Client:
    """Speaks to the stdio server as one agent, over a connection of its own for each request."""

    def __init__(self, house: House, key: str) -> None:
        self._house = house
        self._key = key
        self.session: str | None = None

    @asynccontextmanager
    async def open(self, body: dict[str, Any] | None, *more: str) -> AsyncIterator[Wire]:
        """Post a message, or with None open an event stream; the answer is read by who asked."""
        headers = ["Accept: application/json, text/event-stream", bearer(self._key), *more]
        headers += [f"Mcp-Session-Id: {self.session}", "MCP-Protocol-Version: 2025-11-25"] if self.session else []
        headers += ["Content-Type: application/json"] if body is not None else []
        said = b"" if body is None else json.dumps(body).encode()
        async with dial(self._house.port) as wire:
            method = "GET" if body is None else "POST"
            await wire.send(http(method, f"/mcp/desk/{TUNNEL}", said, headers=tuple(headers)))
            yield wire

    async def post(self, body: dict[str, Any], *more: str) -> Any:
        """A message and its whole answer; None for one that has none."""
        async with self.open(body, *more) as wire:
            answer = await wire.answer()
        self.session = answer.headers.get("mcp-session-id", self.session)
        if answer.headers.get("content-type") == "text/event-stream":
            return json.loads(sse.Events().feed(answer.body)[-1].data)
        return answer.json if answer.body else None

    async def begin(self) -> None:
        """Begin a session."""
        await self.post(INITIALIZE)
        await self.post(request("notifications/initialized", ident=None))


def mirrored(body: dict[str, Any]) -> tuple[str, ...]:
    """The headers that repeat a modern request."""
    named = (f"Mcp-Name: {body['params']['name']}",) if body["method"] == "tools/call" else ()
    return (f"MCP-Protocol-Version: {MODERN}", f"Mcp-Method: {body['method']}", *named)


async def events_until(wire: Wire, ready: Callable[[sse.Event], bool]) -> list[sse.Event]:
    """The events of an answer that has begun, up to the first that is meant."""
    status, headers = await wire.head()
    assert (status, headers["content-type"]) == (200, "text/event-stream")
    return await more_until(wire, ready)


async def more_until(wire: Wire, ready: Callable[[sse.Event], bool]) -> list[sse.Event]:
    """The same in the middle of an answer."""
    reader, found = sse.Events(), list[sse.Event]()
    while not any(map(ready, found)):
        found += reader.feed(await wire.chunk())
    return found


def about(text: bytes) -> Callable[[sse.Event], bool]:
    return lambda event: text in event.data


@asynccontextmanager
async def offered(folder: Path, era: str) -> AsyncIterator[Client]:
    """A client that may use TOOLS of a stdio server of this era, through a tunnel."""
    async with in_process(folder, connected=False) as house, running(folder, era) as target:
        server = {"type": "tunnel", "tunnel_id": f"tnl_{TUNNEL}", "tool_allowlist": TOOLS}
        await house.api("POST", "/v1/agents", {"name": "desk", "model": "none", "mcp_servers": [server]})
        made = await house.api("POST", "/v1/keys", {"agents": ["desk"], "tenant": "acme"})
        async with kept(connector(f"ws://127.0.0.1:{house.port}/connect", house.token, target)):
            await until(lambda: house.connected)
            yield Client(house, made["key"])


async def test_a_client_that_lost_its_connection_comes_back_for_the_answer(tmp_path: Path) -> None:
    async with offered(tmp_path, "legacy") as client:
        await client.begin()
        async with client.open(call("begin", token="t", of=2, canary="kept")) as wire:
            seen = await events_until(wire, about(b"progress"))
            wire.reset()
        await client.post(call("hold", ident=2, of=2, canary="release"))

        async with client.open(None, f"Last-Event-ID: {seen[0].id}") as wire:
            again = await events_until(wire, about(b"result"))

    methods = [json.loads(event.data).get("method", "answer") for event in again if event.data]
    assert methods == ["notifications/progress", "answer"]
    assert b'"canary": "kept"' in again[-1].data
    assert not any("cancelled" in message["method"] for message in heard(tmp_path))


async def test_a_question_of_the_server_is_answered_in_the_middle_of_the_call(tmp_path: Path) -> None:
    async with offered(tmp_path, "legacy") as client:
        await client.begin()
        async with client.open(call("ask", of="sampling")) as wire:
            asked = await events_until(wire, about(b"sampling/createMessage"))
            ident = json.loads(asked[-1].data)["id"]
            await client.post({"jsonrpc": "2.0", "id": ident, "result": {"said": "yes"}})
            answered = await more_until(wire, about(b"result"))
    assert json.loads(answered[-1].data)["result"] == {"heard": {"said": "yes"}}


async def test_news_reach_the_stream_that_a_client_keeps_open_and_wait_for_one_that_was_cut(tmp_path: Path) -> None:
    async with offered(tmp_path, "legacy") as client:
        await client.begin()
        async with client.open(None) as wire:
            seen = await events_until(wire, lambda event: event.id is not None)
            await client.post(call("tell", method="notifications/tools/list_changed"))
            await more_until(wire, about(b"tools/list_changed"))
            wire.reset()
        await client.post(call("tell", ident=2, method="notifications/prompts/list_changed"))

        last = next(event.id for event in seen if event.id)
        async with client.open(None, f"Last-Event-ID: {last}") as wire:
            again = await events_until(wire, about(b"prompts/list_changed"))
    assert sum(b"tools/list_changed" in event.data for event in again) == 1


async def test_a_modern_subscription_hears_news_and_ends_when_its_client_leaves(tmp_path: Path) -> None:
    listen = request("subscriptions/listen", {"notifications": {"toolsListChanged": True}}, ident="mine", modern=True)
    publish = call("publish", modern=True, text="news")
    async with offered(tmp_path, "dual") as client:
        async with client.open(listen, *mirrored(listen)) as wire:
            await events_until(wire, about(b"acknowledged"))
            await client.post(publish, *mirrored(publish))
            heard_of = await more_until(wire, about(b"list_changed"))
            wire.reset()
        await until(lambda: cancelled(tmp_path) == 1)
    assert json.loads(heard_of[-1].data)["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"] == "mine"


async def test_a_modern_client_that_leaves_has_cancelled_its_call(tmp_path: Path) -> None:
    body = call("begin", modern=True, token="t", of=2, canary="gone")
    async with offered(tmp_path, "dual") as client:
        async with client.open(body, *mirrored(body)) as wire:
            await events_until(wire, about(b"progress"))
            wire.reset()
        await until(lambda: cancelled(tmp_path) == 1)


def cancelled(folder: Path) -> int:
    return sum(message["method"] == "notifications/cancelled" for message in heard(folder))
