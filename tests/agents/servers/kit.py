"""A relay, a connector and an MCP server of the test's own, in simulated time: no test here waits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import wraps
from itertools import count
from types import TracebackType
from typing import Any, ParamSpec, Self

from arrowslit.agents.servers.servers import Servers
from arrowslit.agents.servers.session import ServerSession
from arrowslit.agents.servers.tool import ToolAnswer
from arrowslit.connector.targets.coroutine import CoroutineTarget
from arrowslit.connector.targets.target import Lost, Reply, Request
from arrowslit.principal import Principal, Scope, Tenant
from arrowslit.testing.disk import MemoryDisk
from arrowslit.testing.loop import SimClock, run
from arrowslit.testing.world import World, world

P = ParamSpec("P")

ACME = Principal("key_acme", Tenant("acme"), frozenset({Scope.INVOKE}), frozenset({"agent_sim"}))
JSON = [("content-type", "application/json")]
EVENTS = [("content-type", "text/event-stream")]
MODERN = "io.modelcontextprotocol/protocolVersion"


def simulated(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test in simulated time."""

    @wraps(test)
    def run_in_order(*args: P.args, **kwargs: P.kwargs) -> None:
        run(0, lambda: test(*args, **kwargs))

    return run_in_order


class McpServer(CoroutineTarget):
    """A Target. It speaks the modern era, or the legacy one with sessions.

    Its tools `read` (declared read-only) and `write` do what their arguments say: `answer` with that result, `fail`
    with that JSON-RPC error, `status` with that HTTP status and the `body`, `events` (messages that go ahead of the
    answer, as a stream), `ask` the client that, and answer with what it said, `hang`, `lost`; after `seconds`, and with
    as much before each event. `does` is done by every call, for what would not pass as an argument. `executed` is each
    call with its arguments.
    """

    def __init__(self, *, modern: bool = True, silent: bool = False) -> None:
        self.modern = modern
        self.silent = silent
        self.deaf = False  # to answers: it never says that it took them
        self.requests: list[Request] = []
        self.executed: list[dict[str, Any]] = []
        self.cancelled: list[str | None] = []
        self.sessions: set[str] = set()
        self.pages: list[list[dict[str, Any]]] = [[{"name": "read"}], [{"name": "write"}, {"name": "secret"}]]
        self.version = "2025-11-25"
        self.does: dict[str, Any] = {}
        self.busy = asyncio.Event()
        self._numbers = count(1)
        self._asked: dict[object, asyncio.Future[dict[str, Any]]] = {}
        self._later: dict[str, tuple[object, int, dict[str, Any]]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def state(self) -> Mapping[str, object]:
        return {"ready": True, "detail": None}

    def heard(self, method: str) -> list[dict[str, Any]]:
        """The messages of a method, in order."""
        posted = [json.loads(request.body) for request in self.requests if request.method == "POST"]
        return [each for each in posted if each.get("method") == method]

    async def exchange(self, request: Request, reply: Reply) -> None:
        self.requests.append(request)
        reply.dispatched()
        try:
            await self._answer(request, reply)
        except asyncio.CancelledError:
            self.cancelled.append(reply.cancel)
            raise

    async def _answer(self, request: Request, reply: Reply) -> None:
        session = request.header("mcp-session-id")
        if request.method == "GET":
            await self._go_on(request, reply)
            return
        if request.method == "DELETE":
            self.sessions.discard(session or "")
            reply.head(200, [])
            return
        message = json.loads(request.body)
        method, ident = message.get("method"), message.get("id")
        if self.silent and method == "server/discover":
            await asyncio.Event().wait()
        if method == "server/discover" and not self.modern:
            _error(reply, ident, {"code": -32600, "message": "Bad Request: Missing session ID"}, 400)
        elif self.modern != (MODERN in message.get("params", {}).get("_meta", {})):
            _error(reply, ident, {"code": -32600, "message": "Bad Request: the other era"}, 400)
        elif not self.modern and method != "initialize" and session not in self.sessions:
            _error(reply, ident, {"code": -32600, "message": "Session not found"}, 404)
        elif method is None:
            self._asked.pop(ident).set_result(message)
            if self.deaf:
                await asyncio.Event().wait()
            reply.head(202, [])
        elif ident is None:
            reply.head(202, [])
        else:
            await self._request(ident, method, message["params"], reply)

    async def _request(self, ident: object, method: str, params: dict[str, Any], reply: Reply) -> None:
        match method:
            case "server/discover":
                _result(reply, ident, {"supportedVersions": ["2026-07-28"], "capabilities": {}})
            case "initialize":
                session = f"session-{next(self._numbers)}"
                self.sessions.add(session)
                said = {"protocolVersion": self.version, "capabilities": {}, "serverInfo": {"name": "t"}}
                _result(reply, ident, said, session)
            case "tools/list":
                page = int(params.get("cursor", 0))
                more = {"nextCursor": str(page + 1)} if page + 1 < len(self.pages) else {}
                _result(reply, ident, {"tools": self.pages[page], **more})
            case "tools/call":
                await self._call(ident, params, reply)

    async def _call(self, ident: object, params: dict[str, Any], reply: Reply) -> None:
        self.executed.append(params["arguments"])
        self.busy.set()
        does = params["arguments"] | self.does
        seconds = does.get("seconds", 0)
        await asyncio.sleep(seconds)
        if does.get("hang"):
            await asyncio.Event().wait()
        if does.get("lost"):
            raise Lost("the server died")
        if "fail" in does:
            _error(reply, ident, does["fail"], does.get("status", 200))
            return
        if "status" in does:
            reply.head(does["status"], [])
            reply.piece(does.get("body", "").encode())
            return
        result = does.get("answer", {"content": []})
        if does.get("broken"):
            reply.head(200, JSON)
            reply.piece(b" " * (2 << 20))  # more than the relay holds back
            raise Lost("the server died in the middle of its answer")
        if "later" in does:  # ends its stream, and answers on the streams of so many GETs after that
            self._later[f"e{ident}"] = (ident, does["later"], result)
            reply.head(200, EVENTS)
            reply.piece(f"id: e{ident}\nretry: 200\ndata:\n\n".encode())
            return
        if "events" in does or "ask" in does:
            reply.head(200, EVENTS)
            if "stray" in does:
                _event(reply, {"id": does["stray"], "result": {"content": ["of somebody else"]}})
            for event in does.get("events", []):
                about = {"progressToken": params["_meta"]["progressToken"], **event.get("params", {})}
                _event(reply, {**event, "params": about})
                await reply.drain()
                await asyncio.sleep(seconds)
            if "ask" in does:
                result = {"content": [{"type": "text", "text": json.dumps(await self._ask(does["ask"], reply))}]}
            if "cut" in does:
                raise Lost("the server died in the middle of its stream")
            if "word" in does:
                _event(reply, {"id": ident, "error": does["word"]})
            _event(reply, {"id": ident, "result": result})
        else:
            _result(reply, ident, result)

    async def _go_on(self, request: Request, reply: Reply) -> None:
        last = request.header("last-event-id") or ""
        ident, further, result = self._later[last]
        if further < 0:
            _error(reply, None, {"code": -32600, "message": "no such stream"}, 405)
            return
        self._later[last] = (ident, further - 1, result)
        reply.head(200, EVENTS)
        if further <= 1:
            _event(reply, {"id": ident, "result": result})

    async def _ask(self, method: str, reply: Reply) -> dict[str, Any]:
        ident = f"ask-{next(self._numbers)}"
        self._asked[ident] = asyncio.get_running_loop().create_future()
        _event(reply, {"id": ident, "method": method, "params": {}})
        return await self._asked[ident]


def _result(reply: Reply, ident: object, result: dict[str, Any], session: str | None = None) -> None:
    reply.head(200, JSON if session is None else [*JSON, ("mcp-session-id", session)])
    reply.piece(json.dumps({"jsonrpc": "2.0", "id": ident, "result": result}).encode())


def _error(reply: Reply, ident: object, error: dict[str, Any], status: int) -> None:
    reply.head(status, JSON)
    reply.piece(json.dumps({"jsonrpc": "2.0", "id": ident, "error": error}).encode())


def _event(reply: Reply, message: dict[str, Any]) -> None:
    reply.piece(b"data: " + json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n\n")


@dataclass(slots=True)
class Scene:
    """What a test holds in its hands."""

    world: World
    disk: MemoryDisk
    servers: Servers
    connector: asyncio.Task[None] | None = None
    _calls: Any = field(default_factory=lambda: count(1))

    async def open(self) -> ServerSession:
        """The server, as the agent sees it."""
        return await self.servers.open(ACME, "agent_sim", "sim")

    def call_id(self) -> str:
        """A new one."""
        return f"call_{next(self._calls):024x}"

    async def call(self, session: ServerSession, tool: str, **does: object) -> ToolAnswer:
        """Call a tool under an id of its own."""
        return await session.call(tool, does, call_id=self.call_id())

    async def ledger(self, kind: str) -> list[dict[str, Any]]:
        """The records of tools' calls so far; what has just happened is written a turn of the loop later."""
        await asyncio.sleep(0.01)  # of simulated time
        lines = [json.loads(line) for each in self.disk.segments() for line in self.disk.lines(each.first)]
        tools = {each["call"] for each in lines if each["kind"] in ("asked", "denied") and each["tool"] is not None}
        return [each for each in lines if each["kind"] == kind and each["call"] in tools]

    def kill_connector(self) -> None:
        """At once, with its wire."""
        assert self.connector is not None
        self.connector.cancel()
        self.world.cut()


@asynccontextmanager
async def scene(server: McpServer | None = None) -> AsyncIterator[Scene]:
    """A relay, and a connector in front of `server`; without one, nobody serves the tunnel."""
    disk = MemoryDisk()
    async with world(1, disk) as here:
        made = Scene(here, disk, Servers(here.calls, SimClock()))
        if server is not None:
            made.connector = here.start_connector("c", server)
            await here.connected()
        yield made


def texts(answer: ToolAnswer) -> list[object]:
    """The texts of its content."""
    return [block.get("text") for block in answer.content]
