"""Tools of `everything.py` that take their time, are given up, or change something: for tests of our own."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

from everything_tools import Answer, Context, Offered, changes, text
from mcp.server.subscriptions import ResourceUpdated
from mcp_types import CallToolRequestParams

waits: Counter[str] = Counter()
"""What became of each wait, by its canary and one of "began", "cancelled"."""
watched: set[str] = set()
"""The resources that somebody of the older era subscribed to."""

WORK = {
    "type": "object",
    "properties": {"seconds": {"type": "number"}, "every": {"type": "number"}},
    "required": ["seconds", "every"],
}


async def wait(_context: Context, params: CallToolRequestParams) -> Answer:
    """Wait until nobody wants the answer any more."""
    canary = str((params.arguments or {}).get("canary"))
    waits[f"{canary} began"] += 1
    try:
        await asyncio.get_running_loop().create_future()
    except asyncio.CancelledError:
        waits[f"{canary} cancelled"] += 1
        raise
    return "never"


async def what_became(_context: Context, _params: CallToolRequestParams) -> Answer:
    return json.dumps(waits)


async def work(context: Context, params: CallToolRequestParams) -> Answer:
    """Take so many seconds, and report the progress after `every` of them."""
    asked = params.arguments or {}
    seconds, every = float(asked["seconds"]), float(asked["every"])
    steps = round(seconds / every)
    for step in range(steps):
        await asyncio.sleep(every)
        await context.session.report_progress(step + 1, steps)
    return f"worked for {seconds:g} s"


async def touch(context: Context, params: CallToolRequestParams) -> Answer:
    """Say that a resource changed, to those who want to know, in the way of either era."""
    uri = str((params.arguments or {}).get("uri"))
    await changes.publish(ResourceUpdated(uri))
    if uri in watched and context.session.can_send_request:
        await context.session.send_resource_updated(uri)
    return f"{uri} was said to have changed"


LIFE: dict[str, Offered] = {
    "wait": Offered("Waits until it is given up", wait, text("canary")),
    "what_became": Offered("Tells what became of every wait", what_became),
    "work": Offered("Works for some seconds, and reports its progress", work, WORK),
    "touch": Offered("Says that a resource changed", touch, text("uri")),
}
