"""Agents and their versions in the store: the port AgentAdmin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
from sqlalchemy import Row, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from arrowslit.agent import Agent, Definition
from arrowslit.clock import Clock
from arrowslit.errors import Error
from arrowslit.ids import RandomBytes, new_id
from arrowslit.principal import AgentChanged, Change
from arrowslit.store.database import Database
from arrowslit.store.snapshot import Snapshot
from arrowslit.store.tables import agent_versions, agents


class StoredAgents:
    """All agents. Current versions are answered from memory, earlier ones from disk."""

    def __init__(
        self,
        database: Database,
        snapshot: Snapshot,
        notify: Callable[[Change], None],
        clock: Clock,
        random: RandomBytes,
    ) -> None:
        self._database, self._snapshot, self._notify = database, snapshot, notify
        self._clock, self._random = clock, random

    async def load(self) -> None:
        """Bring the current versions into memory."""
        current = (agents.c.id == agent_versions.c.agent_id) & (agents.c.version == agent_versions.c.version)
        for row in await self._database.read(_select_versions().where(current)):
            self._snapshot.put_agent(_from_row(row))

    def read(self, agent_id: str) -> Agent:
        """See `AgentAdmin.read`."""
        agent = self._snapshot.agents.get(agent_id)
        if agent is None:
            raise Error("agent_not_found", "there is no such agent", hint="see: arrowslit agent list")
        return agent

    def named(self, text: str) -> Agent:
        """See `AgentAdmin.named`."""
        if text in self._snapshot.agents:
            return self.read(text)
        found = self._snapshot.agents_named(text)
        if len(found) > 1:
            raise Error("validation_error", "several agents have that name", hint="name the agent by its id")
        return found[0] if found else self.read(text)

    def every(self) -> Sequence[Agent]:
        """See `AgentAdmin.every`."""
        return sorted(self._snapshot.agents.values(), key=lambda agent: (agent.created_at, agent.id), reverse=True)

    async def versions(self, agent_id: str) -> Sequence[Agent]:
        """See `AgentAdmin.versions`."""
        self.read(agent_id)
        query = _select_versions().where(agents.c.id == agent_id).order_by(agent_versions.c.version.desc())
        return [_from_row(row) for row in await self._database.read(query)]

    async def create(self, definition: Definition) -> Agent:
        """See `AgentAdmin.create`."""
        now = self._clock.now()
        agent = Agent(new_id("agent", self._random), 1, definition, now, now)

        async def work(connection: AsyncConnection) -> Agent:
            await connection.execute(insert(agents).values(id=agent.id, version=1, created_at=now))
            await _insert_version(connection, agent)
            return agent

        return await self._database.write(work, self._put)

    async def update(
        self, agent_id: str, revise: Callable[[Definition], Definition], *, version: int | None = None
    ) -> Agent:
        """See `AgentAdmin.update`."""
        now = self._clock.now()

        async def work(connection: AsyncConnection) -> Agent:
            before = self.read(agent_id)
            if before.archived_at is not None:
                raise Error("archived", "the agent is archived, which is for good", hint="create another")
            if version not in (None, before.version):
                raise _conflict()
            definition = revise(before.definition)
            if definition == before.definition:
                return before
            after = replace(before, version=before.version + 1, definition=definition, updated_at=now)
            await _insert_version(connection, after)
            await connection.execute(update(agents).where(agents.c.id == agent_id).values(version=after.version))
            return after

        return await self._database.write(work, self._put)

    async def archive(self, agent_id: str) -> Agent:
        """See `AgentAdmin.archive`."""
        now = self._clock.now()

        async def work(connection: AsyncConnection) -> Agent:
            before = self.read(agent_id)
            if before.archived_at is not None:
                return before
            await connection.execute(update(agents).where(agents.c.id == agent_id).values(archived_at=now))
            return replace(before, archived_at=now)

        return await self._database.write(work, self._put)

    def _put(self, agent: Agent) -> None:
        if agent == self._snapshot.agents.get(agent.id):
            return
        self._snapshot.put_agent(agent)
        self._notify(AgentChanged(agent.id))


def _select_versions() -> Any:
    return select(
        agents.c.id,
        agents.c.created_at,
        agents.c.archived_at,
        agent_versions.c.version,
        agent_versions.c.created_at.label("updated_at"),
        agent_versions.c.definition,
    ).join_from(agents, agent_versions)


async def _insert_version(connection: AsyncConnection, agent: Agent) -> None:
    row = {"agent_id": agent.id, "version": agent.version, "created_at": agent.updated_at}
    try:
        definition = msgspec.to_builtins(agent.definition)
        await connection.execute(insert(agent_versions).values(**row, definition=definition))
    except IntegrityError as error:
        raise _conflict() from error


def _from_row(row: Row[Any]) -> Agent:
    definition = msgspec.convert(row.definition, Definition)
    return Agent(row.id, row.version, definition, row.created_at, row.updated_at, row.archived_at)


def _conflict() -> Error:
    return Error(
        "version_conflict",
        "the agent has changed in the meantime",
        hint="read it again, and send the version that you read",
    )
