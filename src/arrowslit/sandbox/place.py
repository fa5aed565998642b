"""Place: where one session's tools work: a sandbox with its way out, opened for the first call and anew if it dies."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace

from arrowslit.clock import Clock
from arrowslit.errors import Error
from arrowslit.policy.egress import Rule
from arrowslit.sandbox.egress.attempt import Record, Resolve
from arrowslit.sandbox.egress.proxy import Proxy
from arrowslit.sandbox.egress.variables import environment_for_sandbox
from arrowslit.sandbox.files import SessionFiles, Shelf, as_text
from arrowslit.sandbox.isolation.isolation import Isolation, Sandbox
from arrowslit.sandbox.journal import Courier, Execution, Journal, Taking
from arrowslit.sandbox.tools.tool import Block, Tool, ToolError, text

log = logging.getLogger(__name__)

PROXY_PORT = 3128  # inside, where nothing else listens
PROXY = f"http://127.0.0.1:{PROXY_PORT}"
OK = "ok"
STOPPED = "the sandbox was closed before this ended: whether it was done is unknown"
LAST_FILES = 10.0  # seconds for what is left to be sent when a sandbox is closed
CHANGING = ("bash", "write", "edit")  # the tools after which there may be new outputs
NAMES = ("bash", "read", "write", "edit", "glob", "grep")

MakeTools = Callable[[Sandbox, Mapping[str, str]], Sequence[Tool]]
"""The tools in a sandbox; the mapping is added to the environment of commands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all places of a worker share. `egress`: whether sandboxes have a way out, which `rules` open or not."""

    isolation: Isolation
    rules: tuple[Rule, ...]
    egress: bool
    resolve: Resolve
    make_tools: MakeTools
    clock: Clock


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call says."""

    blocks: Sequence[Block]
    is_error: bool


@dataclass(frozen=True, slots=True)
class _Done:
    """What became of a call: what the tool says, how it ended, and with which status, where there is one."""

    blocks: Sequence[Block]
    ended: str
    status: int | None = None


class Place:
    """Made by `open_place`."""

    def __init__(
        self, session: str, around: Surroundings, journal: Journal, files: SessionFiles, tasks: asyncio.TaskGroup
    ) -> None:
        self._session = session
        self._around = around
        self._journal = journal
        self._files = files
        self._tasks = tasks
        self._sandbox: Sandbox | None = None
        self._tools: Mapping[str, Tool] = {}
        self._way_out: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._over = False
        self._recording: set[asyncio.Task[bool]] = set()  # no group's, for they outlast what is cancelled

    async def call(self, name: str, input: Mapping[str, object]) -> Answer:
        """Use a tool. One call, one record: what cannot be recorded is not answered."""
        began = self._around.clock.monotonic()
        done = _Done((), "cancelled")
        try:
            done = await self._call(name, input)
        finally:
            # A task of its own: whoever is cancelled may not wait any more, and it happened all the same.
            execution = Execution(
                tool=name,
                input=input,
                output=done.blocks,
                ended=done.ended,
                status=done.status,
                seconds=self._around.clock.monotonic() - began,
            )
            recorded = asyncio.create_task(self._record(execution))
            self._recording.add(recorded)
            recorded.add_done_callback(self._recording.discard)
        if not await recorded:
            return Answer(text(f"{name}: it was done, but could not be recorded; what it said is withheld"), True)
        return Answer(done.blocks, done.ended != OK)

    async def close(self) -> None:
        """End the sandbox and all that runs in it, record what was done. No other is opened."""
        self._over = True
        await self._let_go()
        if self._recording:
            await asyncio.wait(self._recording)

    # ------------------------------------------------------------ inside

    async def _call(self, name: str, input: Mapping[str, object]) -> _Done:
        """Use a tool, in a sandbox that lives."""
        try:
            tool, sandbox = await self._tool(name)
            notes = [*await self._files.bring(sandbox)]
            done = await _used(tool, input)
            if self._over and done.ended != OK:
                return _Done(text(f"{name}: {STOPPED}"), "stopped")
            if name in CHANGING:
                notes += await self._taken(sandbox)
            return replace(done, blocks=[*done.blocks, *text(as_text(notes))]) if notes else done
        except Error as error:
            if self._over:
                return _Done(text(f"{name}: {STOPPED}"), "stopped")
            log.warning("%s in %s: %s", name, self._session, error.message)
            if error.code == "sandbox_ended":
                await self._let_go()
            return _Done(text(f"{name}: {error.message}"), error.code)

    async def _taken(self, sandbox: Sandbox) -> Sequence[str]:
        """Send new outputs; what is to be said of those that are not sent. The call itself is done, whatever comes."""
        try:
            return await self._files.take(sandbox)
        except Error as error:
            return [f"outputs are not sent: {error.message}"]

    async def _record(self, execution: Execution) -> bool:
        try:
            await self._journal.execution(execution)
        except Error as error:
            log.error("an execution in %s cannot be recorded: %s", self._session, error.message)
            return False
        return True

    async def _tool(self, name: str) -> tuple[Tool, Sandbox]:
        """The tool, and its sandbox, which lives. Raises Error `sandbox_unavailable`, `sandbox_ended`."""
        async with self._turn:
            if self._sandbox is not None and not self._sandbox.alive:
                await self._let_go()
            if self._over:
                raise Error("sandbox_ended", "the worker is leaving this session")
            if self._sandbox is None:
                await self._open()
            assert self._sandbox is not None, "it was opened"
            return self._tools[name], self._sandbox

    async def _open(self) -> None:
        around = self._around
        port = PROXY_PORT if around.egress else None
        self._sandbox = sandbox = await around.isolation.open(self._session, listen=port)
        variables: Mapping[str, str] = {}
        if sandbox.listener is not None:
            variables = environment_for_sandbox(PROXY, around.rules)
            self._way_out = self._tasks.create_task(self._serve(sandbox))
        self._tools = {tool.name: tool for tool in around.make_tools(sandbox, variables)}
        self._files.begin()
        if self._over:  # closed meanwhile
            await self._let_go()
            raise Error("sandbox_ended", "the worker is leaving this session")

    async def _serve(self, sandbox: Sandbox) -> None:
        """Let out what the rules allow. If that cannot be recorded the sandbox ends, for nothing gets out unseen."""
        try:
            await serve_egress(sandbox, self._around, self._journal.egress)
        except (Error, OSError, ExceptionGroup) as error:
            log.error("the way out of %s is shut: %s", self._session, error)
            await sandbox.close()

    async def _let_go(self) -> None:
        """End the sandbox, if there is one. What its code has made since the last call is sent first."""
        sandbox, tools, way_out = self._sandbox, self._tools, self._way_out
        self._sandbox, self._tools, self._way_out = None, {}, None
        if way_out is not None:
            way_out.cancel()
            await asyncio.wait({way_out})  # its last attempts are recorded
        if sandbox is None:
            return
        if sandbox.alive:
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_FILES):
                    for note in await self._taken(sandbox):
                        log.warning("%s: %s", self._session, note)
        for tool in tools.values():
            await tool.close()
        await sandbox.close()


async def _used(tool: Tool, input: Mapping[str, object]) -> _Done:
    """What a tool says, also that it did not succeed. Raises Error."""
    try:
        return _Done(await tool.call(input), OK, 0)
    except ToolError as error:
        return _Done(text(str(error)), error.ended, error.status)


async def serve_egress(sandbox: Sandbox, around: Surroundings, record: Record) -> None:
    """Serve the listener of a sandbox until cancelled. Raises what `Proxy.serve` raises."""
    assert sandbox.listener is not None, "it was opened with one"
    proxy = Proxy(around.rules, resolve=around.resolve, record=record, clock=around.clock)
    await proxy.serve(sandbox.listener)


@asynccontextmanager
async def open_place(
    session: str, around: Surroundings, journal: Journal, courier: Courier, shelf: Shelf, keeping: Taking
) -> AsyncIterator[Place]:
    """A place for one session. When the block ends nothing of it is left, and its records were sent if that could be.

    `courier` sends what `journal` records. `shelf` has the session's files, if its server is `keeping` any.
    """
    async with asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(courier.run())
        place = Place(session, around, journal, SessionFiles(shelf, journal, keeping), tasks)
        try:
            yield place
        finally:
            await place.close()
            await courier.flush()
            sending.cancel()
