"""/v1/keys: API keys and registration tokens. The official API has no such path; a key's text is shown once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.routing import Route

from arrowslit.agent import AgentAdmin
from arrowslit.agents.api.pages import PageQuery, Position, page
from arrowslit.agents.api.reading import check_label, read_body, read_query
from arrowslit.agents.api.resource import Doorkeeper
from arrowslit.agents.api.schema import KeyBody, Nothing
from arrowslit.clock import Clock, rfc3339
from arrowslit.errors import Error
from arrowslit.principal import ApiKey, KeyAdmin, Scope, check_tenant
from arrowslit.tunnel import Registration


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
            keeper.resource("/v1/keys", get=self.list, post=self.create),
            keeper.resource("/v1/keys/{key_id}", get=self.retrieve, delete=self.revoke),
        ]

    async def create(self, request: Request) -> object:
        """Make a key, and show it this once."""
        body = await read_body(request, KeyBody)
        expires_at = None if body.expires_at is None else body.expires_at.timestamp()
        if expires_at is not None and expires_at <= self.clock.now():
            raise Error("validation_error", "expires_at has passed", hint="name a time in the future")
        name = check_label(body.name, "name")
        if body.register is not None:
            if body.agents or body.tenant is not None or body.scopes is not None:
                raise Error("validation_error", "a registration token has no agents, tenant or scopes")
            registration, text = await self.keys.create_registration(body.register, expires_at=expires_at, name=name)
            return {**_show(registration), "key": text}
        key, text = await self.keys.create(
            scopes=_scopes(body),
            agents={self._invocable(each) for each in body.agents},
            tenant=None if body.tenant is None else check_tenant(body.tenant),
            expires_at=expires_at,
            name=name,
        )
        return {**_show(key), "key": text}

    async def retrieve(self, request: Request) -> object:
        """The key, without its text."""
        return _show(self.keys.read(_id(request)))

    async def list(self, request: Request) -> object:
        """A page of keys, without their texts."""
        query = read_query(request, KeysQuery)
        found = [key for key in self.keys.every() if query.include_revoked or key.revoked_at is None]
        return page(request, query, found, _position, _show)

    async def revoke(self, request: Request) -> object:
        """End a key now."""
        await read_body(request, Nothing)
        return _show(await self.keys.revoke(_id(request)))

    def _invocable(self, text: str) -> str:
        agent = self.agents.named(text)
        if agent.archived_at is not None:
            raise Error("archived", "one of the agents is archived", hint="name agents that can still be invoked")
        return agent.id


def _scopes(body: KeyBody) -> frozenset[Scope]:
    scopes = frozenset([Scope.INVOKE] if body.scopes is None else body.scopes)
    if not scopes or (Scope.INVOKE in scopes and not body.agents):
        raise Error("validation_error", "a key names the agents it may invoke", hint='send "agents": ["ID or name"]')
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
    }


def _id(request: Request) -> str:
    return str(request.path_params["key_id"])


def _position(key: ApiKey | Registration) -> Position:
    return key.created_at, key.id
