"""Speak MCP as one of the client libraries: jobs as JSON lines on stdin, answers as JSON lines on stdout.

    <environment>/bin/python speak.py mcp1|mcp2|fastmcp4

Started once per test session, since importing a library takes a second. A job is `{"id", "do", …}`, its answer
`{"id", "answer"}` or `{"id", "error": {"type", "code", "message", "data"}}`; `speaker.py` is the other end and says
what each job takes. Jobs run at once, each in a task of its own. The program ends with its stdin.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import random
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

GRACE = 5.0  # seconds that a library has beyond a call's own timeout before the call counts as hung


class Connection(Protocol):
    """An open client of whichever library; results are the library's own, as JSON objects in the wire's spelling."""

    protocol: str

    async def tools(self) -> list[dict[str, Any]]: ...

    async def call(
        self, name: str, arguments: dict[str, Any], meta: dict[str, Any] | None, timeout: float
    ) -> dict[str, Any]: ...


class Library(Protocol):
    """What `library_<name>.py` offers."""

    def connect(self, url: str, headers: dict[str, str], mode: str) -> AbstractAsyncContextManager[Connection]: ...


@dataclass(slots=True)
class Held:
    """An open connection and the task that entered it, and so has to be the one that leaves it."""

    connection: Connection
    close: asyncio.Event
    task: asyncio.Task[None]


@dataclass(slots=True)
class Tally:
    """What `many` counts; of what went wrong the first case is kept whole."""

    calls: int = 0
    mismatches: int = 0
    errors: int = 0
    first_mismatch: dict[str, Any] | None = None
    first_error: dict[str, Any] | None = None

    def mismatch(self, sent: dict[str, Any], got: dict[str, Any]) -> None:
        self.mismatches += 1
        self.first_mismatch = self.first_mismatch or {"sent": sent, "got": got}

    def error(self, error: BaseException) -> None:
        self.errors += 1
        self.first_error = self.first_error or describe(error)


@dataclass(slots=True)
class Speaker:
    """Does the jobs; `held` are the connections by handle."""

    library: Library
    held: dict[int, Held] = field(default_factory=dict)
    handles: int = 0

    async def do(self, job: dict[str, Any]) -> Any:
        """Do one job and return its answer; raises what the library raises."""
        match job["do"]:
            case "open":
                return await self.open(job["url"], job["headers"], job["mode"], job["timeout"])
            case "tools":
                return await self.held[job["handle"]].connection.tools()
            case "call":
                connection = self.held[job["handle"]].connection
                async with asyncio.timeout(job["timeout"] + GRACE):
                    return await connection.call(job["name"], job["arguments"], job["meta"], job["timeout"])
            case "close":
                return await self.close(job["handle"])
            case "many":
                return await self.many(job)
            case other:
                raise ValueError(f"no such job: {other}")

    async def open(self, url: str, headers: dict[str, str], mode: str, timeout: float) -> dict[str, Any]:
        """Connect, in a task that keeps the connection until it is closed."""
        opened: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
        close = asyncio.Event()

        async def keep() -> None:
            try:
                async with asyncio.timeout(timeout) as limit, self.library.connect(url, headers, mode) as connection:
                    limit.reschedule(None)
                    opened.set_result(connection)
                    await close.wait()
            except BaseException as error:
                if opened.done():
                    raise
                opened.set_exception(first(error))

        task = asyncio.create_task(keep())
        connection = await opened
        self.handles += 1
        self.held[self.handles] = Held(connection, close, task)
        return {"handle": self.handles, "protocol": connection.protocol}

    async def close(self, handle: int) -> None:
        """Close as the library does; raises what it raises."""
        held = self.held.pop(handle)
        held.close.set()
        await held.task

    async def many(self, job: dict[str, Any]) -> dict[str, Any]:
        """Let many clients call at once, each one call after the other, and compare every answer with what was sent."""
        tally = Tally()
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number, client in enumerate(job["clients"]):
                group.create_task(self.one_of_many(job, number, client, tally))
        return {
            "calls": tally.calls,
            "mismatches": tally.mismatches,
            "errors": tally.errors,
            "first_mismatch": tally.first_mismatch,
            "first_error": tally.first_error,
            "seconds": time.monotonic() - began,
        }

    async def one_of_many(self, job: dict[str, Any], number: int, client: dict[str, Any], tally: Tally) -> None:
        chance = random.Random(f"{job['seed']}-{number}")
        try:
            async with self.library.connect(job["url"], client["headers"], job["mode"]) as connection:
                for turn in range(job["calls"]):
                    canary = f"canary-{number}-{turn}-{chance.getrandbits(64):016x}"
                    arguments = fill(job["arguments"], canary, chance)
                    try:
                        async with asyncio.timeout(job["timeout"] + GRACE):
                            result = await connection.call(job["name"], arguments, None, job["timeout"])
                    except Exception as error:
                        tally.error(error)
                        continue
                    tally.calls += 1
                    got = result.get("structuredContent") or {}
                    if any(got.get(key) != value for key, value in {"canary": canary, **client["expect"]}.items()):
                        tally.mismatch(arguments, result)
        except Exception as error:
            tally.error(error)


def fill(template: Any, canary: str, chance: random.Random) -> Any:
    """The template with `"{canary}"` replaced, and `{"between": [a, b]}` by a whole number, ends included."""
    match template:
        case "{canary}":
            return canary
        case {"between": [int(low), int(high)]}:
            return chance.randint(low, high)
        case dict():
            return {key: fill(value, canary, chance) for key, value in template.items()}
        case _:
            return template


def first(error: BaseException) -> BaseException:
    """The innermost first error of what task groups wrap in groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def describe(error: BaseException) -> dict[str, Any]:
    """An error for the other side: `code` is the JSON-RPC error's, or the HTTP status where the library tells that."""
    error = first(error)
    told = getattr(error, "error", None)
    status = getattr(getattr(error, "response", None), "status_code", None)
    return {
        "type": type(error).__name__,
        "code": getattr(told, "code", status),
        "message": getattr(told, "message", str(error)),
        "data": getattr(told, "data", None),
    }


async def lines() -> AsyncIterator[str]:
    """The lines of stdin as they come, until its end."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        yield line


async def main(name: str) -> None:
    """Answer jobs until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not look like an answer
    speaker = Speaker(importlib.import_module(f"library_{name}"))
    running: set[asyncio.Task[None]] = set()

    async def answer(job: dict[str, Any]) -> None:
        try:
            said = {"id": job["id"], "answer": await speaker.do(job)}
        except Exception as error:
            said = {"id": job["id"], "error": describe(error)}
        answers.write(json.dumps(said) + "\n")
        answers.flush()

    async for line in lines():
        task = asyncio.create_task(answer(json.loads(line)))
        running.add(task)
        task.add_done_callback(running.discard)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
