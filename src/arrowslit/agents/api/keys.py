"""/v1/keys: API keys and registration tokens. The official API has no such path; a key's text is shown once.

An administrator makes, sees and ends all of them. A key with the scope `mint` makes short-lived ones and sees and ends
those; any other key is for it one that does not exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.routing import Route

from arrowslit.agent import Agent, AgentAdmin
from arrowslit.agents.api.minting import Order, mintable, no_such_agent
from arrowslit.agents.api.pages import PageQuery, Position, page
from arrowslit.agents.api.reading import check_label, read_body, read_query
from arrowslit.agents.api.resource import Doorkeeper, Method, OpenTo, principal
from arrowslit.agents.api.schema import KeyBody, Nothing
from arrowslit.clock import Clock, rfc3339
from arrowslit.errors import Error
from arrowslit.principal import ApiKey, KeyAdmin, Principal, Scope, check_tenant, no_such_key
from arrowslit.tunnel import Registration

MINTERS: OpenTo = frozenset({Scope.MINT})


class KeysQuery(PageQuery):
    """GET /v1/keys."""

    include_revoked: bool = False


@dataclass(frozen=True, slots=True)
class KeysApi:
    """The handlers."""

    keys: KeyAdmin
    agents: AgentAdmin
    clock: Clock

    def routes(self, keeper: Doorkeeper) -> list[Route]:
        """The paths of this resource."""
        return [
            keeper.resource(
                "/v1/keys",
                get=Method(self.list, query=KeysQuery, answer="KeyPage"),
                post=Method(self.create, MINTERS, body=KeyBody, answer="NewKey", errors=("agent_not_found",)),
            ),
            keeper.resource(
                "/v1/keys/{key_id}",
                get=Method(self.retrieve, MINTERS, answer="Key", errors=("key_not_found",)),
                delete=Method(self.revoke, MINTERS, body=Nothing, answer="Key", errors=("key_not_found",)),
            ),
        ]

    async def create(self, request: Request) -> object:
        """Make a key, and show it this once."""
        who = principal(request)
        body = await read_body(request, KeyBody)
        expires_at = None if body.expires_at is None else body.expires_at.timestamp()
        if expires_at is not None and expires_at <= self.clock.now():
            raise Error("validation_error", "expires_at has passed", hint="name a time in the future")
        name = check_label(body.name, "name")
        if body.register is not None:
            if Scope.ADMIN not in who.scopes:
                raise Error("forbidden", "a registration token is made by an administrator", hint="leave register out")
            if body.agents or body.tenant is not None or body.scopes is not None:
                raise Error("validation_error", "a registration token has no agents, tenant or scopes")
            registration, text = await self.keys.create_registration(body.register, expires_at=expires_at, name=name)
            return {**_show(registration), "key": text}
        order = Order(
            scopes=_scopes(body),
            agents=frozenset(self._invocable(each, who) for each in body.agents),
            tenant=None if body.tenant is None else check_tenant(body.tenant),
            expires_at=expires_at,
        )
        minted_by = None
        if Scope.ADMIN not in who.scopes:
            order, minted_by = mintable(who, order, self.clock.now()), who.id
        key, text = await self.keys.create(
            scopes=order.scopes,
            agents=order.agents,
            tenant=order.tenant,
            expires_at=order.expires_at,
            name=name,
            minted_by=minted_by,
        )
        return {**_show(key), "key": text}

    async def retrieve(self, request: Request) -> object:
        """The key, without its text."""
        return _show(self._visible(request))

    async def list(self, request: Request) -> object:
        """A page of keys, without their texts."""
        query = read_query(request, KeysQuery)
        found = [key for key in self.keys.every() if query.include_revoked or key.revoked_at is None]
        return page(request, query, found, _position, _show)

    async def revoke(self, request: Request) -> object:
        """End a key now, and those that it minted."""
        await read_body(request, Nothing)
        return _show(await self.keys.revoke(self._visible(request).id))

    def _visible(self, request: Request) -> ApiKey | Registration:
        """The key that the path names, if the caller may know that there is one."""
        who, key = principal(request), self.keys.read(str(request.path_params["key_id"]))
        if Scope.ADMIN in who.scopes or (isinstance(key, ApiKey) and key.minted_by == who.id):
            return key
        raise no_such_key()

    def _invocable(self, text: str, who: Principal) -> str:
        """The id of an agent that is named by name or id."""
        agent = self.agents.named(text) if Scope.ADMIN in who.scopes else self._own(text, who)
        if agent.archived_at is not None:
            raise Error("archived", "one of the agents is archived", hint="name agents that can still be invoked")
        return agent.id

    def _own(self, text: str, who: Principal) -> Agent:
        """That agent, looked for among the caller's own, for whoever mints learns of no others."""
        own = [self.agents.read(each) for each in sorted(who.agents)]
        named = [each for each in own if text in (each.id, each.definition.name)]
        found = [each for each in named if each.archived_at is None] or named
        if not found:
            raise no_such_agent()
        if len(found) > 1:
            raise Error("validation_error", "several agents have that name", hint="name the agent by its id")
        return found[0]


def _scopes(body: KeyBody) -> frozenset[Scope]:
    scopes = frozenset([Scope.INVOKE] if body.scopes is None else body.scopes)
    if not scopes or (Scope.INVOKE in scopes and not body.agents):
        raise Error("validation_error", "a key names the agents it may invoke", hint='send "agents": ["ID or name"]')
    if Scope.CONFIRM in scopes and not scopes & {Scope.INVOKE, Scope.ADMIN}:
        raise Error(
            "validation_error",
            "a key that confirms has to see the sessions of its agents, so it invokes them too",
            hint='send "scopes": ["invoke", "confirm"] and "agents"',
        )
    if scopes == {Scope.MINT}:
        raise Error(
            "validation_error",
            "a key that mints hands on the scopes that it holds itself, and this one would hold no other",
            hint='send "scopes": ["mint", "invoke"], with "confirm" where its keys may answer confirmations',
        )
    return scopes


def _show(key: ApiKey | Registration) -> Mapping[str, object]:
    common = {
        "id": key.id,
        "name": key.name,
        "last_four": key.last_four,
        "created_at": rfc3339(key.created_at),
        "expires_at": None if key.expires_at is None else rfc3339(key.expires_at),
        "revoked_at": None if key.revoked_at is None else rfc3339(key.revoked_at),
    }
    if isinstance(key, Registration):
        return {**common, "type": "registration_token", "register": key.pattern}
    return {
        **common,
        "type": "api_key",
        "scopes": sorted(key.scopes),
        "agents": sorted(key.agents),
        "tenant": key.tenant,
        "minted_by": key.minted_by,
    }


def _position(key: ApiKey | Registration) -> Position:
    return key.created_at, key.id
