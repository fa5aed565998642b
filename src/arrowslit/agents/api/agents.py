"""/v1/agents: official shapes for what there is so far, and the short form of the article."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from msgspec import UNSET, Meta, field
from starlette.requests import Request
from starlette.routing import Route

from arrowslit.agent import Agent, AgentAdmin, Definition
from arrowslit.agents.api.definitions import Definitions, show
from arrowslit.agents.api.pages import ArchivableQuery, PageQuery, Position, page
from arrowslit.agents.api.reading import read_body, read_query
from arrowslit.agents.api.resource import INVOKERS, Doorkeeper, Method, principal
from arrowslit.agents.api.schema import AgentBody, AgentUpdateBody, Moment, Nothing, Strict, end_of, start_of
from arrowslit.errors import Error
from arrowslit.pin import Pins

NO_MODEL: Mapping[str, object] = {"id": "none", "speed": "standard"}
"""For an agent that is only a set of rights for MCP clients, and thinks nothing itself."""


NAMED = ("tunnel_not_found", "environment_not_found")
"""What a definition may name that is not there."""


class AgentQuery(Strict):
    """GET /v1/agents/{id}."""

    version: Annotated[int, Meta(ge=1, le=999_999_999)] | None = None


class VersionsQuery(PageQuery):
    """GET /v1/agents/{id}/versions."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 20


class AgentsQuery(ArchivableQuery):
    """GET /v1/agents."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    since: Moment | None = field(default=None, name="created_at[gte]")
    until: Moment | None = field(default=None, name="created_at[lte]")

    def wants(self, agent: Agent) -> bool:
        """Whether the filters leave it in the list."""
        since, until = start_of(self.since), end_of(self.until)
        if (since is not None and agent.created_at < since) or (until is not None and agent.created_at > until):
            return False
        return self.include_archived or agent.archived_at is None


@dataclass(frozen=True, slots=True)
class AgentsApi:
    """The handlers."""

    agents: AgentAdmin
    definitions: Definitions
    pins: Pins

    def routes(self, keeper: Doorkeeper) -> list[Route]:
        """The paths of this resource."""
        one = "/v1/agents/{agent_id}"
        return [
            keeper.resource(
                "/v1/agents",
                get=Method(self.list, INVOKERS, query=AgentsQuery, answer="AgentPage"),
                post=Method(self.create, body=AgentBody, answer="Agent", errors=NAMED),
            ),
            keeper.resource(
                one,
                get=Method(self.retrieve, INVOKERS, query=AgentQuery, answer="Agent", errors=("agent_not_found",)),
                post=Method(
                    self.update,
                    body=AgentUpdateBody,
                    answer="Agent",
                    errors=("agent_not_found", "version_conflict", *NAMED),
                ),
            ),
            keeper.resource(
                f"{one}/archive", post=Method(self.archive, body=Nothing, answer="Agent", errors=("agent_not_found",))
            ),
            keeper.resource(
                f"{one}/versions",
                get=Method(
                    self.versions, INVOKERS, query=VersionsQuery, answer="AgentPage", errors=("agent_not_found",)
                ),
            ),
        ]

    async def create(self, request: Request) -> object:
        """Make an agent, version 1."""
        body = await read_body(request, AgentBody)
        if body.name is UNSET:
            raise Error("validation_error", "an agent needs a name", hint='send "name": …')
        return self._show(await self.agents.create(self.definitions.revised(body, Definition(body.name, NO_MODEL))))

    async def retrieve(self, request: Request) -> object:
        """The agent, as it is now or as `version` was."""
        agent = self.agents.read(_own(request))
        version = read_query(request, AgentQuery).version
        if version is None:
            return self._show(agent)
        for each in await self.agents.versions(agent.id):
            if each.version == version:
                return self._show(each)
        raise Error("agent_not_found", "the agent has no such version", hint="see the list of its versions")

    async def update(self, request: Request) -> object:
        """Make a new version, if something changed. The body is read once more against what is there by then."""
        body = await read_body(request, AgentUpdateBody)
        version = None if body.version is UNSET else body.version
        return self._show(
            await self.agents.update(
                _id(request), lambda before: self.definitions.revised(body, before), version=version
            )
        )

    async def list(self, request: Request) -> object:
        """A page of the agents that the caller may invoke."""
        query = read_query(request, AgentsQuery)
        may_invoke = principal(request).may_invoke
        found = [agent for agent in self.agents.every() if may_invoke(agent.id) and query.wants(agent)]
        return page(request, query, found, _position, self._show)

    async def archive(self, request: Request) -> object:
        """End an agent for good."""
        await read_body(request, Nothing)
        return self._show(await self.agents.archive(_id(request)))

    async def versions(self, request: Request) -> object:
        """A page of the agent's versions."""
        found = await self.agents.versions(_own(request))
        return page(request, read_query(request, VersionsQuery), found, _version_position, self._show)

    def _show(self, agent: Agent) -> Mapping[str, object]:
        return show(agent, self.pins.of(agent.id))


def _id(request: Request) -> str:
    return str(request.path_params["agent_id"])


def _own(request: Request) -> str:
    """The id in the path, or one that no agent has if the caller may not invoke it: so nobody tells them apart."""
    return _id(request) if principal(request).may_invoke(_id(request)) else "agent_"


def _position(agent: Agent) -> Position:
    return agent.created_at, agent.id


def _version_position(agent: Agent) -> Position:
    return float(agent.version), agent.id
