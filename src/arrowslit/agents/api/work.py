"""/v1/environments/{id}/work: the queue that sandbox workers poll, and health checks, which are ours."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType
from starlette.requests import Request
from starlette.routing import Route

from arrowslit.agents.api.pages import PageQuery, Position, page
from arrowslit.agents.api.reading import patched, read_body, read_query
from arrowslit.agents.api.resource import ADMINISTRATORS, WORKERS, Doorkeeper, Method, caller
from arrowslit.agents.api.schema import Nothing, Strict
from arrowslit.agents.sessions.log import Log
from arrowslit.agents.work import leases
from arrowslit.agents.work.leases import Beat
from arrowslit.agents.work.polling import Polling
from arrowslit.agents.work.reaper import Reaper
from arrowslit.clock import Clock, rfc3339
from arrowslit.credential import CredentialKind
from arrowslit.environment import Environments
from arrowslit.errors import Error
from arrowslit.ids import RandomBytes, new_id
from arrowslit.work import Work, Worker, WorkKind, WorkQueue, WorkState

BY_ENVIRONMENT = frozenset({CredentialKind.ENVIRONMENT_KEY})

_MAX_WORKER_ID = 256  # characters; the SDK's have about 50


class PollQuery(Strict):
    """GET …/work/poll. Without `block_ms` nobody waits."""

    block_ms: Annotated[int, Meta(ge=1, le=999)] | None = None
    reclaim_older_than_ms: Annotated[int, Meta(ge=0, le=3_600_000)] = 5000


class BeatQuery(Strict):
    """POST …/work/{id}/heartbeat: a conditional update, in the query as the SDK sends it."""

    expected_last_heartbeat: Annotated[str, Meta(max_length=64)] | None = None
    desired_ttl_seconds: Annotated[int, Meta(ge=1, le=86_400)] | None = None


class StopBody(Strict):
    """POST …/work/{id}/stop."""

    force: bool = False


class WorkUpdateBody(Strict):
    """POST …/work/{id}: null deletes a pair."""

    metadata: dict[str, str | None] | UnsetType | None = UNSET


@dataclass(frozen=True, slots=True)
class WorkApi:
    """The handlers."""

    environments: Environments
    queue: WorkQueue
    polling: Polling
    log: Log
    reaper: Reaper
    clock: Clock
    random: RandomBytes

    def routes(self, keeper: Doorkeeper) -> list[Route]:
        """The paths of this resource. Those that say `poll` and `stats` come before ids."""
        environment = "/v1/environments/{environment_id}"
        one = f"{environment}/work/{{work_id}}"
        absent = ("environment_not_found",)
        missing = (*absent, "work_not_found")
        everybody = ADMINISTRATORS | WORKERS
        lost = (*missing, "heartbeat_precondition_failed")
        operators = ADMINISTRATORS | BY_ENVIRONMENT
        return [
            keeper.resource(
                f"{environment}/healthcheck", post=Method(self.check, body=Nothing, answer="Work", errors=absent)
            ),
            keeper.resource(
                f"{environment}/work",
                get=Method(self.list, operators, query=PageQuery, answer="WorkPage", errors=absent),
            ),
            keeper.resource(
                f"{environment}/work/poll",
                get=Method(self.poll, BY_ENVIRONMENT, query=PollQuery, answer="DeliveredWork", errors=absent),
            ),
            keeper.resource(
                f"{environment}/work/stats", get=Method(self.stats, operators, answer="WorkStats", errors=absent)
            ),
            keeper.resource(
                one,
                get=Method(self.retrieve, answer="Work", errors=missing),
                post=Method(self.update, body=WorkUpdateBody, answer="Work", errors=missing),
            ),
            keeper.resource(
                f"{one}/ack", post=Method(self.ack, BY_ENVIRONMENT, body=Nothing, answer="Work", errors=missing)
            ),
            keeper.resource(
                f"{one}/heartbeat",
                post=Method(self.heartbeat, WORKERS, query=BeatQuery, body=Nothing, answer="Heartbeat", errors=lost),
            ),
            keeper.resource(
                f"{one}/stop", post=Method(self.stop, everybody, body=StopBody, answer="Work", errors=missing)
            ),
        ]

    # -------------------------------------------------------- what workers do

    async def poll(self, request: Request) -> object:
        """The oldest item that is to be had, with the token to serve it; null, as officially, if there is none."""
        query = read_query(request, PollQuery)
        environment_id = self._environment(request)
        worker_id = request.headers.get("anthropic-worker-id", "")[:_MAX_WORKER_ID]
        if worker_id:
            self.polling.note(environment_id, worker_id)
        found = await self._next(environment_id, caller(request).id, query)
        if found is None:
            return None
        item, token = found
        return {**_show(item), "secret": _secret(token)}

    async def ack(self, request: Request) -> object:
        """A worker has taken the item that it was handed."""
        await read_body(request, Nothing)
        item = await self._item(request)
        now = self.clock.now()
        return _show(await self.queue.change(item.environment_id, item.id, lambda it: leases.acknowledge(it, now)))

    async def heartbeat(self, request: Request) -> object:
        """A worker still serves the item; the answer may say that it is to stop."""
        query = read_query(request, BeatQuery)
        await read_body(request, Nothing)
        item = await self._item(request)
        who = caller(request)
        assert isinstance(who, Worker)
        now = self.clock.now()
        sent = Beat(
            query.expected_last_heartbeat,
            leases.TTL if query.desired_ttl_seconds is None else float(query.desired_ttl_seconds),
            who.generation,
            await self._may_go(item),
        )
        item = await self.queue.change(item.environment_id, item.id, lambda it: leases.beat(it, now, sent))
        return {
            "type": "work_heartbeat",
            "last_heartbeat": item.heartbeat or "",
            "lease_extended": item.state is WorkState.ACTIVE,
            "state": item.state.value,
            "ttl_seconds": leases.ttl(item),
        }

    async def stop(self, request: Request) -> object:
        """End an item. A worker whose item is another's by now ends nothing, and is told so by its state."""
        body = await read_body(request, StopBody)
        item = await self._item(request)
        who = caller(request)
        if isinstance(who, Worker) and who.late:
            return _show(item)
        return _show(await self.reaper.stop(item, force=body.force, by_holder=isinstance(who, Worker)))

    # -------------------------------------------------------- what operators do

    async def check(self, request: Request) -> object:
        """Queue an item that does nothing. Once it is stopped, a worker has been there."""
        await read_body(request, Nothing)
        made = leases.healthcheck(new_id("work", self.random), self._environment(request), self.clock.now())
        return _show(await self.queue.add(made))

    async def list(self, request: Request) -> object:
        """A page of items; stopped ones for a day."""
        query = read_query(request, PageQuery)
        return page(request, query, await self.queue.list(self._environment(request)), _position, _show)

    async def stats(self, request: Request) -> object:
        """Figures of the queue."""
        environment_id = self._environment(request)
        facts = await self.queue.facts(environment_id)
        return {
            "type": "work_queue_stats",
            "depth": facts.depth,
            "pending": facts.pending,
            "oldest_queued_at": _time(facts.oldest_queued_at),
            "workers_polling": self.polling.count(environment_id),
        }

    async def retrieve(self, request: Request) -> object:
        """The item, without its secret."""
        return _show(await self._item(request))

    async def update(self, request: Request) -> object:
        """Change the item's metadata."""
        body = await read_body(request, WorkUpdateBody)
        item = await self._item(request)
        return _show(
            await self.queue.change(
                item.environment_id,
                item.id,
                lambda it: replace(it, metadata=patched(it.metadata, body.metadata)),
            )
        )

    # -------------------------------------------------------- inside

    def _environment(self, request: Request) -> str:
        """The environment of the path. Another one's worker is told that there is none."""
        environment_id = str(request.path_params["environment_id"])
        who = caller(request)
        if isinstance(who, Worker) and who.environment_id != environment_id:
            environment_id = "?"
        return self.environments.read(environment_id).id

    async def _item(self, request: Request) -> Work:
        """The item of the path. A sessions token knows its own only."""
        work_id = str(request.path_params["work_id"])
        who = caller(request)
        if isinstance(who, Worker) and who.work_id not in (None, work_id):
            work_id = "?"
        return await self.queue.read(self._environment(request), work_id)

    async def _next(self, environment_id: str, key_id: str, query: PollQuery) -> tuple[Work, str] | None:
        """An item, waited for as long as was asked. A delivery is never broken off in the middle."""
        until = self.clock.monotonic() + (query.block_ms or 0) / 1000
        reclaim_after = query.reclaim_older_than_ms / 1000
        while True:
            queued = self.polling.queued(environment_id)
            found = await self.queue.next(
                environment_id, key_id, lambda it: leases.deliver(it, self.clock.now(), reclaim_after)
            )
            left = until - self.clock.monotonic()
            if found is not None or left <= 0:
                return found
            try:
                async with asyncio.timeout(left):
                    await queued.wait()
            except TimeoutError:
                return None

    async def _may_go(self, item: Work) -> bool:
        """Whether the worker of this item has nothing to do, and others may need it."""
        if item.kind is not WorkKind.SESSION or item.state is not WorkState.ACTIVE:
            return False
        try:
            session, state = await self.log.read(item.subject)
        except Error as error:
            if error.code == "session_not_found":
                return True
            raise
        waiting = (await self.queue.facts(item.environment_id)).depth > 0
        return leases.may_go(session, state, self.clock.now(), others_wait=waiting)


def _show(item: Work) -> Mapping[str, object]:
    return {
        "id": item.id,
        "type": "work",
        "environment_id": item.environment_id,
        "state": item.state.value,
        "data": {"type": item.kind.value, "id": item.subject},
        "metadata": dict(item.metadata),
        "secret": None,
        "created_at": rfc3339(item.created_at),
        "acknowledged_at": _time(item.acknowledged_at),
        "started_at": _time(item.started_at),
        "latest_heartbeat_at": _time(item.heartbeat_at),
        "stop_requested_at": _time(item.stop_requested_at),
        "stopped_at": _time(item.stopped_at),
    }


def _secret(token: str) -> str:
    """What the worker unpacks its bearer from."""
    return base64.urlsafe_b64encode(msgspec.json.encode({"sessions_token": token})).decode().rstrip("=")


def _position(item: Work) -> Position:
    return item.created_at, item.id


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else rfc3339(seconds)
