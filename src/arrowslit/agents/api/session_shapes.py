"""The shapes of requests to /v1/sessions, official ones."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType, field

from arrowslit.agents.api.pages import ArchivableQuery
from arrowslit.agents.api.schema import Label, Moment, NarrowerBody, Strict, Tools, UrlServer
from arrowslit.agents.api.sending import Events
from arrowslit.errors import Error
from arrowslit.session import SessionStatus

Title = Annotated[str, Meta(max_length=500)]
Version = Annotated[int, Meta(ge=1, le=999_999_999)]


class AgentReference(Strict, tag="agent"):
    """An agent in one of its versions, the latest where none is named."""

    id: Label
    version: Version | None = None


class AgentWithOverrides(NarrowerBody, tag="agent_with_overrides", kw_only=True):
    """An agent as this session alone has it."""

    id: Label
    version: Version | None = None


class SessionBody(Strict, kw_only=True):
    """POST /v1/sessions. Without `environment_id` it is the agent's default one, which is ours."""

    agent: Label | AgentReference | AgentWithOverrides
    environment_id: Label | None = None
    initial_events: Events = field(default_factory=list)
    title: Title | None = None
    metadata: dict[str, str | None] | None = None
    # official, and not there: refused unless empty
    vault_ids: list[object] | None = None
    resources: list[object] | None = None
    budget: object = None


class AgentUpdate(Strict):
    """What can change of a session's agent. Each replaces the whole."""

    tools: Tools | UnsetType | None = UNSET
    mcp_servers: Annotated[list[UrlServer], Meta(max_length=20)] | UnsetType | None = UNSET


class SessionUpdateBody(Strict):
    """POST /v1/sessions/{id}."""

    title: Title | UnsetType | None = UNSET
    metadata: dict[str, str | None] | UnsetType | None = UNSET
    agent: AgentUpdate | UnsetType = UNSET
    vault_ids: object = None
    budget: object = None


class SessionsQuery(ArchivableQuery):
    """GET /v1/sessions."""

    agent_id: str | None = None
    agent_version: Version | None = None
    statuses: list[SessionStatus] = field(default_factory=list, name="statuses[]")
    after: Moment | None = field(default=None, name="created_at[gt]")
    since: Moment | None = field(default=None, name="created_at[gte]")
    before: Moment | None = field(default=None, name="created_at[lt]")
    until: Moment | None = field(default=None, name="created_at[lte]")
    order: Literal["asc", "desc"] = "desc"
    deployment_id: str | None = None
    memory_store_id: str | None = None


def refuse_unsupported(vault_ids: object, budget: object, resources: object = None) -> None:
    """Say so, rather than ignore what was asked for. Null asks for nothing, nor does a list with nothing in it."""
    lists = {name: value for name, value in (("vault_ids", vault_ids), ("resources", resources)) if value != []}
    for name, value in {**lists, "budget": budget}.items():
        if value is not None:
            raise Error("not_supported", f"{name} is not supported", hint="leave it out")
