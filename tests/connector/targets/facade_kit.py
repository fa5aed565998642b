"""What the tests of the façade share: a server to start, a client's side of an exchange, a clock turned by hand."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from arrowslit.clock import Clock, SystemClock
from arrowslit.connector.targets.facade import Facade
from arrowslit.connector.targets.processes import process
from arrowslit.connector.targets.stdio import Command, Stdio
from arrowslit.connector.targets.target import Cancel, Request
from arrowslit.protocol import sse
from arrowslit.tunnel import Headers
from tests.harness import PATIENCE
from tests.support import processes
from tests.support.lines import records


def end_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not end by itself is given a tenth of a second, not two."""
    monkeypatch.setattr(process, "EOF_GRACE", 0.1)
    monkeypatch.setattr(process, "TERM_GRACE", 0.1)


RAW = Path(__file__).with_name("raw_server.py")
VERSION, CAPABILITIES = "io.modelcontextprotocol/protocolVersion", "io.modelcontextprotocol/clientCapabilities"
META: dict[str, Any] = {VERSION: "2026-07-28", CAPABILITIES: {}}


class HandClock:
    """A clock that stands until it is turned."""

    def __init__(self) -> None:
        self._passed = 0.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> float:
        return 1_795_000_000.0 + self._passed

    def monotonic(self) -> float:
        return self._passed

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._passed + seconds, woken))
        await woken

    async def turn(self, seconds: float) -> None:
        """Let so many seconds pass, waking each sleeper at its own time."""
        end = self._passed + seconds
        await asyncio.sleep(0)
        while due := min((at for at, woken in self._sleepers if at <= end and not woken.done()), default=None):
            self._passed = max(self._passed, due)
            for at, woken in self._sleepers:
                if at <= due and not woken.done():
                    woken.set_result(None)
            self._sleepers = [sleeper for sleeper in self._sleepers if not sleeper[1].done()]
            for _ in range(5):
                await asyncio.sleep(0)
        self._passed = end


@dataclass
class Answer:
    """A Reply: what the client has got so far. With `stalled` it reads nothing more."""

    cancel: Cancel | None = None
    was_dispatched: bool = False
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    flowing: asyncio.Event = field(default_factory=asyncio.Event)
    on_dispatched: Callable[[], None] | None = None
    on_head: Callable[[], object] | None = None

    def __post_init__(self) -> None:
        self.flowing.set()

    def dispatched(self) -> None:
        assert not self.was_dispatched, "handed over twice"
        self.was_dispatched = True
        self.changed.set()
        if self.on_dispatched is not None:
            self.on_dispatched()

    def head(self, status: int, headers: Headers) -> None:
        assert self.status is None, "two heads"
        self.status, self.headers = status, dict(headers)
        self.changed.set()
        if self.on_head is not None:
            self.on_head()

    def piece(self, data: bytes) -> None:
        assert self.status is not None, "a piece before the head"
        self.body += data
        self.changed.set()

    async def drain(self) -> None:
        await self.flowing.wait()

    @property
    def session(self) -> str:
        """The session that an `initialize` was answered with."""
        return self.headers["mcp-session-id"]

    @property
    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body)

    @property
    def result(self) -> dict[str, Any]:
        """The result, whether it came as JSON or as the last event."""
        whole = self.json if self.headers["content-type"] == "application/json" else self.events[-1]
        found: dict[str, Any] = whole["result"]
        return found

    @property
    def events(self) -> list[dict[str, Any]]:
        """The messages of an event stream so far."""
        assert self.headers["content-type"] == "text/event-stream"
        return [json.loads(event.data) for event in self.raw_events if event.data]

    @property
    def raw_events(self) -> list[sse.Event]:
        """Everything of an event stream so far, comments too."""
        return sse.Events().feed(self.body)

    async def until(self, ready: Callable[[Answer], bool]) -> None:
        """Wait until the answer looks like that."""
        async with asyncio.timeout(PATIENCE):
            while not ready(self):
                self.changed.clear()
                await self.changed.wait()


def request(
    method: str, params: dict[str, Any] | None = None, *, ident: int | str | None = 1, modern: bool = False
) -> dict[str, Any]:
    """A JSON-RPC request, or with `ident=None` a notification."""
    params = dict(params or {})
    if modern:
        params["_meta"] = META | params.get("_meta", {})
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params}
    return message if ident is None else message | {"id": ident}


def call(tool: str, *, ident: int | str = 1, modern: bool = False, token: object = None, **arguments: object) -> Any:
    """A request for one of the raw server's tools."""
    params: dict[str, Any] = {"name": tool, "arguments": arguments}
    if token is not None:
        params["_meta"] = {"progressToken": token}
    return request("tools/call", params, ident=ident, modern=modern)


INITIALIZE = request(
    "initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
)


async def send(
    facade: Facade,
    body: dict[str, Any] | bytes = b"",
    *,
    method: str = "POST",
    session: str | None = None,
    version: str | None = None,
    reply: Answer | None = None,
    after: str | None = None,
    accept: str | None = None,
    mirrors: Mapping[str, str] | None = None,
) -> Answer:
    """One exchange, to its end, which may take ten seconds (servers of the SDK need one or two to start).

    `after` is the last event that the client had, `mirrors` are its headers `mcp-param-…`. Raises what the exchange
    raises.
    """
    reply = reply or Answer()
    headers = [("content-type", "application/json")]
    headers += [("mcp-session-id", session)] if session is not None else []
    headers += [("mcp-protocol-version", version)] if version is not None else []
    headers += [("last-event-id", after)] if after is not None else []
    headers += [("accept", accept)] if accept is not None else []
    headers += [(f"mcp-param-{name}", value) for name, value in (mirrors or {}).items()]
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with asyncio.timeout(PATIENCE):
        await facade.exchange(Request(method, headers, data, "call_test"), reply)
    return reply


async def open_session(facade: Facade) -> str:
    """A session whose handshake is done."""
    session = (await send(facade, INITIALIZE)).session
    await send(facade, request("notifications/initialized", ident=None), session=session)
    return session


def raw(folder: Path, *flags: str, clock: Clock | None = None, most: int = 64, spare: bool = False) -> Facade:
    """The façade over the raw server with these flags; its sessions are in `folder`, what it heard in `folder/log`."""
    argv = (sys.executable, "-I", "-S", str(RAW), *flags, f"log={folder / 'log'}")
    program = Stdio(Command(argv, {"PATH": os.environ["PATH"]}), most=most)
    chance = random.Random(7).randbytes
    return Facade(program, clock=clock or SystemClock(), random=chance, state=folder / "sessions", spare=spare)


def heard(folder: Path) -> list[dict[str, Any]]:
    """Every message that the raw servers of `raw(folder)` have read."""
    return records([folder / "log"])


@asynccontextmanager
async def running(
    folder: Path, *flags: str, clock: Clock | None = None, most: int = 64, spare: bool = False
) -> AsyncIterator[Facade]:
    """`raw`, entered; afterwards none of its processes is left."""
    async with raw(folder, *flags, clock=clock, most=most, spare=spare) as facade:
        yield facade
    assert not servers()


def servers() -> list[int]:
    """The raw servers that run, spares too."""
    return [child.pid for child in processes.below(program=str(RAW), deep=False)]


async def until(ready: Callable[[], bool]) -> None:
    """Wait until something holds that has no event of its own."""
    async with asyncio.timeout(PATIENCE):
        while not ready():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def gone(pid: int) -> None:
    """Wait until a process that is no child of ours runs no more; who adopted it may collect it later."""
    await until(lambda: not processes.is_there(pid))
