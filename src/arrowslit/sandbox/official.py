"""The official SDK's worker for one item, with our tools; and its client for the queue. The SDK takes two seconds to
import: this module is imported late.

Nothing that the platform sends is written on this machine: the session is shown to the SDK without skills and
resources, which it would download, and memory stores are off.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import anyio
from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient
from anthropic.lib.environments import EnvironmentWorker
from anthropic.lib.tools import BetaAsyncBuiltinFunctionTool, ToolError
from anthropic.resources.beta import AsyncBeta
from anthropic.resources.beta.sessions import AsyncSessions
from anthropic.types.beta import BetaManagedAgentsSession

from arrowslit.errors import Error
from arrowslit.sandbox.files import Shelf
from arrowslit.sandbox.journal import JSON, Send
from arrowslit.sandbox.official_errors import first, said, where_supported
from arrowslit.sandbox.official_files import OfficialShelf
from arrowslit.sandbox.place import NAMES, Place
from arrowslit.sandbox.work import Item

log = logging.getLogger(__name__)

BLOCK = 999  # milliseconds that a poll may wait for work: the most that is officially taken
TELL = 5.0  # seconds for the server to hear that sessions are left
NOWHERE = os.devnull  # a folder that nothing can be put into

OpenPlace = Callable[[Item, Send, Shelf], AbstractAsyncContextManager[Place]]
"""A place for the session of an item, whose records go by `Send`, and whose files are on the `Shelf`."""


class Client(AsyncAnthropic):
    """`anthropic.AsyncAnthropic`, for which no session has anything to download."""

    @cached_property
    def beta(self) -> _Beta:
        """Environments and sessions."""
        return _Beta(self)


class _Beta(AsyncBeta):
    @cached_property
    def sessions(self) -> _Sessions:
        return _Sessions(self._client)


class _Sessions(AsyncSessions):
    async def retrieve(self, session_id: str, **options: Any) -> BetaManagedAgentsSession:
        """As officially, without skills and resources."""
        session = await super().retrieve(session_id, **options)
        session.agent.skills, session.resources = [], []
        return session


@asynccontextmanager
async def open_client(origin: str, key: str, *, verify: Any, proxy: str | None) -> AsyncIterator[Client]:
    """A client of the server at `origin` with an environment key; `verify` is what TLS trusts."""
    http = DefaultAsyncHttpxClient(verify=verify, proxy=proxy, trust_env=False, follow_redirects=False)
    async with Client(base_url=origin, auth_token=key, http_client=http, open_telemetry=False) as client:
        yield client


class OfficialQueue:
    """Fulfils Queue."""

    def __init__(self, client: Client, environment_id: str, worker_id: str) -> None:
        self._work = client.beta.environments.work
        self._environment_id = environment_id
        self._worker_id = worker_id

    async def poll(self) -> Item | None:
        """See Queue."""
        with said():
            found: Any = await self._work.poll(
                self._environment_id, block_ms=BLOCK, anthropic_worker_id=self._worker_id
            )
            if found is None:
                return None
            return Item(found.id, self._environment_id, found.data.type, found.data.id, getattr(found, "secret", None))

    async def ack(self, item: Item) -> None:
        """See Queue."""
        with said():
            await self._work.ack(item.id, environment_id=item.environment_id)

    async def stop(self, item: Item) -> None:
        """See Queue."""
        with said():
            await self._work.stop(item.id, environment_id=item.environment_id, force=True)


class OfficialSessions:
    """Fulfils Sessions with `handle_item`. `idle` is seconds to stay once a turn has ended."""

    def __init__(self, client: Client, key: str, open_place: OpenPlace, idle: float) -> None:
        self._client = client
        self._key = key
        self._open_place = open_place
        self._idle = idle
        self._held: dict[Place, _Held] = {}
        self._leaving = False

    async def serve(self, item: Item) -> None:
        """See Sessions."""
        token = sessions_token(item.secret)
        try:
            scoped = self._scoped(token or self._key)
            async with self._open_place(item, _sender(item, scoped), OfficialShelf(item.subject, scoped)) as place:
                await self._handle_within(item, token, place)
        except Exception as error:
            log.error("%s was given up: %s", item.subject, first(error))

    async def leave(self) -> None:
        """See Sessions."""
        try:
            await asyncio.gather(*(self._tell(each) for each in self._held.values()))
        finally:
            self._cancel()

    async def end(self) -> None:
        """See Sessions."""
        self._cancel()
        for place in list(self._held):
            await place.close()

    def _cancel(self) -> None:
        self._leaving = True
        for each in self._held.values():
            each.scope.cancel()

    async def _tell(self, held: _Held) -> None:
        """Ask for the item to be stopped, and hear that it is: what is answered after that was ended in order."""
        work = self._scoped(held.token).beta.environments.work
        item = held.item
        try:
            async with asyncio.timeout(TELL):
                with said():
                    await work.stop(item.id, environment_id=item.environment_id)
                    await work.heartbeat(item.id, environment_id=item.environment_id)
        except (Error, TimeoutError) as error:
            log.warning("the server was not told that %s is left: %s", item.subject, error)

    async def _handle_within(self, item: Item, token: str | None, place: Place) -> None:
        """Until `leave`: by a scope, from which the SDK shields a call that runs. A task's own cancel would break it
        off.
        """
        with anyio.CancelScope() as scope:
            if self._leaving:
                scope.cancel()
            self._held[place] = _Held(item, token or self._key, scope)
            try:
                await self._handle(item, token, place)
            finally:
                del self._held[place]

    async def _handle(self, item: Item, token: str | None, place: Place) -> None:
        worker = EnvironmentWorker(
            self._client,
            environment_id=item.environment_id,
            environment_key=self._key,
            tools=[_Tool(name, place) for name in NAMES],
            workdir=NOWHERE,
            max_idle=self._idle,
            memory_sync_interval=None,
        )
        await worker.handle_item(
            work_id=item.id,
            environment_id=item.environment_id,
            session_id=item.subject,
            # Without one the SDK would look for one in this process's environment.
            work_secret=item.secret if token else packed(self._key),
        )

    def _scoped(self, token: str) -> AsyncAnthropic:
        """A client with that token, which tries once."""
        return self._client.copy(auth_token=token, base_url=self._client.base_url, max_retries=0)


@dataclass(frozen=True, slots=True)
class _Held:
    """A session that is served."""

    item: Item
    token: str = field(repr=False)
    scope: anyio.CancelScope


class _Tool(BetaAsyncBuiltinFunctionTool):
    """One of our tools as the SDK calls it."""

    def __init__(self, name: str, place: Place) -> None:
        self._name = name
        self._place = place

    @property
    def name(self) -> str:
        return self._name

    def to_dict(self) -> Any:
        return {"type": "custom", "name": self._name, "input_schema": {"type": "object"}}

    async def call(self, input: object) -> Any:
        answer = await self._place.call(self._name, input if isinstance(input, Mapping) else {})
        if answer.is_error:
            raise ToolError(answer.blocks)  # type: ignore[arg-type]  # the blocks that the API takes
        return answer.blocks

    async def close(self) -> None:
        """Called by the SDK before it stops the item: by then nothing of the session is left here."""
        await self._place.close()


def _sender(item: Item, scoped: AsyncAnthropic) -> Send:
    """Sends records of this delivery with its own token, which `scoped` has."""

    async def send(records: Sequence[JSON]) -> None:
        with where_supported(), said():
            await scoped.post(f"/v1/work/{item.id}/records", cast_to=object, body={"records": list(records)})

    return send


def sessions_token(secret: str | None) -> str | None:
    """The token in an item's secret: base64url of JSON, with or without padding. None if there is none."""
    try:
        found = json.loads(base64.urlsafe_b64decode((secret or "") + "=" * (-len(secret or "") % 4)))
        token = found["sessions_token"]
    except (ValueError, TypeError, KeyError):
        return None
    return token if isinstance(token, str) and token else None


def packed(token: str) -> str:
    """A secret that holds this token."""
    return base64.urlsafe_b64encode(json.dumps({"sessions_token": token}).encode()).decode()
