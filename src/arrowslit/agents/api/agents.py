"""/v1/agents: official shapes for what there is so far, and the short form of the article."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import Annotated, TypeVar

from msgspec import UNSET, Meta, UnsetType, field
from starlette.requests import Request
from starlette.routing import Route

from arrowslit.agent import Agent, AgentAdmin, Definition
from arrowslit.agents.api.pages import ArchivableQuery, PageQuery, Position, page
from arrowslit.agents.api.reading import check_label, read_body, read_query
from arrowslit.agents.api.resource import Doorkeeper
from arrowslit.agents.api.schema import AgentBody, AgentUpdateBody, ModelBody, Moment, Nothing, Strict
from arrowslit.agents.api.toolsets import Reader, show_server, show_toolset
from arrowslit.clock import rfc3339
from arrowslit.errors import Error

T = TypeVar("T")

NO_MODEL: Mapping[str, object] = {"id": "none", "speed": "standard"}
"""For an agent that is only a set of rights for MCP clients, and thinks nothing itself."""


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
        since = -inf if self.since is None else self.since.timestamp()
        until = inf if self.until is None else self.until.timestamp()
        return (self.include_archived or agent.archived_at is None) and since <= agent.created_at <= until


@dataclass(frozen=True, slots=True)
class AgentsApi:
    """The handlers."""

    agents: AgentAdmin
    reader: Reader

    def routes(self, keeper: Doorkeeper) -> list[Route]:
        """The paths of this resource."""
        one = "/v1/agents/{agent_id}"
        return [
            keeper.resource("/v1/agents", get=self.list, post=self.create),
            keeper.resource(one, get=self.retrieve, post=self.update),
            keeper.resource(f"{one}/archive", post=self.archive),
            keeper.resource(f"{one}/versions", get=self.versions),
        ]

    async def create(self, request: Request) -> object:
        """Make an agent, version 1."""
        body = await read_body(request, AgentBody)
        if body.name is UNSET:
            raise Error("validation_error", "an agent needs a name", hint='send "name": …')
        return show(await self.agents.create(self._revised(body, Definition(body.name, NO_MODEL))))

    async def retrieve(self, request: Request) -> object:
        """The agent, as it is now or as `version` was."""
        agent = self.agents.read(_id(request))
        version = read_query(request, AgentQuery).version
        if version is None:
            return show(agent)
        for each in await self.agents.versions(agent.id):
            if each.version == version:
                return show(each)
        raise Error("agent_not_found", "the agent has no such version", hint="see the list of its versions")

    async def update(self, request: Request) -> object:
        """Make a new version, if something changed. The body is read once more against what is there by then."""
        body = await read_body(request, AgentUpdateBody)
        version = None if body.version is UNSET else body.version
        return show(await self.agents.update(_id(request), lambda before: self._revised(body, before), version=version))

    async def list(self, request: Request) -> object:
        """A page of agents."""
        query = read_query(request, AgentsQuery)
        found = [agent for agent in self.agents.every() if query.wants(agent)]
        return page(request, query, found, _position, show)

    async def archive(self, request: Request) -> object:
        """End an agent for good."""
        await read_body(request, Nothing)
        return show(await self.agents.archive(_id(request)))

    async def versions(self, request: Request) -> object:
        """A page of the agent's versions."""
        found = await self.agents.versions(_id(request))
        return page(request, read_query(request, VersionsQuery), found, _version_position, show)

    def _revised(self, body: AgentBody, before: Definition) -> Definition:
        """What `before` becomes by a body: an absent field stays, null and empty ones clear."""
        _refuse_unsupported(body)
        if body.system is not UNSET and body.instructions is not UNSET:
            raise Error("validation_error", "instructions is another word for system", hint="send one of them")
        system = body.system if body.instructions is UNSET else body.instructions
        return replace(
            before,
            name=check_label(_given(body.name, before.name), "name"),
            model=before.model if body.model is UNSET else _model(body.model),
            description=_given(body.description, before.description) or None,
            system=_given(system, before.system) or None,
            metadata=_patched(before.metadata, body.metadata),
            toolsets=self.reader.toolsets(body, before.toolsets),
        )


def show(agent: Agent) -> Mapping[str, object]:
    """The official object; `warnings` is ours."""
    definition = agent.definition
    return {
        "id": agent.id,
        "type": "agent",
        "version": agent.version,
        "name": definition.name,
        "description": definition.description,
        "system": definition.system,
        "model": definition.model,
        "tools": [show_toolset(each) for each in definition.toolsets],
        "mcp_servers": [show_server(each) for each in definition.toolsets],
        "skills": [],
        "metadata": definition.metadata,
        "multiagent": None,
        "execution_identity": {"type": "service_account"},
        "created_at": rfc3339(agent.created_at),
        "updated_at": rfc3339(agent.updated_at),
        "archived_at": None if agent.archived_at is None else rfc3339(agent.archived_at),
        "warnings": [
            f"every tool of {each.server.name} is allowed, also those that it grows later"
            for each in definition.toolsets
            if each.everything
        ],
    }


def _refuse_unsupported(body: AgentBody) -> None:
    """Say so, rather than ignore what was asked for."""
    for name in ("skills", "multiagent", "sandbox"):
        if getattr(body, name):
            raise Error("not_supported", f"{name} is not supported so far", hint="leave it out")
    if body.execution_identity not in (None, {"type": "service_account"}):
        raise Error("not_supported", "agents run as the service account only", hint="leave execution_identity out")


def _model(body: str | ModelBody) -> Mapping[str, object]:
    if isinstance(body, str):
        return {"id": body, "speed": "standard"}
    model: dict[str, object] = {"id": body.id, "speed": body.speed or "standard"}
    if body.effort is not None:
        model["effort"] = {"type": body.effort if isinstance(body.effort, str) else body.effort.type}
    if body.inference_geo is not None:
        model["inference_geo"] = body.inference_geo
    return model


def _patched(before: Mapping[str, str], patch: Mapping[str, str | None] | UnsetType | None) -> Mapping[str, str]:
    """Metadata after a patch, in which null deletes. At most 16 pairs of 64 and 512 characters, as officially."""
    if not patch:
        return before if patch is UNSET or patch == {} else {}
    merged = {**before, **patch}
    kept = {name: value for name, value in merged.items() if value is not None}
    if len(kept) > 16 or any(len(name) > 64 or len(value) > 512 for name, value in kept.items()):
        raise Error("validation_error", "metadata holds at most 16 pairs, names of 64 and values of 512 characters")
    return kept


def _given(value: T | UnsetType, before: T) -> T:
    return before if isinstance(value, UnsetType) else value


def _id(request: Request) -> str:
    return str(request.path_params["agent_id"])


def _position(agent: Agent) -> Position:
    return agent.created_at, agent.id


def _version_position(agent: Agent) -> Position:
    return float(agent.version), agent.id
