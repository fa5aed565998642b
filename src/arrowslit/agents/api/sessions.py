"""/v1/sessions: conversations with agents, in the official shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from msgspec import UnsetType
from starlette.requests import Request
from starlette.routing import Route

from arrowslit.agent import Agent, AgentAdmin
from arrowslit.agents.api.definitions import snapshot
from arrowslit.agents.api.narrowing import narrowed
from arrowslit.agents.api.pages import page_of, window
from arrowslit.agents.api.reading import check_label, patched, read_body, read_query
from arrowslit.agents.api.resource import INVOKERS, WORKERS, Doorkeeper, Method, caller, principal
from arrowslit.agents.api.schema import NarrowerBody, Nothing, end_of, start_of
from arrowslit.agents.api.sending import as_sent
from arrowslit.agents.api.session_shapes import (
    AgentReference,
    AgentWithOverrides,
    SessionBody,
    SessionsQuery,
    SessionUpdateBody,
    refuse_unsupported,
)
from arrowslit.agents.api.visible import present, visible
from arrowslit.agents.sessions import inbox
from arrowslit.agents.sessions.change import Change, Draft
from arrowslit.agents.sessions.log import Log
from arrowslit.agents.sessions.state import State
from arrowslit.clock import Clock, rfc3339
from arrowslit.environment import Environments
from arrowslit.errors import Error
from arrowslit.ids import RandomBytes, new_id
from arrowslit.principal import Principal, Scope
from arrowslit.session import Session, SessionFilter, SessionStatus


@dataclass(frozen=True, slots=True)
class SessionsApi:
    """The handlers."""

    log: Log
    agents: AgentAdmin
    environments: Environments
    clock: Clock
    random: RandomBytes

    def routes(self, keeper: Doorkeeper) -> list[Route]:
        """The paths of this resource."""
        one = "/v1/sessions/{session_id}"
        missing = ("session_not_found",)
        create = Method(
            self.create,
            INVOKERS,
            body=SessionBody,
            answer="Session",
            errors=("agent_not_found", "archived", "environment_not_found", "environment_archived", "not_granted"),
        )
        update = Method(
            self.update,
            INVOKERS,
            body=SessionUpdateBody,
            answer="Session",
            errors=(*missing, "session_running", "session_terminated", "not_granted"),
        )
        return [
            keeper.resource(
                "/v1/sessions",
                get=Method(self.list, INVOKERS, query=SessionsQuery, answer="SessionPage", errors=("cursor_invalid",)),
                post=create,
            ),
            keeper.resource(
                one,
                get=Method(self.retrieve, INVOKERS | WORKERS, answer="Session", errors=missing),
                post=update,
                delete=Method(self.delete, INVOKERS, answer="Deleted", errors=(*missing, "session_running")),
            ),
            keeper.resource(
                f"{one}/archive",
                post=Method(
                    self.archive, INVOKERS, body=Nothing, answer="Session", errors=(*missing, "session_running")
                ),
            ),
        ]

    async def create(self, request: Request) -> object:
        """Begin a session; with `initial_events` its first turn too."""
        body = await read_body(request, SessionBody)
        refuse_unsupported(body.vault_ids, body.budget, body.resources)
        who = principal(request)
        agent = await self._agent(body.agent, who)
        definition = agent.definition
        if isinstance(body.agent, AgentWithOverrides):
            definition = narrowed(definition, body.agent)
        now = self.clock.now()
        session = Session(
            id=new_id("sesn", self.random),
            tenant=who.tenant,
            principal_id=who.id,
            agent_id=agent.id,
            agent_version=agent.version,
            definition=definition,
            environment_id=self._environment(body.environment_id or definition.default_environment),
            title=check_label(body.title, "title"),
            metadata=patched({}, body.metadata),
            created_at=now,
            updated_at=now,
        )
        if session.environment_id is None and definition.builtin is not None and definition.builtin.tools():
            raise Error(
                "validation_error",
                "this agent has tools that run in a sandbox, so its sessions need an environment",
                hint="send environment_id, or give the agent a default_environment",
            )
        sent = as_sent(body.initial_events, self.log.new_event_id)
        changed = await self.log.create(session, inbox.begin(sent, now))
        return self._show(changed.session)

    async def retrieve(self, request: Request) -> object:
        """The session as it is now."""
        present(caller(request))
        session, _ = await visible(request, self.log)
        return self._show(session)

    async def update(self, request: Request) -> object:
        """Change title or metadata, or narrow what the agent may use while it rests. What changed is an event."""
        body = await read_body(request, SessionUpdateBody)
        refuse_unsupported(body.vault_ids, body.budget)
        check_label(body.title if isinstance(body.title, str) else None, "title")
        session, _ = await visible(request, self.log)
        granted = None if isinstance(body.agent, UnsetType) else await self._version(session.agent_id, session)

        def decide(session: Session, state: State) -> Change | None:
            return _updated(session, state, body, granted)

        return self._show((await self.log.change(session.id, decide)).session)

    async def list(self, request: Request) -> object:
        """A page of the caller's sessions, newest first unless asked otherwise."""
        query = read_query(request, SessionsQuery)
        if query.deployment_id is not None or query.memory_store_id is not None:
            raise Error("not_supported", "there are no deployments and no memory stores here", hint="leave it out")
        if query.agent_version is not None and query.agent_id is None:
            raise Error("validation_error", "agent_version is nothing without agent_id", hint="send both")
        who, part = principal(request), window(request, query)
        which = SessionFilter(
            tenant=who.tenant,
            agents=None if Scope.ADMIN in who.scopes else who.agents,
            agent_id=query.agent_id,
            agent_version=query.agent_version,
            statuses=query.statuses,
            created_after=end_of(query.after),
            created_since=start_of(query.since),
            created_before=start_of(query.before),
            created_until=end_of(query.until),
            include_archived=query.include_archived,
            oldest_first=query.order == "asc",
            position=part.position,
            backwards=part.backwards,
            limit=part.limit + 1,
        )
        found = await self.log.sessions.list(which)
        return page_of(request, part, found, lambda each: (each.created_at, each.id), self._show, both_ways=True)

    async def archive(self, request: Request) -> object:
        """End a session for good; it can still be read. Again: the same answer."""
        await read_body(request, Nothing)
        session, _ = await visible(request, self.log)
        now = self.clock.now()

        def decide(_: Session, state: State) -> Change | None:
            change = inbox.end(state)
            return change and replace(change, revise=lambda session: replace(session, archived_at=now))

        return self._show((await self.log.change(session.id, decide)).session)

    async def delete(self, request: Request) -> object:
        """Forget a session and its events."""
        await read_body(request, Nothing)
        session, _ = await visible(request, self.log)
        await self.log.delete(session.id)
        return {"id": session.id, "type": "session_deleted"}

    async def _agent(self, asked: str | AgentReference | AgentWithOverrides, who: Principal) -> Agent:
        """The agent that a session begins with. One that the caller may not invoke does not exist for it."""
        unknown = Error("agent_not_found", "there is no such agent, or not in this version", hint="check its id")
        agent_id, version = (asked, None) if isinstance(asked, str) else (asked.id, asked.version)
        try:
            agent = self.agents.read(agent_id)
        except Error as error:
            raise unknown from error
        if not who.may_invoke(agent.id):
            raise unknown
        if agent.archived_at is not None:
            raise Error("archived", "the agent is archived, and begins no new sessions", hint="use another agent")
        if version is None or version == agent.version:
            return agent
        for each in await self.agents.versions(agent.id):
            if each.version == version:
                return each
        raise unknown

    async def _version(self, agent_id: str, session: Session) -> Agent:
        """The agent in the version of the session: what it was granted."""
        every = await self.agents.versions(agent_id)
        return next(each for each in every if each.version == session.agent_version)

    def _environment(self, named: str | None) -> str | None:
        if named is None:
            return None
        environment = self.environments.named(named)
        if environment.archived_at is not None:
            raise Error("environment_archived", "the environment is archived", hint="name another one")
        return environment.id

    def _show(self, session: Session) -> Mapping[str, object]:
        return show(session, self.clock.now())


def show(session: Session, now: float) -> Mapping[str, object]:
    """The official object."""
    usage, ended = session.usage, session.status is SessionStatus.TERMINATED
    return {
        "id": session.id,
        "type": "session",
        "status": session.status.value,
        "agent": snapshot(session.definition, session.agent_id, session.agent_version),
        "environment_id": session.environment_id,
        "title": session.title,
        "metadata": session.metadata,
        "resources": [],
        "vault_ids": [],
        "outcome_evaluations": [],
        "stats": {
            "active_seconds": round(usage.active_seconds, 3),
            "duration_seconds": round(max(0.0, (session.updated_at if ended else now) - session.created_at), 3),
        },
        "usage": {
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "cache_read_input_tokens": usage.cache_read_input_tokens,
            "cache_creation": {
                "ephemeral_5m_input_tokens": usage.cache_creation_input_tokens,  # the only kind that we ask for
                "ephemeral_1h_input_tokens": 0,
            },
            "active_seconds": round(usage.active_seconds, 3),
            "list_cost": None,
            "server_tool_use": None,
        },
        "budget": None,
        "deployment_id": None,
        "created_at": rfc3339(session.created_at),
        "updated_at": rfc3339(session.updated_at),
        "archived_at": None if session.archived_at is None else rfc3339(session.archived_at),
    }


def _updated(session: Session, state: State, body: SessionUpdateBody, granted: Agent | None) -> Change | None:
    """The change that `body` asks for, None if all is as it says already. `granted` is None if it names no agent."""
    if session.status is SessionStatus.TERMINATED:
        raise Error("session_terminated", "the session is over", hint="create a new one")
    revised = session
    if not isinstance(body.title, UnsetType):
        revised = replace(revised, title=body.title)
    if not isinstance(body.metadata, UnsetType):
        revised = replace(revised, metadata=patched(session.metadata, body.metadata))
    if granted is not None and not isinstance(body.agent, UnsetType):
        if state.turn is not None:
            raise Error("session_running", "the tools of a session stay as they are during a turn", hint="interrupt it")
        narrower = NarrowerBody(tools=body.agent.tools, mcp_servers=body.agent.mcp_servers)
        revised = replace(revised, definition=narrowed(granted.definition, narrower, session.definition))
    changes: dict[str, object] = {}
    if revised.title != session.title:
        changes["title"] = revised.title
    if revised.metadata != session.metadata:
        changes["metadata"] = revised.metadata
    if revised.definition != session.definition:
        changes["agent"] = snapshot(revised.definition, session.agent_id, session.agent_version)
    if not changes:
        return None
    return Change((Draft("session.updated", changes),), revise=lambda _: revised)
