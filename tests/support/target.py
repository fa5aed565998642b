"""A target in the test's own process: it remembers what reached it, and does what the tool's name says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from arrowslit.connector.targets.coroutine import CoroutineTarget
from arrowslit.connector.targets.target import Cancel, Lost, Reply, Request, TooLarge

JSON = [("content-type", "application/json")]
EVENTS = [("content-type", "text/event-stream")]


class FakeTarget(CoroutineTarget):
    """Fulfils Target. `requests` are all that reached it, `cancelled` why those were given up that were.

    Tools: `echo` answers with its arguments, `hang` never, `wait` once `go` is set, `stream` with `events` events of
    `size` bytes before the answer, `big` with `size` bytes of JSON. A GET is an event stream of what `push` is given.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.cancelled: list[Cancel | None] = []
        self.go = asyncio.Event()
        self.push: asyncio.Queue[bytes] = asyncio.Queue()
        self._sessions = 0
        self.hangs = False
        """Whether it answers nothing at all."""
        self.sent = 0
        """Bytes of streams that left."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def state(self) -> Mapping[str, object]:
        """See Target."""
        return {"ready": True, "detail": None}

    @property
    def tools(self) -> list[str]:
        """The tools that were called, in order."""
        asked = [json.loads(request.body) for request in self.requests if request.method == "POST"]
        return [each["params"]["name"] for each in asked if each.get("method") == "tools/call"]

    async def exchange(self, request: Request, reply: Reply) -> None:
        """See Target. That the relay looks at the tools before the first call is not remembered: another story."""
        if b'"id":"call_' not in request.body:
            self.requests.append(request)
        reply.dispatched()
        try:
            await self._answer(request, reply)
        except asyncio.CancelledError:
            self.cancelled.append(reply.cancel)
            raise

    async def _answer(self, request: Request, reply: Reply) -> None:
        if request.method == "GET":
            await self._events(reply)
        elif request.method == "DELETE":
            reply.head(204, [])
        else:
            await self._post(json.loads(request.body), reply)

    async def _events(self, reply: Reply) -> None:
        reply.head(200, EVENTS)
        while True:
            await self._piece(reply, b"data: " + await self.push.get() + b"\n\n")

    async def _piece(self, reply: Reply, data: bytes) -> None:
        reply.piece(data)
        await reply.drain()
        self.sent += len(data)

    async def _post(self, asked: dict[str, Any], reply: Reply) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if "id" not in asked:
            reply.head(202, [])
            return
        match asked["method"]:
            case "initialize":
                self._sessions += 1
                reply.head(200, [*JSON, ("mcp-session-id", f"session-{self._sessions}")])
                reply.piece(_result(asked["id"], {"protocolVersion": "2025-11-25", "capabilities": {}}))
            case "tools/list":
                reply.head(200, JSON)
                names = ["echo", "hang", "wait", "stream", "big", "forbidden"]
                reply.piece(_result(asked["id"], {"tools": [{"name": name} for name in names]}))
            case "tools/call":
                await self._tool(asked["id"], asked["params"], reply)
            case _:
                reply.head(200, JSON)
                reply.piece(_result(asked["id"], {}))

    async def _tool(self, ident: object, params: dict[str, Any], reply: Reply) -> None:
        arguments = params.get("arguments", {})
        match params["name"]:
            case "hang":
                await asyncio.Event().wait()
            case "wait":
                await self.go.wait()
            case "lost":
                raise Lost("the target died")
            case "too_large":
                raise TooLarge("more than this connector carries")
            case "stream":
                reply.head(200, EVENTS)
                told = b'{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"%s"}}'
                event = b"data: " + told % (b"x" * arguments["size"]) + b"\n\n"
                for _ in range(arguments["events"]):
                    await self._piece(reply, event)
                await self._piece(reply, b"data: " + _result(ident, {"done": True}) + b"\n\n")
                return
            case "big":
                reply.head(200, JSON)
                body = _result(ident, {"text": "x" * arguments["size"]})
                for at in range(0, len(body), 65_536):
                    await self._piece(reply, body[at : at + 65_536])
                return
        reply.head(200, JSON)
        reply.piece(_result(ident, {"arguments": arguments, "meta": params.get("_meta", {})}))


def _result(ident: object, result: dict[str, Any]) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": ident, "result": result}).encode()
