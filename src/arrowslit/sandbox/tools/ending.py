"""The end of a process that a tool keeps inside the sandbox."""

from __future__ import annotations

import asyncio

from arrowslit.errors import Error
from arrowslit.sandbox.isolation.isolation import Ended, Process, Why
from arrowslit.sandbox.tools.tool import ToolError


async def ended(process: Process) -> Ended:
    """Kill a process and see it gone, also if nobody waits for that any more: else its pipes would stay open."""
    process.kill()
    return await asyncio.shield(asyncio.ensure_future(process.wait()))


def refuse_unless_it_ran(end: Ended, tool: str) -> None:
    """Raises ToolError if a process was never started, Error `sandbox_ended` if the sandbox ended around it."""
    if end.why is Why.DIED:
        raise Error(
            "sandbox_ended",
            f"the sandbox ended while {tool} ran: whether it was done is unknown",
            hint="open another for the session",
        )
    if end.why is Why.NOT_STARTED:
        raise ToolError(f"{tool}: the sandbox could not start it: {end.reason}")
