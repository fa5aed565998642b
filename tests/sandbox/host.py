"""A worker's process as small as can be: opens sandboxes and runs commands in them, told by lines of JSON.

It is a process of its own so that the tests can be root and an ordinary user, and can kill it. Under another user it
runs on the system's Python and a copy of our sources, because ours may lie in a home: its argument is where they are.
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import sys
from typing import Any

sys.path.insert(0, sys.argv[1])

from arrowslit.errors import Error
from arrowslit.sandbox.isolation.bubblewrap import Bubblewrap
from arrowslit.sandbox.isolation.isolation import Command, Ended, Limits, Sandbox

sandboxes: dict[str, Sandbox] = {}
hand = socket.socket(fileno=int(sys.argv[3]))  # over which listeners are handed out


async def answer(isolation: Bubblewrap, question: dict[str, Any]) -> dict[str, Any]:
    """Do what one line says."""
    match question:
        case {"open": name, **more}:
            sandboxes[name] = opened = await isolation.open(name, listen=more.get("listen"))
            if opened.listener is not None:
                socket.send_fds(hand, [name.encode()], [opened.listener.fileno()])
                opened.listener.close()
            return {}
        case {"close": name}:
            await sandboxes.pop(name).close()
            return {}
        case {"run": name, "command": command}:
            return await run(sandboxes[name], read(command))
        case {"start": name, "command": command}:
            await sandboxes[name].start(read(command))
            return {}
    return {"report": isolation.report.record()}


def read(command: dict[str, Any]) -> Command:
    """A command; its input comes as base64."""
    given = command | {"argv": tuple(command["argv"])}
    return Command(**given | {"stdin": base64.b64decode(command["stdin"])} if "stdin" in command else given)


async def run(sandbox: Sandbox, command: Command) -> dict[str, Any]:
    """Run a command to its end, and tell all about it."""
    said: dict[str, bytes] = {"stdout": b"", "stderr": b""}
    found: dict[str, Any] = {}
    async for each in sandbox.run(command):
        if isinstance(each, Ended):
            found = {name: getattr(each, name) for name in Ended.__slots__}
        else:
            said[each.stream] += each.data
    return found | {name: text.decode("latin-1") for name, text in said.items()}


async def main() -> None:
    """Answer until there are no more questions."""
    settings = json.loads(sys.argv[2])
    for name in settings.get("without", ()):
        sys.modules[name] = None  # type: ignore[assignment]  # as if it were not installed
    lines = asyncio.StreamReader(limit=1 << 24)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    uids = range(*settings["uids"]) if settings["uids"] else None
    isolation = Bubblewrap(Limits(**settings["limits"]), uids=uids, allow_degraded=settings["allow_degraded"])
    try:
        async with isolation, asyncio.TaskGroup() as tasks:
            say(None, {"report": isolation.report.record()})
            while line := await lines.readline():
                tasks.create_task(reply(isolation, json.loads(line)))
    except* Error as errors:
        say(None, {"error": [f"{error} ({error.hint})" for error in errors.exceptions if isinstance(error, Error)]})


async def reply(isolation: Bubblewrap, question: dict[str, Any]) -> None:
    """Answer one question, with its number."""
    try:
        say(question["number"], await answer(isolation, question))
    except Error as error:
        say(question["number"], {"error": str(error)})


def say(number: int | None, found: dict[str, Any]) -> None:
    """Write one line."""
    sys.stdout.write(json.dumps(found | {"number": number}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
