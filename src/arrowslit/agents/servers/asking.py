"""One request to a server, and all that may happen while it runs: progress, questions, an answer on another stream."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

import msgspec

from arrowslit.agents.servers import speech
from arrowslit.agents.servers.door import Door
from arrowslit.agents.servers.gathering import UNREADABLE, Aside, Gathering
from arrowslit.agents.servers.speech import Speech
from arrowslit.agents.servers.tool import Progress
from arrowslit.errors import METHOD_NOT_FOUND, Error
from arrowslit.tunnel import Exchange

PATIENCE = 60.0  # seconds for an answer on another stream, where no deadline is given; the relay's own
ASK_ON_AFTER, SOONEST = 1.0, 0.1  # seconds until a stream that its server ended early is gone on with
MOST_QUESTIONS = 64  # of a server during one request; further ones get no answer

OnProgress = Callable[[Progress], None]

log = logging.getLogger(__name__)


async def ask(
    door: Door,
    agreed: Speech,
    ident: int,
    exchange: Exchange,
    on_progress: OnProgress | None = None,
    deadline: float | None = None,
) -> Gathering:
    """Carry the request with the id `ident`, once, and answer what the server asks meanwhile.

    Raises Error for what never became a call. Cancelling gives the request up.
    """
    replies: list[asyncio.Task[None]] = []
    refused: Error | None = None
    async with asyncio.TaskGroup() as tasks:

        def aside(said: Aside) -> None:
            if said.id is not None and not agreed.modern and len(replies) < MOST_QUESTIONS:
                replies.append(tasks.create_task(_reply(door, agreed, said.id, said.method)))
            elif said.method == "notifications/progress" and on_progress is not None:
                _tell(said, ident, on_progress)

        gathered = Gathering(ident, aside)
        try:
            await door.carry(exchange, gathered)
            gathered = await _asked_on(door, agreed, ident, gathered, aside, deadline or PATIENCE)
        except Error as error:
            refused = error
        for reply in replies:
            reply.cancel()
    if refused is not None:
        raise refused
    return gathered


async def _asked_on(
    door: Door, agreed: Speech, ident: int, gathered: Gathering, aside: Callable[[Aside], None], patience: float
) -> Gathering:
    """The answer that comes on another stream: a legacy server may end one early, and wait to be asked on.

    That is a GET, which executes nothing. Source: MCP 2025-11-25, Streamable HTTP, resumability.
    """
    last_event, retry = gathered.last_event, gathered.retry
    if agreed.session is None or last_event is None or not gathered.unsaid:
        return gathered
    try:
        async with asyncio.timeout(patience):
            while True:
                await asyncio.sleep(ASK_ON_AFTER if retry is None else max(SOONEST, retry / 1000))
                more = Gathering(ident, aside)
                await door.carry(speech.resume(agreed, last_event), more)
                if not more.unsaid:
                    return more if more.streams else gathered  # no stream: the server cannot go on with this one
                last_event = more.last_event or last_event
    except (Error, TimeoutError) as error:
        log.info("the answer of %s did not come on another stream: %s", door.server, error)
        return gathered


async def _reply(door: Door, agreed: Speech, question: int | str, method: str) -> None:
    """A server may make sure that we are there. It may not ask the model or a person anything: nobody agreed."""
    said: Mapping[str, object] = {"result": {}}
    if method != "ping":
        said = {"error": {"code": METHOD_NOT_FOUND, "message": "this client answers no such question"}}
    try:
        await door.carry(speech.response(agreed, question, said), Gathering())
    except Error as error:
        log.info("a question of %s was not answered: %s", door.server, error)


class _Told(msgspec.Struct):
    progressToken: int | str  # noqa: N815 the name on the wire
    progress: float = 0
    total: float | None = None
    message: str | None = None


def _tell(said: Aside, ident: int, on_progress: OnProgress) -> None:
    try:
        told = msgspec.json.decode(said.params, type=_Told)
    except UNREADABLE:
        return
    if told.progressToken == ident:
        on_progress(Progress(told.progress, told.total, told.message))
