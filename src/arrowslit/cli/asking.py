"""Asking a server as an agent would: the official MCP client at the relay's door, and what its failures mean."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import quote

import httpx2
import mcp_types
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from pydantic import ValidationError

from arrowslit.cli import arguments
from arrowslit.client.api import trusted, unreachable
from arrowslit.client.reach import Reach
from arrowslit.errors import CODES, Error

CONNECT = 10.0  # seconds
LONGEST = 3600.0  # seconds a call may take where its agent allows as much
SPARE = 15.0  # seconds past the deadline in which the relay says how the call ended (P2), and some for the network


_HERE = {  # the next step, for somebody at a terminal
    "tool_not_allowed": "arrowslit tools AGENT SERVER shows what can be called",
    "server_ambiguous": "make an agent for one of them: arrowslit agent create AGENT --tunnel TUNNEL --server NAME",
}


class ServerError(Exception):
    """The server answered, and its answer is a JSON-RPC error of its own: the call has an outcome, `result`."""

    def __init__(self, code: int, message: str, data: object) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data


class Asking:
    """One server as one agent sees it. `deadline` is in seconds, None for the agent's own or the relay's default.

    Raises Error for what went wrong before, on the way, or at the relay, and ServerError.
    """

    def __init__(self, reach: Reach, agent: str, server: str, deadline: float | None = None) -> None:
        self._reach = reach
        self._url = f"{reach.relay.origin}/mcp/{quote(agent, safe='')}/{quote(server, safe='')}"
        self._deadline = deadline
        self._calling = False  # a call may have left, and its answer is not here
        self._strange: int | None = None  # the status of an answer that is neither the relay's nor the server's

    def tools(self) -> list[mcp_types.Tool]:
        """All tools that the agent may see."""

        async def ask() -> list[mcp_types.Tool]:
            async with self._client() as client:
                return [tool async for tool in _every_tool(client)]

        with self._failures():
            return asyncio.run(ask())

    def call(self, tool: str, pairs: list[str]) -> mcp_types.CallToolResult:
        """Call a tool; `pairs` are read by its schema. One that the agent cannot see is asked for all the same: what
        that means is the relay's to say and to record.
        """

        async def ask() -> mcp_types.CallToolResult:
            async with self._client() as client:
                schema = await _schema(client, tool)
                values = arguments.read(tool, pairs, schema)
                self._calling = True
                result = await client.call_tool(tool, values)
                self._calling = False
                return result

        with self._failures():
            return asyncio.run(ask())

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[Client]:
        headers = {"authorization": f"Bearer {self._reach.key}"}
        if self._deadline is not None:
            headers["arrowslit-deadline-ms"] = str(max(1, round(self._deadline * 1000)))
        patience = (LONGEST if self._deadline is None else self._deadline) + SPARE
        async with (
            httpx2.AsyncClient(
                headers=headers,
                timeout=httpx2.Timeout(patience, connect=CONNECT),
                trust_env=False,
                verify=trusted(self._reach.relay.origin),
                proxy=self._reach.proxy,
                event_hooks={"response": [self._look_at]},
            ) as http,
            Client(streamable_http_client(self._url, http_client=http)) as client,
        ):
            yield client

    async def _look_at(self, response: httpx2.Response) -> None:
        """The relay marks the answers of servers; its own errors are in JSON and carry a code."""
        marked = response.is_success or "arrowslit-outcome" in response.headers
        self._strange = None if marked else response.status_code

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except (Error, MCPError, httpx2.TransportError, ValidationError, RuntimeError, BaseExceptionGroup) as failure:
            said = self._said(_innermost(failure))
            if said is None:
                raise
            raise said from failure

    def _said(self, failure: BaseException) -> Error | ServerError | None:
        """What a failure means; None for one that nobody expects."""
        match failure:
            case Error():
                return failure
            case MCPError():
                return self._refusal(failure)
            case httpx2.ConnectError() | httpx2.ConnectTimeout() | httpx2.ProxyError():
                return unreachable(self._reach.relay.origin, failure)
            case httpx2.TransportError():
                broke = f"the connection to the relay broke: {str(failure) or type(failure).__name__}"
                return self._unknown(broke) if self._calling else Error("relay_unreachable", broke)
            case ValidationError():
                return ServerError(0, f"the server answered, but not as MCP has it: {_first_flaw(failure)}", None)
            case RuntimeError():
                return ServerError(0, f"the server answered, but not as its schema says: {failure}", None)
            case _:
                return None

    def _refusal(self, error: MCPError) -> Error | ServerError:
        data = error.data if isinstance(error.data, dict) else {}
        if data.get("code") in CODES:
            about = {"call_id": data["call_id"]} if data.get("call_id") else {}
            hint = _HERE.get(data["code"], data.get("hint"))
            return Error(data["code"], error.message, hint=hint, **about)
        if self._strange is not None or error.code == mcp_types.CONNECTION_CLOSED:
            what = f"something answered {self._strange} that is no relay" if self._strange else error.message
            return self._unknown(what) if self._calling else Error("relay_unreachable", what)
        return ServerError(error.code, error.message, error.data)

    def _unknown(self, why: str) -> Error:
        return Error(
            "outcome_unknown",
            f"nobody here knows whether the call was executed: {why}",
            hint="look before asking again; the relay's ledger says how the call ended",
        )


def _first_flaw(failure: ValidationError) -> str:
    """Where the answer is wrong first, in one line; the library's own text is a page."""
    flaw = failure.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, flaw['loc'])) or 'the whole of it'}: {flaw['msg']}"


def _innermost(failure: BaseException) -> BaseException:
    """The first failure in nested groups that is not only somebody being told to stop."""
    if not isinstance(failure, BaseExceptionGroup):
        return failure
    found = [_innermost(each) for each in failure.exceptions]
    return next((each for each in found if not isinstance(each, asyncio.CancelledError)), found[0])


async def _every_tool(client: Client) -> AsyncIterator[mcp_types.Tool]:
    cursor: str | None = None
    while True:
        page = await client.list_tools(cursor=cursor)
        for tool in page.tools:
            yield tool
        cursor = page.next_cursor
        if not cursor:
            return


async def _schema(client: Client, name: str) -> dict[str, Any]:
    """The input schema of a tool; one that takes anything if the agent cannot see it."""
    async for tool in _every_tool(client):
        if tool.name == name:
            return tool.input_schema
    return {"additionalProperties": True}
