"""The tests' end of `speak.py` and `speak.mjs`: a client library of others in a process of its own, driven by JSON
lines.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import environments

from requirements import node

SPEAK = Path(__file__).with_name("speak.py")
SPEAK_NODE = Path(__file__).with_name("speak.mjs")
Json = dict[str, Any]


class SpeakError(Exception):
    """What the library raised: the name of its type, and code, message and data as far as it tells them.

    `code` is the JSON-RPC error's, or the HTTP status where the library raises its HTTP client's error.
    """

    def __init__(self, type: str, code: int | None, message: str, data: Any) -> None:
        super().__init__(f"{type}({code}): {message}")
        self.type = type
        self.code = code
        self.message = message
        self.data = data


@dataclass(frozen=True, slots=True)
class Opened:
    """An open client: what `tools`, `call` and `close` take, and the protocol version that was agreed."""

    handle: int
    protocol: str


@dataclass(frozen=True, slots=True)
class Caller:
    """One client of `many`: its headers, and what every answer's structured content must contain beside the canary."""

    headers: Mapping[str, str]
    expect: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Counted:
    """What came of `many`: `calls` were answered, `mismatches` of them wrongly; `errors` were raised instead."""

    calls: int
    mismatches: int
    errors: int
    first_mismatch: Json | None
    first_error: Json | None
    seconds: float


class Speaker:
    """One library in one process, for the whole test session; used in a `with`.

    Its methods may be awaited from any event loop and many at a time. They raise `SpeakError` for what the library
    raises, and `RuntimeError` with the end of its stderr when the process has died.
    """

    def __init__(self, library: str) -> None:
        self.library = library
        self._waiting: dict[int, Future[Any]] = {}
        self._lock = threading.Lock()
        self._last_id = 0

    def __enter__(self) -> Self:
        program, *words = _command(self.library)
        if not program.exists():
            raise RuntimeError(f"{program} does not exist: run `make test`, or `make clients`, once")
        self._stderr = tempfile.TemporaryFile("w+", encoding="utf-8")
        self._process = subprocess.Popen(
            [program, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            encoding="utf-8",
            env=os.environ | {"NO_PROXY": "127.0.0.1,localhost", "FASTMCP_CHECK_FOR_UPDATES": "off"},
        )
        self._reader = threading.Thread(target=self._read, name=f"speak {self.library}", daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        self._process.stdout.close()
        self._stderr.close()

    async def open(
        self, url: str, headers: Mapping[str, str] | None = None, mode: str = "auto", timeout: float = 10
    ) -> Opened:
        """Connect to the MCP endpoint `url`; `mode` is "auto", "legacy" or "2026-07-28" (mcp1 knows legacy only)."""
        return Opened(**await self._do("open", url=url, headers=dict(headers or {}), mode=mode, timeout=timeout))

    async def tools(self, opened: Opened) -> list[Json]:
        """The tools as the server lists them now, each as on the wire (`name`, `inputSchema`, …)."""
        return list(await self._do("tools", handle=opened.handle))

    async def call(
        self,
        opened: Opened,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        meta: Mapping[str, Any] | None = None,
        timeout: float = 10,
    ) -> Json:
        """Call a tool; returns its result as on the wire (`content`, `structuredContent`, `isError`).

        `meta` is sent as the client's own `_meta`; `timeout`, in seconds, is the library's own.
        """
        asked = {"name": name, "arguments": dict(arguments or {}), "meta": None if meta is None else dict(meta)}
        return dict(await self._do("call", handle=opened.handle, timeout=timeout, **asked))

    async def close(self, opened: Opened) -> None:
        """Close as the library does, its session included."""
        await self._do("close", handle=opened.handle)

    async def many(
        self,
        url: str,
        callers: Sequence[Caller],
        calls: int,
        *,
        name: str = "echo",
        arguments: Mapping[str, Any] | None = None,
        mode: str = "auto",
        timeout: float = 30,
        seed: int = 1,
    ) -> Counted:
        """Open a client for each caller, all at once; each makes `calls` calls of the tool `name`, one after the other.

        In `arguments` the string "{canary}" stands for one that no other call has, and `{"between": [a, b]}` for a
        whole number drawn anew for each call. An answer is right when its structured content has that canary as
        `canary`, and all that the caller expects.
        """
        template = {"canary": "{canary}"} if arguments is None else dict(arguments)
        clients = [{"headers": dict(caller.headers), "expect": dict(caller.expect)} for caller in callers]
        asked = {"url": url, "clients": clients, "calls": calls, "name": name, "arguments": template}
        return Counted(**await self._do("many", **asked, mode=mode, timeout=timeout, seed=seed))

    async def _do(self, what: str, **job: Any) -> Any:
        """Send one job and wait for its answer."""
        future: Future[Any] = Future()
        with self._lock:
            self._last_id += 1
            self._waiting[self._last_id] = future
            line = json.dumps({"id": self._last_id, "do": what, **job})
            try:
                assert self._process.stdin
                self._process.stdin.write(line + "\n")
                self._process.stdin.flush()
            except BrokenPipeError:
                raise self._died() from None
        return await asyncio.wrap_future(future)

    def _read(self) -> None:
        """Hand every answer to who waits for it; at the end of the process, tell all who still wait."""
        assert self._process.stdout
        for line in self._process.stdout:
            said = json.loads(line)
            future = self._waiting.pop(said["id"])
            if not future.set_running_or_notify_cancel():
                continue  # the test has given up on it
            if "error" in said:
                future.set_exception(SpeakError(**said["error"]))
            else:
                future.set_result(said["answer"])
        for future in self._waiting.values():
            if future.set_running_or_notify_cancel():
                future.set_exception(self._died())

    def _died(self) -> RuntimeError:
        self._stderr.seek(0)
        return RuntimeError(f"speak.py {self.library} has ended; it said last:\n{self._stderr.read()[-2000:]}")


def _command(library: str) -> list[Path]:
    """How to start the speaker of `library`: `sdk1` and `client2` are those in TypeScript."""
    if library in ("sdk1", "client2"):
        return [node.node(), SPEAK_NODE, node.packages(environments.HERE / "npm"), Path(library)]
    return [environments.interpreter(library), SPEAK, Path(library)]
