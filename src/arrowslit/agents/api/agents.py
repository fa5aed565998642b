"""/v1/agents: official shapes for what there is so far, and the short form of the article."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from msgspec import UNSET, UnsetType
from starlette.requests import Request
from starlette.routing import Route

from arrowslit.agent import Agent, AgentAdmin, Definition
from arrowslit.agents.api.reading import Position, check_label, flag, moment, page, read_body, whole_number
from arrowslit.agents.api.resource import Doorkeeper
from arrowslit.agents.api.schema import AgentBody, AgentUpdateBody, ModelBody, Nothing
from arrowslit.agents.api.toolsets import Reader, show_server, show_toolset
from arrowslit.clock import rfc3339
from arrowslit.errors import Error

T = TypeVar("T")

NO_MODEL: Mapping[str, object] = {"id": "none", "speed": "standard"}
"""For an agent that is only a set of rights for MCP clients, and thinks nothing itself."""


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
        if "version" not in request.query_params:
            return show(agent)
        version = whole_number(request.query_params, "version", 1, 999_999_999)
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
        query = request.query_params
        archived = flag(query, "include_archived")
        since, until = moment(query, "created_at[gte]"), moment(query, "created_at[lte]")
        found = [
            agent
            for agent in self.agents.every()
            if (archived or agent.archived_at is None)
            and (since is None or agent.created_at >= since)
            and (until is None or agent.created_at <= until)
        ]
        return page(query, found, _position, show, 100)

    async def archive(self, request: Request) -> object:
        """End an agent for good."""
        await read_body(request, Nothing)
        return show(await self.agents.archive(_id(request)))

    async def versions(self, request: Request) -> object:
        """A page of the agent's versions."""
        found = await self.agents.versions(_id(request))
        return page(request.query_params, found, _version_position, show, 100)

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
